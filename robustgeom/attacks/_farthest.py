"""Steps to the best answer to a linear model inside ball and domain together, and the momentum that smooths them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from robustgeom.attacks._loop import Walk
from robustgeom.attacks._start import Randomness, random_start
from robustgeom.errors import InputError
from robustgeom.threat import ThreatModel, distance, per_row, project, steepest

__all__ = ["Momentum", "checked_size", "farthest", "own_start_first"]

_FAR = (
    1e7  # in radii: a projection from there falls short of the linear optimum by 1e-7 of the radius or less
)


def farthest(points: Tensor, slope: Tensor, threat: ThreatModel) -> Tensor:
    """Return the allowed points around `points` (n, ...) where a linear function of that slope (n, ...) is largest.

    A row whose slope is zero stays where it is.
    """
    # One l1 step along the single steepest component would stop at its bound, so l1 takes the l2 direction.
    direction = steepest(slope, "linf" if threat.norm == "linf" else "l2")
    there = project(points + _FAR * threat.radii(points) * direction, points, threat)
    return project(there, points, threat)  # from so far off, the last digits of the radius are lost


@dataclass(frozen=True)
class Momentum:
    """Steps of length `size`, or `share` * eps / steps, along a decaying sum of gradients scaled to l1 norm 1."""

    steps: int
    size: float | None
    decay: float
    share: float = 2.5

    def next(self, index: int, walk: Walk) -> Tensor:
        """Return the next points (n, ...): each the best of the step's own ball, brought back into the threat's."""
        size = per_row(distance(walk.gradient, walk.gradient * 0, "l1"), walk.x)
        fresh = walk.gradient / size.where(size > 0, size.new_ones(()))
        velocity = fresh if index == 0 else self.decay * walk.state["velocity"] + fresh
        walk.state["velocity"] = velocity
        return project(farthest(walk.x, velocity, self._ball(walk.threat)), walk.origins, walk.threat)

    def _ball(self, threat: ThreatModel) -> ThreatModel:
        if self.size is None:
            return threat.scaled(self.share / self.steps)
        return ThreatModel(threat.norm, self.size, threat.domain)


def own_start_first() -> Callable[[Tensor, ThreatModel, Randomness], Tensor]:
    """Return what chooses starts: the inputs themselves when first called, then random points of the ball."""
    calls = itertools.count()
    return lambda x, threat, generator: x if next(calls) == 0 else random_start(x, threat, generator)


def checked_size(name: str, value: float | None) -> None:
    """Raise `InputError` unless the length called `name` is finite and above 0, or None."""
    if value is not None and not (math.isfinite(value) and value > 0):
        raise InputError(f"a finite {name} > 0", got=str(value), fix="leaving it out")
