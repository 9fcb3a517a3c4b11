"""The one loop that gradient attacks share: query, keep the best, drop what is fooled, step.

The model is any callable from inputs (n, ...) to logits (n, classes). Where it has a method
`at(rows, draws)`, the loop asks it first for the callable that serves just those rows and noise draws: so a
harness can key noise and count cost per sample while the batch shrinks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Protocol

import torch
from torch import Tensor

from robustgeom.attacks._losses import Loss
from robustgeom.attacks._start import Randomness, random_start, select
from robustgeom.errors import InputError
from robustgeom.threat import ThreatModel, per_row

__all__ = ["Climb", "Model", "Rule", "Step", "Walk", "Watch", "bind", "search"]

Model = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Step:
    """What a watcher is told after each query: the rows still attacked, their losses, which are fooled."""

    index: int
    rows: Tensor
    loss: Tensor
    fooled: Tensor


Watch = Callable[[Step], None]


@dataclass
class Walk:
    """The rows still under attack; every tensor has one entry a row and shrinks with them."""

    rows: Tensor
    origins: Tensor
    labels: Tensor
    x: Tensor
    previous: Tensor
    loss: Tensor
    gradient: Tensor
    best_x: Tensor
    best_loss: Tensor
    best_gradient: Tensor
    best_wrong: Tensor
    state: dict[str, Tensor] = field(default_factory=dict)

    def keep(self, mask: Tensor) -> None:
        """Drop the rows where `mask` (n,) is false."""
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                setattr(self, item.name, value[mask])
        self.state = {name: value[mask] for name, value in self.state.items()}


class Rule(Protocol):
    """How a walk moves: `next` returns the next points from the walk after query `index`."""

    def next(self, index: int, walk: Walk) -> Tensor:
        """Return the next points (n, ...)."""
        ...


@dataclass(frozen=True)
class Climb:
    """What every step of one attack has in common."""

    model: Model
    source: Model | None
    loss: Loss
    eot: int
    first_draw: int = 0

    @property
    def certain(self) -> bool:
        """Whether one query decides: a model may say `deterministic`; else it is what one draw a query implies."""
        said: bool = getattr(self.model, "deterministic", self.eot == 1)
        return said

    def query(self, model: Model, x: Tensor, rows: Tensor, step: int) -> Tensor:
        """Return logits (draws, n, classes), float32 or wider; a `deterministic` model gets one draw."""
        count = 1 if getattr(model, "deterministic", False) else self.eot
        many = x.repeat(count, *[1] * (x.dim() - 1))
        draws = self.first_draw + step * self.eot + torch.arange(count).repeat_interleave(len(x))
        logits = bind(model, rows.repeat(count), draws)(many)
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return wide.view(count, len(x), -1)

    def value(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss (n,) averaged over the draws."""
        flat = logits.flatten(0, 1)
        return self.loss(flat, labels.repeat(len(logits))).view(len(logits), -1).mean(0)

    def measure(self, walk: Walk, step: int, *, want_gradient: bool) -> Tensor:
        """Fill in the walk's loss and gradient; return the logits (draws, n, classes)."""
        own = want_gradient and self.source is None
        with torch.set_grad_enabled(own):
            x = walk.x.detach().requires_grad_(own)
            logits = self.query(self.model, x, walk.rows, step)
            value = self.value(logits, walk.labels)
        if own:
            walk.gradient = _gradient(value, x)
        elif want_gradient and self.source is not None:
            with torch.enable_grad():
                x = walk.x.detach().requires_grad_(True)
                walk.gradient = _gradient(
                    self.value(self.query(self.source, x, walk.rows, step), walk.labels), x
                )
        walk.loss = value.detach()
        return logits.detach()


def bind(model: Model, rows: Tensor, draws: Tensor) -> Model:
    """Return the callable that serves `rows` (n,) with noise `draws` (n,): the model itself without `at`."""
    at: Callable[[Tensor, Tensor], Model] | None = getattr(model, "at", None)
    return model if at is None else at(rows, draws)


def _gradient(value: Tensor, x: Tensor) -> Tensor:
    # Not value.sum(): the caller may have gradients off out here.
    found = (
        torch.autograd.grad(value, x, torch.ones_like(value), allow_unused=True)[0]
        if value.requires_grad
        else None
    )
    if found is None:
        raise InputError(
            "logits that depend on the inputs differentiably",
            got="logits without a gradient",
            fix="source= a differentiable surrogate (BPDA), or a gradient-free attack",
        )
    # A pixel without a usable gradient stays where it is; NaN would take the whole row with it.
    return found.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def search(
    climb: Climb,
    inputs: Tensor,
    labels: Tensor,
    threat: ThreatModel,
    make_rule: Callable[[], Rule],
    *,
    steps: int,
    restarts: int,
    generator: Randomness,
    stop_when_fooled: bool,
    watch: Watch | None,
) -> Tensor:
    """Walk from `restarts` random starts; return the worst point (n, ...) found for each row."""
    found = Found(inputs.clone(), inputs.new_full((len(inputs),), -float("inf"), dtype=torch.float64))
    left = torch.arange(len(inputs), device=inputs.device)
    for restart in range(restarts):
        if len(left) == 0:
            break
        start = random_start(inputs[left], threat, select(generator, left))
        walk = _begin(left, inputs[left], labels[left], start)
        again = replace(climb, first_draw=climb.first_draw + restart * (steps + 3) * climb.eot)
        fooled = ascend(again, walk, make_rule(), found, steps=steps, stop=stop_when_fooled, watch=watch)
        left = left[~fooled[left]]
    return found.x


@dataclass
class Found:
    """The worst point of every row so far, and its loss."""

    x: Tensor
    loss: Tensor

    def take(self, rows: Tensor, x: Tensor, loss: Tensor) -> None:
        """Take the points `x` of `rows` where they lose more than those known."""
        more = loss > self.loss[rows]
        self.x[rows[more]] = x[more]
        self.loss[rows[more]] = loss[more].to(self.loss.dtype)


def ascend(
    climb: Climb, walk: Walk, rule: Rule, found: Found, *, steps: int, stop: bool, watch: Watch | None
) -> Tensor:
    """Walk for `steps` steps, put the best points into `found`; return which of its rows are fooled.

    Where one query decides, a fooled row leaves the batch at once. On a stochastic model no row leaves early: a
    lucky draw is not a success, so the best and the last point are compared on fresh noise at the end.
    """
    certain = climb.certain
    fooled = torch.zeros(len(found.x), dtype=torch.bool, device=found.x.device)
    for index in range(steps + 1):
        logits = climb.measure(walk, index, want_gradient=index < steps)
        wrong = _fooled(logits, walk)
        _remember_best(walk, wrong if certain else torch.zeros_like(wrong))
        fooled[walk.rows] = walk.best_wrong
        if watch is not None:
            watch(Step(index, walk.rows, walk.loss, wrong))
        if stop and certain:
            found.take(walk.rows[wrong], walk.x[wrong], torch.full_like(walk.loss[wrong], float("inf")))
            walk.keep(~wrong)
        if len(walk.rows) == 0:
            return fooled
        if index < steps:
            # The rule may first bring rows back to their best point: that point is then the previous one.
            ahead = rule.next(index, walk)
            walk.previous, walk.x = walk.x, ahead
    if certain:
        found.take(walk.rows, walk.best_x, walk.best_loss)
    else:
        *settled, fooled[walk.rows] = _settle(climb, walk, steps)
        found.take(walk.rows, *settled)
    return fooled


def _fooled(logits: Tensor, walk: Walk) -> Tensor:
    """Return which rows (n,) the mean prediction of logits (draws, n, classes) gets wrong; NaN is no success."""
    return (logits.softmax(2).mean(0).argmax(1) != walk.labels) & ~walk.loss.isnan()


def _begin(rows: Tensor, inputs: Tensor, labels: Tensor, start: Tensor) -> Walk:
    n = len(rows)
    nothing = inputs.new_full((n,), -float("inf"), dtype=torch.promote_types(inputs.dtype, torch.float32))
    zero, never = torch.zeros_like(inputs), torch.zeros(n, dtype=torch.bool, device=inputs.device)
    return Walk(rows, inputs, labels, start, start, nothing, zero, start, nothing, zero, never)


def _remember_best(walk: Walk, wrong: Tensor) -> None:
    """Keep the point with the highest loss, but never trade one that fools for one that does not."""
    higher = (walk.loss > walk.best_loss) | (walk.best_loss.isneginf() & ~walk.loss.isnan())
    better = (wrong & ~walk.best_wrong) | ((wrong == walk.best_wrong) & higher)
    walk.best_wrong = walk.best_wrong | wrong
    walk.best_loss = torch.where(better, walk.loss, walk.best_loss)
    walk.best_x = torch.where(per_row(better, walk.x), walk.x, walk.best_x)
    walk.best_gradient = torch.where(per_row(better, walk.x), walk.gradient, walk.best_gradient)


def _settle(climb: Climb, walk: Walk, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best or the last point of each row, whichever loses more on fresh noise, its loss, if it fools."""
    seen = []
    for offset, points in enumerate((walk.best_x, walk.x)):
        walk.x = points
        logits = climb.measure(walk, steps + 1 + offset, want_gradient=False)
        seen.append((points, walk.loss, _fooled(logits, walk)))
    (best, best_loss, best_wrong), (last, last_loss, last_wrong) = seen
    later = last_loss >= best_loss
    return (
        torch.where(per_row(later, last), last, best),
        torch.where(later, last_loss, best_loss),
        torch.where(later, last_wrong, best_wrong),
    )
