"""The step rules of Auto-PGD; checkpoints are common to all rows, step sizes are not."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from robustgeom.attacks._farthest import farthest
from robustgeom.attacks._loop import Phase, Walk
from robustgeom.errors import unknown
from robustgeom.threat import Norm, ThreatModel, distance, free, per_row, project, steepest

__all__ = ["Box", "phases"]

Box = Literal["exact", "clip"]
_BOXES = get_args(Box)
_MOMENTUM = 0.75
_PROGRESS = 0.75
_SHRINK, _SLOWEST, _SPARSER = (
    1.5,
    10.0,
    0.95,
)  # l1: how the step shrinks, its least part, what counts as sparser
_WIDER = (
    (3.0, 0.3),
    (2.0, 0.3),
    (1.0, 0.4),
)  # l1: balls so many times as wide, for these shares of the steps


def phases(norm: Norm, steps: int, box: Box) -> list[Phase]:
    """Return the phases of an Auto-PGD run; raises `UnknownNameError` on an unknown `box`."""
    if box not in _BOXES:
        raise unknown("box", box, _BOXES)
    if norm != "l1":
        return [Phase(steps, lambda: _Dense(steps, box))]
    first = [math.ceil(share * steps) for _, share in _WIDER[:-1]]
    counts = [*first, steps - sum(first)]
    return [
        Phase(count, lambda count=count, scale=scale: _Sparse(count, box, scale == 1), scale)  # type: ignore[misc]
        for (scale, _), count in zip(_WIDER, counts, strict=True)
        if count > 0 or scale == 1
    ]


@dataclass
class _Dense:
    """linf and l2: momentum, and halved steps from the best point where a window of steps brought too little."""

    steps: int
    box: Box
    window: int = field(init=False)
    since: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.window = max(int(0.22 * self.steps), 1)

    def next(self, index: int, walk: Walk) -> Tensor:
        """Return the next points; at a checkpoint, rows without progress first return to their best point."""
        state = walk.state or self._begin(walk)
        walk.state = state
        if index > 0:
            state["rises"] = state["rises"] + (walk.loss > state["last_loss"])
            state["last_loss"] = walk.loss
        self.since += index > 0
        if self.since == self.window:
            self._checkpoint(walk)
        return self._move(walk, momentum=1.0 if index == 0 else _MOMENTUM)

    def _begin(self, walk: Walk) -> dict[str, Tensor]:
        # The first loss is compared with zero, not with the start's: so does the reference, and verdicts hang on it.
        return {
            "size": 2 * walk.threat.radii(walk.x).flatten().expand(len(walk.x)),
            "rises": torch.zeros_like(walk.loss),
            "last_loss": torch.zeros_like(walk.loss),
            "checked_loss": walk.best_loss,
            "halved": torch.ones_like(walk.loss, dtype=torch.bool),
        }

    def _checkpoint(self, walk: Walk) -> None:
        state = walk.state
        oscillates = state["rises"] <= self.window * _PROGRESS
        stalls = ~state["halved"] & (walk.best_loss <= state["checked_loss"])
        halve = oscillates | stalls
        state["size"] = torch.where(halve, state["size"] / 2, state["size"])
        _return(walk, halve)
        state["halved"], state["checked_loss"] = halve, walk.best_loss
        state["rises"] = torch.zeros_like(state["rises"])
        self.since = 0
        self.window = max(self.window - max(int(0.03 * self.steps), 1), int(0.06 * self.steps), 1)

    def _move(self, walk: Walk, *, momentum: float) -> Tensor:
        bring = project if self.box == "exact" else _ball_then_domain
        step = per_row(walk.state["size"], walk.x) * steepest(walk.gradient, walk.threat.norm)
        ahead = bring(walk.x + step, walk.origins, walk.threat)
        drift = (1 - momentum) * (walk.x - walk.previous)
        return bring(walk.x + momentum * (ahead - walk.x) + drift, walk.origins, walk.threat)


@dataclass
class _Sparse:
    """l1: sign steps along the largest components only, fewer as the best point gets sparser.

    The exact box leaves out components that the domain stops; AutoAttack lets them use up the step. In the ball
    itself it also tries the best answer to the linearised model first, and goes on from there where that is better.
    """

    steps: int
    box: Box
    final: bool
    since: int = field(init=False, default=0)

    def next(self, index: int, walk: Walk) -> Tensor:
        """Return the next points; at a checkpoint, rows that got sparser return to their best point."""
        if not walk.state:
            changed = distance(walk.x, walk.origins, "l0").to(walk.x.dtype)
            size = walk.threat.radii(walk.x).flatten().expand(len(walk.x))
            walk.state = {"changed": changed, "top": changed / _SHRINK, "size": size}
        if self.final and self.box == "exact" and index == 0:
            return farthest(walk.origins, walk.gradient, walk.threat)
        if self.final and self.box == "exact" and index == 1:
            _return(walk, walk.loss < walk.best_loss)
        self.since += index > 0
        if self.since == max(int(0.04 * self.steps), 1):
            self._checkpoint(walk)
        return self._move(walk)

    def _checkpoint(self, walk: Walk) -> None:
        state, full = walk.state, walk.threat.radii(walk.x).flatten()
        changed = distance(walk.best_x, walk.origins, "l0").to(walk.x.dtype)
        sparser = changed < _SPARSER * state["changed"]
        size = torch.where(sparser, full, state["size"] / _SHRINK)
        state["size"] = torch.minimum(torch.maximum(size, full / _SLOWEST), full)
        state["changed"], state["top"] = changed, changed / _SHRINK
        _return(walk, sparser)
        self.since = 0

    def _move(self, walk: Walk) -> Tensor:
        gradient = walk.gradient.flatten(1)
        if self.box == "exact":
            gradient = gradient * free(gradient, walk.x.flatten(1), walk.threat)
        size = gradient.abs()
        d = size.shape[1]
        place = (d - walk.state["top"]).clamp(0, d - 1).long()
        least = size.sort(dim=1).values.gather(1, place[:, None])
        step = gradient.sign() * (size >= least)
        step = step / step.abs().sum(1, keepdim=True).clamp_min(1)
        ahead = walk.x + per_row(walk.state["size"], walk.x) * step.view_as(walk.x)
        return project(ahead, walk.origins, walk.threat)


def _return(walk: Walk, rows: Tensor) -> None:
    """Bring the rows of the mask (n,) back to their best point."""
    walk.x = torch.where(per_row(rows, walk.x), walk.best_x, walk.x)
    walk.gradient = torch.where(per_row(rows, walk.x), walk.best_gradient, walk.gradient)


def _ball_then_domain(points: Tensor, origins: Tensor, threat: ThreatModel) -> Tensor:
    if threat.norm != "l2":
        return project(points, origins, threat)
    delta, eps = points - origins, threat.radii(points)
    size = per_row(distance(points, origins, "l2"), points)
    tiny = torch.finfo(size.dtype).tiny
    return (origins + delta * (eps / size.clamp_min(tiny)).clamp_max(1)).clamp(*threat.domain)
