"""Robust soft labels: the teacher's clean prediction is what the attack climbs away from, and all that is learned."""

from __future__ import annotations

from torch import Generator, Tensor, nn

from robustgeom.threat import ThreatModel
from robustgeom.training._door import admit, counts, shares, sizes
from robustgeom.training._terms import Teacher, divergence, gradient_match, still
from robustgeom.training._worst import climb, in_eval

__all__ = ["rslad"]


def rslad(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    teacher: Teacher,
    threat: ThreatModel,
    generator: Generator,
    weight: float = 0.8333,
    steps: int = 10,
    step_size: float | None = None,
    igdm: float = 0.0,
) -> Tensor:
    """Return the divergence of attacked and clean predictions from the teacher's clean ones (Zi et al. 2021, RSLAD).

    weight KL(t(x), s(x')) + (1 - weight) KL(t(x), s(x)) in nats, a mean over rows, with x' found in eval mode by
    climbing KL(t(x), s(x')); no label is used. inputs: (n, ...); labels: (n,); teacher: inputs to logits; threat: linf
    or l2. `step_size` is in the input's units, 2.5 eps / steps by default; `igdm` weighs `gradient_match`. The clean
    and then the attacked batch pass in train mode. Raises `InputError` on other norms, inputs outside the domain, and
    bad settings. Published as arXiv:2108.07969.

    >>> import torch
    >>> data, threat = (torch.rand(4, 2), torch.zeros(4, dtype=torch.long)), ThreatModel("linf", 0.1)
    >>> student, teacher = nn.Linear(2, 3), nn.Linear(2, 3)
    >>> rslad(student, *data, teacher=teacher, threat=threat, generator=Generator()).shape
    torch.Size([])
    """
    admit(inputs, labels, threat, "linf", "l2")
    counts(steps=steps)
    shares(weight=weight)
    sizes(igdm=igdm)
    told = still(teacher, inputs)
    with in_eval(model):
        worst = climb(
            lambda x: divergence(told, model(x)).sum(),
            inputs,
            threat,
            steps=steps,
            step_size=step_size,
            generator=generator,
        )
    clean, attacked = model(inputs), model(worst)
    loss = (weight * divergence(told, attacked) + (1 - weight) * divergence(told, clean)).mean()
    if igdm:
        loss = loss + igdm * gradient_match(teacher, model, inputs, worst, attacked).mean()
    return loss
