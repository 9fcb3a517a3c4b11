"""Auto-PGD: projected gradient ascent with momentum that halves its step where progress stalls."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustgeom.attacks._loop import Climb, Model, Walk, Watch, search
from robustgeom.attacks._losses import find_loss
from robustgeom.attacks._prepare import prepare
from robustgeom.attacks._start import Randomness
from robustgeom.threat import ThreatModel, per_row, project, steepest

__all__ = ["apgd"]

_MOMENTUM = 0.75
_PROGRESS = 0.75


@dataclass
class _Adaptive:
    """The step rule of Auto-PGD; the schedule of checkpoints is common to all rows, the step sizes are not."""

    threat: ThreatModel
    steps: int
    window: int = field(init=False)
    since: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.window = max(int(0.22 * self.steps), 1)

    def next(self, index: int, walk: Walk) -> Tensor:
        """Return the next points; at a checkpoint, rows without progress first return to their best point."""
        state = walk.state or self._begin(walk)
        walk.state = state
        state["rises"] = state["rises"] + (walk.loss > state["last_loss"])
        state["last_loss"] = walk.loss
        self.since += index > 0
        if self.since == self.window:
            self._checkpoint(walk)
        return self._move(walk, momentum=1.0 if index == 0 else _MOMENTUM)

    def _begin(self, walk: Walk) -> dict[str, Tensor]:
        return {
            "size": torch.full_like(walk.loss, 2 * self.threat.eps),
            "rises": torch.zeros_like(walk.loss),
            "last_loss": walk.loss,
            "checked_loss": walk.best_loss,
            "halved": torch.ones_like(walk.loss, dtype=torch.bool),
        }

    def _checkpoint(self, walk: Walk) -> None:
        state = walk.state
        oscillates = state["rises"] <= self.window * _PROGRESS
        stalls = ~state["halved"] & (walk.best_loss <= state["checked_loss"])
        halve = oscillates | stalls
        state["size"] = torch.where(halve, state["size"] / 2, state["size"])
        walk.x = torch.where(per_row(halve, walk.x), walk.best_x, walk.x)
        walk.gradient = torch.where(per_row(halve, walk.x), walk.best_gradient, walk.gradient)
        state["halved"], state["checked_loss"] = halve, walk.best_loss
        state["rises"] = torch.zeros_like(state["rises"])
        self.since = 0
        self.window = max(self.window - max(int(0.03 * self.steps), 1), int(0.06 * self.steps), 1)

    def _move(self, walk: Walk, *, momentum: float) -> Tensor:
        size = walk.state["size"].to(walk.x.dtype)
        step = per_row(size, walk.x) * steepest(walk.gradient, self.threat.norm)
        ahead = project(walk.x + step, walk.origins, self.threat)
        drift = (1 - momentum) * (walk.x - walk.previous)
        return project(walk.x + momentum * (ahead - walk.x) + drift, walk.origins, self.threat)


def apgd(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    steps: int = 100,
    restarts: int = 1,
    loss: str = "ce",
    eot: int = 1,
    source: Model | None = None,
    generator: Randomness = None,
    watch: Watch | None = None,
) -> Tensor:
    """Return the worst inputs that Auto-PGD finds (Croce & Hein 2020, arXiv:2003.01690); linf and l2.

    inputs: (n, ...) in the threat's domain; labels: (n,) classes; the result has the inputs' shape and stays
    in the threat. There is no step size to set: it starts at 2 eps and halves per row where progress stalls.
    `loss` is ce or margin. `eot` draws are averaged at each step for a stochastic model; `source` gives the
    gradients in the model's place. `generator` is one torch.Generator, or one per row. Costs steps + 1 forward
    and steps backward passes a row, draw and restart, less for rows that are fooled early. Raises `InputError`
    on inputs outside the domain, NaN, labels that do not fit, and counts below 1.

    >>> model = torch.nn.Linear(4, 2)
    >>> x, y = torch.rand(8, 4), torch.zeros(8, dtype=torch.long)
    >>> adversarial = apgd(model, x, y, threat=ThreatModel("l2", 0.5), steps=5)
    >>> bool((adversarial - x).norm(dim=1).max() <= 0.5 + 1e-6)
    True
    """
    counts = {"steps": steps, "restarts": restarts, "eot": eot}
    inputs, labels = prepare(inputs, labels, threat, norms=("linf", "l2"), **counts)
    return search(
        Climb(model, source, find_loss(loss), eot),
        inputs,
        labels,
        threat,
        lambda: _Adaptive(threat, steps),
        steps=steps,
        restarts=restarts,
        generator=generator,
        stop_when_fooled=True,
        watch=watch,
    )
