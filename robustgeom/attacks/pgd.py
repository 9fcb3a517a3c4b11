"""Projected gradient descent."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustgeom.attacks._farthest import checked_size, farthest
from robustgeom.attacks._loop import Phase, Walk, Watch, search
from robustgeom.attacks._losses import Loss, find_loss
from robustgeom.attacks._oracle import Average, Model, Oracle
from robustgeom.attacks._prepare import prepare
from robustgeom.attacks._start import Randomness
from robustgeom.threat import Norm, ThreatModel, project, steepest

__all__ = ["PGD_NORMS", "pgd"]

PGD_NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")


@dataclass(frozen=True)
class _FixedStep:
    """One steepest step of constant length, 2.5 eps / steps by default, then back into the ball."""

    steps: int
    size: float | None

    def next(self, index: int, walk: Walk) -> Tensor:
        del index
        threat, x = walk.threat, walk.x
        size = 2.5 * threat.radii(x) / self.steps if self.size is None else x.new_full((1,), self.size)
        if threat.norm == "l1":
            # A step along the largest component would end at its bound: the best step inside the domain goes on.
            ball = ThreatModel("l1", size.flatten().expand(len(x)), threat.domain)
            return project(farthest(x, walk.gradient, ball), walk.origins, threat)
        return project(x + size * steepest(walk.gradient, threat.norm), walk.origins, threat)


def pgd(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    steps: int = 40,
    step_size: float | None = None,
    restarts: int = 1,
    loss: str = "ce",
    logit_scale: float = 1.0,
    eot: int = 1,
    eot_max: int | None = None,
    average: Average = "gradients",
    source: Model | None = None,
    stop_when_fooled: bool = True,
    generator: Randomness = None,
    watch: Watch | None = None,
) -> Tensor:
    """Return the worst inputs that projected gradient descent finds (Madry et al. 2018, arXiv:1706.06083).

    inputs: (n, ...) in the threat's domain; labels: (n,) classes; the result has the inputs' shape and stays
    in the threat: linf, l2 or l1. `step_size` is in the input's units, 2.5 eps / steps by
    default. `loss` is ce, dlr, margin, scaled-ce or probability-margin, of logits times `logit_scale`, which changes no
    decision and shows whether their size misleads the loss. `eot` draws are averaged at each step for a
    stochastic model, more where the direction has not settled, up to `eot_max`; `average` says whether gradients
    or logits are. `source` gives the gradients in the model's place. `generator` is one torch.Generator, or one per
    row for results that do not depend on the batch. Costs steps + 1 forward and steps backward passes a row, draw
    and restart, less for rows that are fooled early. Raises `InputError` on inputs outside the domain, NaN, labels
    that do not fit, counts below 1, step_size <= 0, logit_scale <= 0.

    >>> import torch
    >>> model = torch.nn.Linear(4, 2)
    >>> x, y = torch.rand(8, 4), torch.zeros(8, dtype=torch.long)
    >>> adversarial = pgd(model, x, y, threat=ThreatModel("linf", 0.1), steps=5)
    >>> bool((adversarial - x).abs().max() <= 0.1 + 1e-6)
    True
    """
    counts = {"steps": steps, "restarts": restarts, "eot": eot}
    inputs, labels = prepare(inputs, labels, threat, norms=PGD_NORMS, **counts)
    checked_size("step_size", step_size)
    checked_size("logit_scale", logit_scale)
    oracle, value = Oracle(model, source, eot, average), _scaled(find_loss(loss), logit_scale)
    return search(
        oracle.settled(value, (labels,), inputs, eot_max),
        value,
        inputs,
        labels,
        threat,
        [Phase(steps, lambda: _FixedStep(steps, step_size))],
        restarts=restarts,
        generator=generator,
        stop_when_fooled=stop_when_fooled,
        watch=watch,
    )


def _scaled(loss: Loss, factor: float) -> Loss:
    return loss if factor == 1 else lambda logits, labels: loss(factor * logits, labels)
