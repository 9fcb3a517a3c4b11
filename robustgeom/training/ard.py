"""Adversarially robust distillation: attacked, the student says what the teacher says of the clean input."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustgeom.threat import ThreatModel
from robustgeom.training._door import shares, sizes, temperatures
from robustgeom.training._terms import Teacher, gradient_match, softened, still
from robustgeom.training._worst import pgd_in_eval

__all__ = ["ard"]


def ard(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    teacher: Teacher,
    threat: ThreatModel,
    generator: Generator,
    temperature: float = 30.0,
    hard: float = 0.0,
    steps: int = 10,
    step_size: float | None = None,
    igdm: float = 0.0,
) -> Tensor:
    """Return the divergence of attacked predictions from the teacher's clean ones (Goldblum et al. 2020, ARD).

    (1 - hard) T^2 KL(t(x) / T, s(x') / T) + hard CE(s(x), y) in nats, a mean over rows, with x' PGD's worst inputs by
    the student's cross-entropy, found in eval mode; T is the temperature. inputs: (n, ...); labels: (n,); teacher:
    inputs to logits; threat: linf, l2 or l1. `step_size` is in the input's units, 2.5 eps / steps by default; `igdm`
    weighs `gradient_match`. Attacked and then clean inputs, where hard > 0, pass in train mode. Raises `InputError` on
    what PGD refuses, and unless temperature > 0 and 0 <= hard <= 1. Published as arXiv:1905.09747.

    >>> import torch
    >>> data, threat = (torch.rand(4, 2), torch.zeros(4, dtype=torch.long)), ThreatModel("linf", 0.1)
    >>> student, teacher = nn.Linear(2, 3), nn.Linear(2, 3)
    >>> ard(student, *data, teacher=teacher, threat=threat, generator=Generator()).shape
    torch.Size([])
    """
    temperatures(temperature=temperature)
    shares(hard=hard)
    sizes(igdm=igdm)
    worst = pgd_in_eval(
        model, inputs, labels, threat=threat, steps=steps, step_size=step_size, generator=generator
    )
    attacked = model(worst)
    loss = (1 - hard) * softened(still(teacher, inputs), attacked, temperature).mean()
    if igdm:
        loss = loss + igdm * gradient_match(teacher, model, inputs, worst, attacked).mean()
    return loss + hard * F.cross_entropy(model(inputs), labels) if hard else loss
