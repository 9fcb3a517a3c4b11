"""Introspective distillation: the student trusts its teacher where the teacher withstands the attack."""

from __future__ import annotations

from torch import Generator, Tensor, nn

from robustgeom.threat import ThreatModel
from robustgeom.training._door import sizes
from robustgeom.training._terms import Teacher, divergence, still
from robustgeom.training._worst import pgd_in_eval

__all__ = ["iad"]


def iad(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    teacher: Teacher,
    threat: ThreatModel,
    generator: Generator,
    power: float = 0.1,
    gated: bool = False,
    steps: int = 10,
    step_size: float | None = None,
) -> Tensor:
    """Return the divergence of attacked predictions from the teacher's and from the student's own (Zhu et al. 2022).

    KL(t(x), s(x')) + (1 - g) KL(s(x), s(x')) in nats, a mean over rows: g is the probability that the teacher gives the
    label under attack, to the `power`, and with `gated` weighs the first term too. x' are PGD's worst inputs by the
    student's cross-entropy, found in eval mode; the authors begin with g = 1 and let it go after 60 of 200 epochs.
    inputs: (n, ...); labels: (n,); teacher: inputs to logits; threat: linf, l2 or l1. `step_size` is in the input's
    units, 2.5 eps / steps by default. The clean and then the attacked batch pass in train mode. Raises `InputError` on
    what PGD refuses, and on power < 0. IAD-I of arXiv:2106.04928.

    >>> import torch
    >>> data, threat = (torch.rand(4, 2), torch.zeros(4, dtype=torch.long)), ThreatModel("linf", 0.1)
    >>> student, teacher = nn.Linear(2, 3), nn.Linear(2, 3)
    >>> iad(student, *data, teacher=teacher, threat=threat, generator=Generator()).shape
    torch.Size([])
    """
    sizes(power=power)
    worst = pgd_in_eval(
        model, inputs, labels, threat=threat, steps=steps, step_size=step_size, generator=generator
    )
    clean, attacked = model(inputs), model(worst)
    trust = still(teacher, worst).softmax(1).gather(1, labels[:, None]).squeeze(1) ** power
    taught = divergence(still(teacher, inputs), attacked)
    return (taught * (trust if gated else 1.0) + (1 - trust) * divergence(clean, attacked)).mean()
