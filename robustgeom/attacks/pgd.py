"""Projected gradient descent."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from robustgeom.attacks._loop import Climb, Model, Walk, Watch, search
from robustgeom.attacks._losses import find_loss
from robustgeom.attacks._prepare import prepare
from robustgeom.attacks._start import Randomness
from robustgeom.errors import InputError
from robustgeom.threat import ThreatModel, project, steepest

__all__ = ["pgd"]


@dataclass(frozen=True)
class _FixedStep:
    """One steepest step of constant length, then back into the ball."""

    threat: ThreatModel
    size: float

    def next(self, index: int, walk: Walk) -> Tensor:
        del index
        step = self.size * steepest(walk.gradient, self.threat.norm)
        return project(walk.x + step, walk.origins, self.threat)


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
    eot: int = 1,
    source: Model | None = None,
    stop_when_fooled: bool = True,
    generator: Randomness = None,
    watch: Watch | None = None,
) -> Tensor:
    """Return the worst inputs that projected gradient descent finds (Madry et al. 2018, arXiv:1706.06083).

    inputs: (n, ...) in the threat's domain; labels: (n,) classes; the result has the inputs' shape and stays
    in the threat. `step_size` is in the input's units, 2.5 eps / steps by default. `loss` is ce or margin. `eot`
    draws are averaged at each step for a stochastic model; `source` gives the gradients in the model's place.
    `generator` is one torch.Generator, or one per row for results that do not depend on the batch. Costs
    steps + 1 forward and steps backward passes a row, draw and restart, less for rows that are fooled early.
    Raises `InputError` on inputs outside the domain, NaN, labels that do not fit, counts below 1, step_size <= 0.

    >>> import torch
    >>> model = torch.nn.Linear(4, 2)
    >>> x, y = torch.rand(8, 4), torch.zeros(8, dtype=torch.long)
    >>> adversarial = pgd(model, x, y, threat=ThreatModel("linf", 0.1), steps=5)
    >>> bool((adversarial - x).abs().max() <= 0.1 + 1e-6)
    True
    """
    counts = {"steps": steps, "restarts": restarts, "eot": eot}
    inputs, labels = prepare(inputs, labels, threat, norms=("linf", "l2"), **counts)
    climb = Climb(model, source, find_loss(loss), eot)
    size = _step_size(threat, steps, step_size)
    return search(
        climb,
        inputs,
        labels,
        threat,
        lambda: _FixedStep(threat, size),
        steps=steps,
        restarts=restarts,
        generator=generator,
        stop_when_fooled=stop_when_fooled,
        watch=watch,
    )


def _step_size(threat: ThreatModel, steps: int, given: float | None) -> float:
    """Return the given size, or one that crosses the ball with some to spare."""
    default = 2.5 * threat.eps / steps
    if given is None:
        return default
    if not (math.isfinite(given) and given > 0):
        raise InputError("a finite step_size > 0", got=str(given), fix=f"step_size={default:.3g}")
    return given
