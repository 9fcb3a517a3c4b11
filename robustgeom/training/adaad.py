"""Adaptive adversarial distillation: teacher and student are asked of the same attacked input."""

from __future__ import annotations

from torch import Generator, Tensor, nn

from robustgeom.threat import ThreatModel
from robustgeom.training._door import admit, counts, shares, sizes
from robustgeom.training._terms import Teacher, divergence, gradient_match, still
from robustgeom.training._worst import climb, in_eval

__all__ = ["adaad"]


def adaad(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    teacher: Teacher,
    threat: ThreatModel,
    generator: Generator,
    weight: float = 1.0,
    steps: int = 10,
    step_size: float | None = None,
    igdm: float = 0.0,
) -> Tensor:
    """Return the divergence of predictions from the teacher's where the two differ most (Huang et al. 2023, AdaAD).

    weight KL(t(x'), s(x')) + (1 - weight) KL(t(x), s(x)) in nats, a mean over rows, with x' found in eval mode by
    climbing KL(t(x'), s(x')) through both networks; no label is used. inputs: (n, ...); labels: (n,); teacher: inputs
    to logits, differentiable; threat: linf or l2. `step_size` is in the input's units, 2.5 eps / steps by default;
    `igdm` weighs `gradient_match`. Attacked and then clean inputs, where weight < 1, pass in train mode. Raises
    `InputError` on other norms, inputs outside the domain, and bad settings.

    >>> import torch
    >>> data, threat = (torch.rand(4, 2), torch.zeros(4, dtype=torch.long)), ThreatModel("linf", 0.1)
    >>> student, teacher = nn.Linear(2, 3), nn.Linear(2, 3)
    >>> adaad(student, *data, teacher=teacher, threat=threat, generator=Generator()).shape
    torch.Size([])
    """
    admit(inputs, labels, threat, "linf", "l2")
    counts(steps=steps)
    shares(weight=weight)
    sizes(igdm=igdm)
    with in_eval(model):
        worst = climb(
            lambda x: divergence(teacher(x), model(x)).sum(),
            inputs,
            threat,
            steps=steps,
            step_size=step_size,
            generator=generator,
        )
    attacked = model(worst)
    loss = weight * divergence(still(teacher, worst), attacked).mean()
    if weight < 1:
        loss = loss + (1 - weight) * divergence(still(teacher, inputs), model(inputs)).mean()
    if igdm:
        loss = loss + igdm * gradient_match(teacher, model, inputs, worst, attacked).mean()
    return loss
