"""The one walk that minimum-norm attacks share: query, keep the nearest point that fools, step; then tighten it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustgeom.attacks._losses import Loss, margin
from robustgeom.attacks._oracle import Oracle
from robustgeom.attacks._rows import Rows
from robustgeom.errors import InputError
from robustgeom.threat import Norm, ThreatModel, distance, per_row, project, steepest

__all__ = ["GROWTH", "Near", "anneal", "moved", "nearest", "on_sphere", "onto", "radii", "share", "within"]

GROWTH = 3.0  # of the radius while nothing was found: far points come first, then they are drawn in
_SWITCH = 0.5  # of the steps climb the loss; the rest climb the margin, whose slope is that of the boundary
_LEAST = 1e-6  # the first radius, in widths of the domain, where the input lies on a boundary
_SLACK = 32  # rounding errors of the largest logit: nearer to a tie, a point may be right in another batch
_HALVINGS = 10  # of the interval that holds the distance, in the end
_VOTES = 4  # fresh queries that must agree before a point of a stochastic model counts, twice that in the end
_RUNGS = [0.8 * 1.1**i for i in range(10)]  # the distances tried then, in parts of the one found
_DUAL = {"linf": 1.0, "l2": 2.0, "l1": math.inf}


@dataclass
class Near(Rows):
    """The rows under attack; every tensor has one entry a row.

    `x` is what was asked last: its loss, the loss's gradient, its distance `size` and whether it fools. `best` is the
    nearest point known to fool, `reach` its distance; where there is none, the origin and infinity.
    """

    rows: Tensor
    origins: Tensor
    labels: Tensor
    norm: Norm
    domain: tuple[float, float]
    x: Tensor
    loss: Tensor
    gradient: Tensor
    size: Tensor
    wrong: Tensor
    best: Tensor
    reach: Tensor
    state: dict[str, Tensor] = field(default_factory=dict)

    @property
    def found(self) -> Tensor:
        """Say which rows (n,) have a point that fools."""
        return self.reach.isfinite()


def nearest(
    oracle: Oracle,
    loss: Loss,
    inputs: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    move: Callable[[int, Near], Tensor],
    *,
    steps: int,
) -> Tensor:
    """Return the nearest point (n, ...) found that fools, or the input itself; the radius of `threat` plays no part.

    `move` returns the next points, inside the domain, from the index of the last query and what is known after it.
    The first query's gradient is the margin's, whose linearisation says how far to go; then come those of `loss`, and
    in the second half of the steps the margin's again.
    """
    near, found = _begin(inputs, labels, threat), inputs.clone()
    stride = 1 if oracle.certain else 1 + _VOTES
    for index in range(steps + 1):
        if len(near.rows) == 0:
            return found
        step, value = index * stride, loss if 0 < index < _SWITCH * steps else margin
        there = oracle.along(index, steps)
        seen = there.look(value, (near.labels,), near.x, near.rows, step, gradient=index < steps)
        near.loss, near.gradient = seen.loss, seen.gradient
        if index == 0:
            near.keep((seen.logits.argmax(1) == near.labels) & ~seen.loss.isnan())
        else:
            near.wrong = _surely(seen.logits, near.labels)
            _remember(oracle, near, step + 1)
        if index < steps:
            near.x = move(index, near)
    near.keep(near.found)
    if len(near.rows):
        _finish(oracle.later((steps + 1) * stride * oracle.stride), near)
    return found.index_copy(0, near.rows, near.best)


def _begin(inputs: Tensor, labels: Tensor, threat: ThreatModel) -> Near:
    rows = torch.arange(len(inputs), device=inputs.device)
    none = inputs.new_zeros(len(inputs), dtype=torch.promote_types(inputs.dtype, torch.float32))
    flat, far = torch.zeros_like(inputs), torch.full_like(none, math.inf)
    where = (threat.norm, threat.domain)
    return Near(rows, inputs, labels, *where, inputs, none, flat, none, none.bool(), inputs, far)


def _surely(logits: Tensor, labels: Tensor) -> Tensor:
    """Return which rows (n,) are another class than `labels` by more than rounding can turn."""
    slack = _SLACK * torch.finfo(logits.dtype).eps * logits.abs().amax(1).clamp_max(1e6)
    return margin(logits, labels) > slack


def _fools(oracle: Oracle, x: Tensor, rows: Tensor, labels: Tensor, step: int, votes: int) -> Tensor:
    """Return which points fool (n,); on a stochastic model, in each of `votes` queries with fresh noise."""
    agreed = torch.ones_like(rows, dtype=torch.bool)
    for vote in range(1 if oracle.certain else votes):
        agreed &= _surely(oracle.logits(x, rows, step + vote), labels)
    return agreed


def _remember(oracle: Oracle, near: Near, step: int) -> None:
    """Keep points that fool nearer than the best; a lucky draw is none, so on a stochastic model others are asked."""
    near.size = distance(near.x, near.origins, near.norm).to(near.reach)
    better = near.wrong & (near.size < near.reach)
    if not oracle.certain and bool(better.any()):
        rows = better.nonzero().squeeze(1)
        better[rows] = _fools(oracle, near.x[rows], near.rows[rows], near.labels[rows], step, _VOTES)
    near.best = torch.where(per_row(better, near.x), near.x, near.best)
    near.reach = torch.where(better, near.size, near.reach)


def _finish(oracle: Oracle, near: Near) -> None:
    for every in (True, False) if near.norm == "l0" else ():
        _drop(oracle, near, every=every)
        oracle = oracle.later((1 + _HALVINGS * _VOTES) * oracle.stride)
    if not oracle.certain:
        _settle(oracle, near)
    elif near.norm != "l0":
        _pull_in(oracle, near)


def _pull_in(oracle: Oracle, near: Near) -> None:
    """Bring points as near as they still fool on the straight line to the origin, by bisection."""
    move = near.best - near.origins
    shortest, longest = torch.zeros_like(near.reach), torch.ones_like(near.reach)
    for round_ in range(_HALVINGS):
        middle = (shortest + longest) / 2
        x = moved(near, (move * per_row(middle, move)).to(move))
        wrong = _fools(oracle, x, near.rows, near.labels, round_, 1)
        near.best = torch.where(per_row(wrong, x), x, near.best)
        shortest, longest = torch.where(wrong, shortest, middle), torch.where(wrong, middle, longest)


def _drop(oracle: Oracle, near: Near, *, every: bool) -> None:
    """Change as few components as still fool, those of most linearised effect, by bisection.

    As l0 counts changes and not their size, they go to the bound where that helps: `every` component, or those changed.
    """
    gradient = oracle.look(margin, (near.labels,), near.best, near.rows).gradient.flatten(1)
    base, low, high = near.origins.flatten(1), *near.domain
    now = near.best.flatten(1) - base
    bound = torch.where(gradient > 0, high - base, low - base)
    free = (gradient * bound > gradient * now) & (every | (now != 0))
    move = torch.where(free, bound, now)
    effect = torch.where(move != 0, gradient * move, -math.inf)
    rank = effect.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    fewest, most = torch.zeros_like(near.reach), near.reach
    for round_ in range(_HALVINGS):
        count = ((fewest + most) / 2).floor()
        x = moved(near, (move * (rank < count[:, None])).view_as(near.best))
        wrong = _fools(oracle, x, near.rows, near.labels, 1 + round_ * _VOTES, _VOTES)
        size = distance(x, near.origins, "l0").to(near.reach)
        better = wrong & (size < near.reach)
        near.best = torch.where(per_row(better, x), x, near.best)
        near.reach = torch.where(better, size, near.reach)
        fewest, most = torch.where(wrong, fewest, count), torch.where(wrong, count, most)


def _settle(oracle: Oracle, near: Near) -> None:
    """Replace points by the nearest on their line that surely fool: the luckiest of many draws is too near."""
    move, best = near.best - near.origins, near.origins
    left, votes = torch.ones_like(near.wrong), 2 * _VOTES
    for index, rung in enumerate(_RUNGS):
        x = moved(near, rung * move)
        rows = left.nonzero().squeeze(1)
        if len(rows) == 0:
            break
        done = rows[_fools(oracle, x[rows], near.rows[rows], near.labels[rows], votes * index, votes)]
        best = best.index_copy(0, done, x[done])
        left = left.index_fill(0, done, 0)
    near.best = best


def moved(near: Near, move: Tensor) -> Tensor:
    """Return the origins moved by `move` (n, ...), inside the domain."""
    return (near.origins + move).clamp(*near.domain)


def onto(near: Near, points: Tensor, radius: Tensor) -> Tensor:
    """Return the points nearest to `points` (n, ...) inside radius (n,) and domain."""
    return project(points, near.origins, ThreatModel(near.norm, radius, near.domain))


def radii(near: Near, index: int, gamma: float) -> Tensor:
    """Return the next radius (n,): smaller by `gamma` where the last point fools, else larger, much so until one does.

    The first is the distance to the boundary were the margin linear.
    """
    if index == 0:
        slope = torch.linalg.vector_norm(near.gradient.flatten(1), ord=_DUAL[near.norm], dim=1).to(near.loss)
        least = _LEAST * (near.domain[1] - near.domain[0])
        radius = (-near.loss / slope.clamp_min(torch.finfo(slope.dtype).tiny)).clamp_min(least)
    else:
        change = torch.where(near.wrong, 1 - gamma, torch.where(near.found, 1 + gamma, GROWTH))
        radius = near.state["radius"] * change
    near.state["radius"] = within(near, radius)
    return near.state["radius"]


def on_sphere(near: Near, radius: Tensor, step: Tensor | float) -> Tensor:
    """Return the points (n, ...) a steepest step of `step` radii ahead, back in radius (n,) and domain."""
    direction = steepest(near.gradient, "linf" if near.norm == "linf" else "l2")
    return onto(near, near.x + per_row(step * radius, near.x).to(near.x) * direction, radius)


def within(near: Near, radius: Tensor) -> Tensor:
    """Return radii (n,) no wider than the way to the domain's far corner."""
    low, high = near.domain
    corner = torch.where(near.origins - low > high - near.origins, low, high).to(near.origins)
    return torch.minimum(radius, distance(corner, near.origins, near.norm).to(radius))


def share(chosen: float | None, total: float, steps: int) -> float:
    """Return the `chosen` share of change in (0, 1), or total / steps between 0.05 and 0.25."""
    found = min(max(total / steps, 0.05), 0.25) if chosen is None else chosen
    if not 0 < found < 1:
        raise InputError("a gamma between 0 and 1", got=str(found), fix="leaving it out")
    return found


def anneal(first: float, last: float, index: int, steps: int) -> float:
    """Return a value that falls from `first` to `last` along half a cosine.

    >>> anneal(1.0, 0.0, 50, 100)
    0.5
    """
    return last + (first - last) * (1 + math.cos(math.pi * index / steps)) / 2
