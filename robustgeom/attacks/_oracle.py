"""What an attack may ask: logits and gradients of a model, averaged over noise draws, in pieces that fit the cache.

The model is any callable from inputs (n, ...) to logits (n, classes). Where it has a method `at(rows, draws)`, the
oracle asks it first for the callable that serves just those rows and noise draws: so a harness can key noise and
count cost per sample while the batch shrinks. Where it has `repeated(rows, draws, owners)`, one call serves several
draws of each input, so that what they share is computed once. Gradients may come from another callable, the `source`:
a variant of the model, a surrogate (transfer) or a differentiable stand-in (BPDA). Success is always judged on the
model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from robustgeom.attacks._losses import Loss
from robustgeom.errors import InputError, unknown

__all__ = ["AVERAGES", "Average", "Model", "Oracle", "Seen", "bind", "pieces"]

Model = Callable[[Tensor], Tensor]
Repeated = Callable[[Tensor, Tensor, Tensor], Model]
Average = Literal["gradients", "logits"]
AVERAGES = get_args(Average)
PIECE = 256  # model rows a pass: larger batches leave the cache of a CPU
FEW = 24  # model rows that are not worth a pass of their own
_SETTLED = 0.9  # cosine between the mean gradients of two halves of the draws


@dataclass(frozen=True)
class Seen:
    """What one query saw of each row: logits (n, classes), loss (n,), and the loss's gradient (n, ...) if asked."""

    logits: Tensor
    loss: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Oracle:
    """`model` under `eot` noise draws a query, with gradients from `source` where there is one.

    `average` says what is averaged over the draws: the losses, and so the gradients, or the logits ahead of the
    loss. `counts` (n,) holds a number of draws a row where they differ.
    """

    model: Model
    source: Model | None = None
    eot: int = 1
    average: Average = "gradients"
    first_draw: int = 0
    counts: Tensor | None = None

    def __post_init__(self) -> None:
        if self.average not in AVERAGES:
            raise unknown("average", self.average, AVERAGES)

    @property
    def certain(self) -> bool:
        """Whether one query decides: a model may say `deterministic`; else it is what one draw a query implies."""
        said: bool = getattr(self.model, "deterministic", self.eot == 1 and self.counts is None)
        return said

    @property
    def exact(self) -> Model | None:
        """The model in full precision, where the one that is searched is not: it confirms every success."""
        found: Model | None = getattr(self.model, "exact", None)
        return found

    def later(self, draws: int) -> Oracle:
        """Return the oracle whose noise starts `draws` draws later."""
        return replace(self, first_draw=self.first_draw + draws)

    def along(self, step: int, steps: int) -> Oracle:
        """Return the oracle for step 0, 1, ... of an attack's `steps`: gradients of a source that changes on the way.

        A source says so by a method `narrowed(share)`, which returns what serves at that share of the way, in [0, 1].
        """
        narrowed: Callable[[float], Model] | None = getattr(self.source, "narrowed", None)
        return (
            self if narrowed is None else replace(self, source=narrowed(min(step / max(steps - 1, 1), 1.0)))
        )

    def logits(self, x: Tensor, rows: Tensor, step: int = 0) -> Tensor:
        """Return the logits (n, classes) of points (n, ...): log mean probabilities where there are many draws."""
        model = self.exact or self.model
        with torch.no_grad():
            parts = [
                self._decision(*self._ask(model, x[p], rows[p], step), len(rows[p])) for p in self._pieces(x)
            ]
        return torch.cat(parts)

    def look(
        self,
        loss: Loss,
        aim: tuple[Tensor, ...],
        x: Tensor,
        rows: Tensor,
        step: int = 0,
        *,
        gradient: bool = True,
    ) -> Seen:
        """Return logits and `loss(logits, *aim)` of points (n, ...), with its gradient unless not wanted."""
        seen = [
            self._look(loss, tuple(t[p] for t in aim), x[p].detach(), rows[p], step, gradient)
            for p in self._pieces(x)
        ]
        found = Seen(
            *(torch.cat([getattr(s, name) for s in seen]) for name in ("logits", "loss", "gradient"))
        )
        if self.exact is not None:
            wrong = (found.logits.argmax(1) != aim[0]).nonzero().squeeze(1)
            if len(wrong):
                found.logits[wrong] = self.logits(x[wrong], rows[wrong], step).to(found.logits)
        return found

    def _look(
        self, loss: Loss, aim: tuple[Tensor, ...], x: Tensor, rows: Tensor, step: int, gradient: bool
    ) -> Seen:
        own = gradient and self.source is None
        with torch.set_grad_enabled(own):
            leaf = x.requires_grad_(own)
            logits, owners = self._ask(self.model, leaf, rows, step)
            value = self._value(loss, aim, logits, owners)
        slope = torch.zeros_like(x)
        if own:
            slope = _gradient(value, leaf)
        elif gradient and self.source is not None:
            with torch.enable_grad():
                leaf = x.requires_grad_(True)
                slope = _gradient(self._value(loss, aim, *self._ask(self.source, leaf, rows, step)), leaf)
        return Seen(self._decision(logits.detach(), owners, len(x)), value.detach(), slope)

    def _pieces(self, x: Tensor) -> list[slice]:
        draws = 1 if self._once(self.model) and self._once(self.source) else self.stride
        return pieces(len(x), getattr(self.model, "piece", PIECE), draws)

    @property
    def stride(self) -> int:
        """How many draws one query takes from a row's noise, at most."""
        return self.eot if self.counts is None or not len(self.counts) else int(self.counts.max())

    def _once(self, model: Model | None) -> bool:
        return model is None or getattr(model, "deterministic", False) or self.stride == 1

    def _ask(self, model: Model, x: Tensor, rows: Tensor, step: int) -> tuple[Tensor, Tensor | None]:
        """Return logits (n * draws, classes) in float32 or wider, and the row of `x` that each belongs to."""
        first = self.first_draw + step * self.stride
        if self._once(model):
            return _wide(bind(model, rows, torch.full_like(rows, first))(x)), None
        counts = torch.full_like(rows, self.eot) if self.counts is None else self.counts[rows]
        owners = torch.arange(len(x), device=x.device).repeat_interleave(counts)
        starts = (counts.cumsum(0) - counts)[owners]
        draws = first + torch.arange(len(owners), device=x.device) - starts
        repeated: Repeated | None = getattr(model, "repeated", None)
        if repeated is not None:
            return _wide(repeated(rows[owners], draws, owners)(x)), owners
        return _wide(bind(model, rows[owners], draws)(x[owners])), owners

    def _value(self, loss: Loss, aim: tuple[Tensor, ...], logits: Tensor, owners: Tensor | None) -> Tensor:
        if owners is None:
            return loss(logits, *aim)
        if self.average == "logits":
            return loss(_mean(logits, owners, len(aim[0])), *aim)
        return _mean(loss(logits, *(t[owners] for t in aim)), owners, len(aim[0]))

    def _decision(self, logits: Tensor, owners: Tensor | None, n: int) -> Tensor:
        return logits if owners is None else _mean(logits.softmax(1), owners, n).log()

    def settled(self, loss: Loss, aim: tuple[Tensor, ...], x: Tensor, most: int | None) -> Oracle:
        """Return an oracle with as many draws a row as its gradient's direction needs, from `eot` up to `most`.

        Draws double until the mean gradients of two independent sets of them agree (cosine 0.9) at points (n, ...).
        Without `most` it is this one.
        """
        known = getattr(self.model, "deterministic", False) and self._once(self.source)
        if most is None or len(x) == 0 or known:
            return self
        counts = torch.full((len(x),), self.eot, device=x.device)
        left = torch.arange(len(x), device=x.device)
        while len(left) and 2 * int(counts[left[0]]) <= most:
            trial = replace(self, counts=counts)
            one, other = (
                trial.later(half * most)
                .look(loss, tuple(t[left] for t in aim), x[left], left)
                .gradient.flatten(1)
                for half in (0, 1)
            )
            left = left[torch.cosine_similarity(one, other, dim=1) < _SETTLED]
            counts[left] *= 2
        return replace(self, counts=counts).later(2 * most)


def pieces(rows: int, size: int, draws: int = 1) -> list[slice]:
    """Return slices of rows that make about `size` model rows with their draws; a last one of few joins the one before.

    >>> pieces(270, 128), pieces(3, 128)
    ([slice(0, 128, None), slice(128, 270, None)], [slice(0, 3, None)])
    """
    starts = list(range(0, max(rows, 1), max(size // draws, 1)))
    if len(starts) > 1 and (rows - starts[-1]) * draws <= FEW:
        starts.pop()
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], rows], strict=True)]


def bind(model: Model, rows: Tensor, draws: Tensor) -> Model:
    """Return the callable that serves `rows` (n,) with noise `draws` (n,): the model itself without `at`."""
    at: Callable[[Tensor, Tensor], Model] | None = getattr(model, "at", None)
    return model if at is None else at(rows, draws)


def _wide(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _mean(values: Tensor, owners: Tensor, n: int) -> Tensor:
    total = values.new_zeros((n, *values.shape[1:])).index_add(0, owners, values)
    counts = torch.bincount(owners, minlength=n).clamp_min(1).to(values.dtype)
    return total / counts.view(-1, *[1] * (values.dim() - 1))


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
