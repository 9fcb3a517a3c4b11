"""The one loop that climbing attacks share: query, keep the best, drop what is fooled, step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from robustgeom.attacks._losses import Loss
from robustgeom.attacks._oracle import Oracle, Seen
from robustgeom.attacks._rows import Rows
from robustgeom.attacks._start import Randomness, random_start, resolve, select
from robustgeom.threat import ThreatModel, per_row, project

__all__ = ["Found", "Phase", "Rule", "Step", "Walk", "Watch", "ascend", "begin", "fooled_rows", "search"]


@dataclass(frozen=True)
class Step:
    """What a watcher is told after each query: the rows still attacked, their losses, which are fooled."""

    index: int
    rows: Tensor
    loss: Tensor
    fooled: Tensor


Watch = Callable[[Step], None]


@dataclass
class Walk(Rows):
    """The rows still under attack; every tensor has one entry a row and shrinks with them.

    `aim` is what the loss takes beside the logits: the labels (n,), and for targeted losses the targets (n,). A
    sample may have several entries, one a target: when one of them fools, all leave.
    """

    rows: Tensor
    origins: Tensor
    aim: tuple[Tensor, ...]
    threat: ThreatModel
    x: Tensor
    previous: Tensor
    loss: Tensor
    gradient: Tensor
    best_x: Tensor
    best_loss: Tensor
    best_gradient: Tensor
    best_wrong: Tensor
    state: dict[str, Tensor] = field(default_factory=dict)


class Rule(Protocol):
    """How a walk moves: `next` returns the next points from the walk after query `index`."""

    def next(self, index: int, walk: Walk) -> Tensor:
        """Return the next points (n, ...)."""
        ...


@dataclass(frozen=True)
class Phase:
    """So many steps by one rule, in the ball `scale` times as wide; only a phase of scale 1 may succeed."""

    steps: int
    make_rule: Callable[[], Rule]
    scale: float = 1.0


def search(
    oracle: Oracle,
    loss: Loss,
    inputs: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    phases: list[Phase],
    *,
    restarts: int,
    generator: Randomness,
    start: Callable[[Tensor, ThreatModel, Randomness], Tensor] = random_start,
    stop_when_fooled: bool = True,
    watch: Watch | None,
) -> Tensor:
    """Walk from `restarts` starts; return the worst point (n, ...) found for each row."""
    found = Found.nothing(inputs)
    generator = resolve(generator)
    left = torch.arange(len(inputs), device=inputs.device)
    for _ in range(restarts):
        if len(left) == 0:
            break
        local, origins = threat.take(left), inputs[left]
        wide = local.scaled(phases[0].scale)
        point = start(origins, wide, select(generator, left))
        walk = begin(left, origins, (labels[left],), local, point)
        fooled, oracle = through(oracle, loss, walk, phases, found, stop=stop_when_fooled, watch=watch)
        left = left[~fooled[left]]
    return found.x


def through(
    oracle: Oracle,
    loss: Loss,
    walk: Walk,
    phases: list[Phase],
    found: Found,
    *,
    stop: bool,
    watch: Watch | None,
) -> tuple[Tensor, Oracle]:
    """Walk all phases, each from the best point of the last; return which rows are fooled, and the next oracle."""
    fooled = torch.zeros(len(found.x), dtype=torch.bool, device=found.x.device)
    target = walk.threat
    for phase in phases:
        walk.threat = target.scaled(phase.scale)
        start = project(walk.x, walk.origins, walk.threat) if len(phases) > 1 else walk.x
        walk = begin(walk.rows, walk.origins, walk.aim, walk.threat, start)
        into = found if phase.scale == 1 else None
        fooled = ascend(
            oracle, loss, walk, phase.make_rule(), into, fooled, steps=phase.steps, stop=stop, watch=watch
        )
        oracle = oracle.later((phase.steps + 3) * oracle.stride)
        walk.x = walk.best_x
    return fooled, oracle


@dataclass
class Found:
    """The worst point of every sample so far, and its loss."""

    x: Tensor
    loss: Tensor

    @classmethod
    def nothing(cls, inputs: Tensor) -> Found:
        """Return what is known before the first query: the inputs."""
        return cls(inputs.clone(), inputs.new_full((len(inputs),), -float("inf"), dtype=torch.float64))

    def take(self, rows: Tensor, x: Tensor, loss: Tensor) -> None:
        """Take the points `x` of `rows` where they lose more than those known; of one sample's, the worst."""
        order = loss.argsort(stable=True)
        rank = torch.full_like(self.loss, -1, dtype=torch.int64)
        rank.scatter_reduce_(0, rows[order], torch.arange(len(rows), device=rows.device), "amax")
        best = order[rank[rank >= 0]]
        better = best[loss[best] > self.loss[rows[best]]]
        self.x[rows[better]] = x[better]
        self.loss[rows[better]] = loss[better].to(self.loss.dtype)


def ascend(
    oracle: Oracle,
    loss: Loss,
    walk: Walk,
    rule: Rule,
    found: Found | None,
    fooled: Tensor,
    *,
    steps: int,
    stop: bool,
    watch: Watch | None,
) -> Tensor:
    """Walk for `steps` steps, put the best points into `found`; return which samples are fooled.

    Where one query decides, a fooled row leaves the batch at once. On a stochastic model no row leaves early: a
    lucky draw is not a success, so the best and the last point are compared on fresh noise at the end.
    Without `found` nothing counts as a success: the points are not allowed yet.
    """
    certain = oracle.certain and found is not None
    fooled = fooled.clone()
    for index in range(steps + 1):
        there = oracle.along(index, steps)
        seen = there.look(loss, walk.aim, walk.x, walk.rows, index, gradient=index < steps)
        walk.loss, walk.gradient = seen.loss, seen.gradient
        wrong = fooled_rows(seen, walk.aim[0])
        _remember_best(walk, wrong if certain else torch.zeros_like(wrong))
        if watch is not None:
            watch(Step(index, walk.rows, walk.loss, wrong))
        if certain and bool(wrong.any()):
            fooled[walk.rows[wrong]] = True
            if found is not None and stop:
                found.take(walk.rows[wrong], walk.x[wrong], torch.full_like(walk.loss[wrong], float("inf")))
                walk.keep(~fooled[walk.rows])
        if len(walk.rows) == 0:
            return fooled
        if index < steps:
            # The rule may first bring rows back to their best point: that point is then the previous one.
            ahead = rule.next(index, walk)
            walk.previous, walk.x = walk.x, ahead
    if found is not None:
        points, value = walk.best_x, walk.best_loss
        if not certain:
            points, value, walk.best_wrong = _settle(oracle, loss, walk, steps)
            fooled[walk.rows[walk.best_wrong]] = True
        # A point that fools is worth more than any that does not, whatever its loss.
        found.take(walk.rows, points, torch.where(walk.best_wrong, float("inf"), value))
    return fooled


def fooled_rows(seen: Seen, labels: Tensor) -> Tensor:
    """Return which rows (n,) are predicted as another class than `labels` (n,); NaN is no success."""
    return (seen.logits.argmax(1) != labels) & ~seen.loss.isnan()


def begin(rows: Tensor, origins: Tensor, aim: tuple[Tensor, ...], threat: ThreatModel, start: Tensor) -> Walk:
    """Return the walk that starts at `start` (n, ...)."""
    n = len(rows)
    nothing = origins.new_full((n,), -float("inf"), dtype=torch.promote_types(origins.dtype, torch.float32))
    zero, never = torch.zeros_like(origins), torch.zeros(n, dtype=torch.bool, device=origins.device)
    return Walk(rows, origins, aim, threat, start, start, nothing, zero, start, nothing, zero, never)


def _remember_best(walk: Walk, wrong: Tensor) -> None:
    """Keep the point with the highest loss, but never trade one that fools for one that does not."""
    higher = (walk.loss > walk.best_loss) | (walk.best_loss.isneginf() & ~walk.loss.isnan())
    better = (wrong & ~walk.best_wrong) | ((wrong == walk.best_wrong) & higher)
    walk.best_wrong = walk.best_wrong | wrong
    walk.best_loss = torch.where(better, walk.loss, walk.best_loss)
    walk.best_x = torch.where(per_row(better, walk.x), walk.x, walk.best_x)
    walk.best_gradient = torch.where(per_row(better, walk.x), walk.gradient, walk.best_gradient)


def _settle(oracle: Oracle, loss: Loss, walk: Walk, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best or the last point of each row, whichever loses more on fresh noise, its loss, if it fools."""
    best, last = (
        oracle.look(loss, walk.aim, points, walk.rows, steps + 1 + offset, gradient=False)
        for offset, points in enumerate((walk.best_x, walk.x))
    )
    last_wrong, best_wrong = (fooled_rows(seen, walk.aim[0]) for seen in (last, best))
    later = torch.where(last_wrong == best_wrong, last.loss >= best.loss, last_wrong)
    wrong = torch.where(later, last_wrong, best_wrong)
    points = torch.where(per_row(later, walk.x), walk.x, walk.best_x)
    return points, torch.where(later, last.loss, best.loss), wrong
