"""Where Square's patches go and what they hold, in linf and l2, on planes and on lines.

The draws come in the order of the reference implementation, so that one generator seeded alike repeats its run.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Generator, Tensor

from robustgeom.attacks._start import draw, shared
from robustgeom.threat import ThreatModel, distance, per_row

__all__ = ["Moves", "Patches", "patches_for"]

_TINY = 1e-12
_AHEAD = 256  # signs a row drawn at once, where each row has its own generator
Window = tuple[slice, slice]
Moves = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From the best points (k, ...) of some rows (k,), positions among those left, and which move each makes (k,),
ascending, to the points to try."""


class Patches(ABC):
    """The moves of one run; what it knows of the rows shrinks with them."""

    def __init__(self, inputs: Tensor, threat: ThreatModel, generator: Generator | Sequence[Generator]):
        self.origins, self.threat, self.generator = planes(inputs), threat, generator
        self.common = shared(generator)
        self.rows = torch.arange(len(inputs))

    def keep(self, mask: Tensor) -> None:
        """Drop the rows where `mask` (n,) is false."""
        self.origins, self.threat = self.origins[mask], self.threat.take(mask)
        self.rows = self.rows[mask.cpu()]

    @property
    def ahead(self) -> bool:
        """Whether moves can be drawn ahead of their turn: not where a draw depends on the rows that are left."""
        return True

    @abstractmethod
    def start(self) -> Tensor:
        """Return the first points (n, c, h, w)."""

    @abstractmethod
    def draw(self, parts: list[float]) -> Moves:
        """Return the next moves: patches that cover these parts of the area."""

    def _sign(self, uniform: Tensor) -> Tensor:
        return (2 * uniform - 1).sign().to(self.origins)

    def _room(self, size: tuple[int, int]) -> list[int]:
        return [whole - s for whole, s in zip(self.origins.shape[2:], size, strict=True)]

    def _size(self, part: float, least: int = 1) -> tuple[int, int]:
        """Return height and width of a patch: a square on planes, a stretch on lines."""
        h, w = self.origins.shape[2:]
        if h == 1:
            return 1, min(max(round(part * w), least), w)
        side = min(max(round(math.sqrt(part * h * w)), least), h, w)
        return side, side


class _Linf(Patches):
    """Stripes at first, then patches of one sign a channel, on the ball's corners."""

    def __init__(self, inputs: Tensor, threat: ThreatModel, generator: Generator | Sequence[Generator]):
        super().__init__(inputs, threat, generator)
        low, high = threat.domain
        eps = threat.radii(self.origins)
        self.low, self.high = (self.origins - eps).clamp(low), (self.origins + eps).clamp(max=high)

    def keep(self, mask: Tensor) -> None:
        super().keep(mask)
        self.low, self.high = self.low[mask], self.high[mask]

    def start(self) -> Tensor:
        stripes = draw(torch.rand, self.origins[:, :, :1].float(), self.generator)
        return self.origins + self.threat.radii(self.origins) * self._sign(stripes)

    def draw(self, parts: list[float]) -> Moves:
        # One draw for all moves: two numbers for the place of each, and one a channel for the signs.
        uniform = torch.rand(len(parts), 2 + self.origins.shape[1], generator=self.common)
        sizes = [self._size(part) for part in parts]
        at = (uniform[:, :2] * torch.tensor([self._room(size) for size in sizes])).long()
        inside = self._inside(at, torch.tensor(sizes)).to(self.origins.device)
        sign = self._sign(uniform[:, 2:])[:, :, None, None]
        up, down = inside & (sign > 0), inside & (sign < 0)

        def move(best: Tensor, rows: Tensor, which: Tensor) -> Tensor:
            whole = len(rows) == len(self.low) and len(parts) == 1
            high, low = (self.high, self.low) if whole else (self.high[rows], self.low[rows])
            x = torch.where(up[which], high, planes(best))
            return torch.where(down[which], low, x).view(best.shape)

        return move

    def _inside(self, at: Tensor, sizes: Tensor) -> Tensor:
        """Return the masks (moves, 1, h, w) of the patches at `at` (moves, 2)."""
        across = [torch.arange(whole) for whole in self.origins.shape[2:]]
        h, w = ((at[:, i, None] <= line) & (line < (at + sizes)[:, i, None]) for i, line in enumerate(across))
        return (h[:, :, None] & w[:, None, :])[:, None]


class _L2(Patches):
    """Tiles of bumps at first, then bumps that take over the length of two windows."""

    def __init__(self, inputs: Tensor, threat: ThreatModel, generator: Generator | Sequence[Generator]):
        super().__init__(inputs, threat, generator)
        self.drawn, self.used = torch.empty(0), _AHEAD

    def start(self) -> Tensor:
        n, c, h, w = self.origins.shape
        side = max((w if h == 1 else h) // 5, 1)
        size, delta = (1 if h == 1 else side, side), torch.zeros_like(self.origins)
        begin = 0 if h == 1 else max((h - side * 5) // 2, 0)
        left = max(((w if h == 1 else h) - side * 5) // 2, 0)
        for i in range(h // size[0]):
            for j in range(w // side):
                high = slice(begin + i * size[0], begin + (i + 1) * size[0])
                wide = slice(left + j * side, left + (j + 1) * side)
                if high.stop <= h and wide.stop <= w:
                    delta[:, :, high, wide] += self._bump(size) * self._own_signs(c, n)
        return _onto_sphere(delta, self.origins, self.threat)

    @property
    def ahead(self) -> bool:
        return not isinstance(self.generator, Generator)

    def draw(self, parts: list[float]) -> Moves:
        moves = [self._move(part) for part in parts]

        def move(best: Tensor, rows: Tensor, which: Tensor) -> Tensor:
            if len(moves) == 1:
                return moves[0](best, rows)
            made = [(moves[j], which == j) for j in sorted(set(which.tolist()))]
            return torch.cat([one(best[own], rows[own]) for one, own in made])

        return move

    def _move(self, part: float) -> Callable[[Tensor, Tensor], Tensor]:
        n, c = self.origins.shape[:2]
        size = self._odd(part)
        to, other = self._place(size), self._place(size)
        bump = self._bump(size) * self._own_signs(c, n)

        def move(best: Tensor, rows: Tensor) -> Tensor:
            threat, origins = self.threat.take(rows), self.origins[rows]
            delta = planes(best) - origins
            left = (threat.radii(delta).square() - delta.square().sum((1, 2, 3), keepdim=True)).clamp_min(0)
            here = delta[:, :, *to]
            length = _squares(here)
            free = left / c + length + _squares(delta[:, :, *other]) - _squares(_overlap(delta, to, other))
            new = bump[rows] + here / (length.sqrt() + _TINY)
            new = new / (_squares(new).sqrt() + _TINY) * free.clamp_min(0).sqrt()
            delta[:, :, *other] = 0
            delta[:, :, *to] = new
            return _onto_sphere(delta, origins, threat).view(best.shape)

        return move

    def _place(self, size: tuple[int, int]) -> Window:
        at = [int(torch.rand(1, generator=self.common) * room) for room in self._room(size)]
        return slice(at[0], at[0] + size[0]), slice(at[1], at[1] + size[1])

    def _odd(self, part: float) -> tuple[int, int]:
        h, w = self.origins.shape[2:]
        size = self._size(part, least=3)[1]
        side = min(size + (size % 2 == 0), w if h == 1 else min(h, w))
        return (1 if h == 1 else side), side

    def _bump(self, size: tuple[int, int]) -> Tensor:
        bump = _bump(size).to(self.origins)
        return bump.T if float(torch.rand(1, generator=self.common)) > 0.5 and size[0] > 1 else bump

    def _own_signs(self, c: int, n: int) -> Tensor:
        if isinstance(self.generator, Generator):
            return self._sign(torch.rand(n, c, 1, 1, generator=self.generator))
        if self.used == _AHEAD:
            # All rows draw, also those that left: a row's stream must not depend on the others.
            like = torch.empty(len(self.generator), _AHEAD, c)
            self.drawn, self.used = self._sign(draw(torch.rand, like, self.generator)), 0
        self.used += 1
        return self.drawn[self.rows, self.used - 1].view(n, c, 1, 1).to(self.origins)


def _onto_sphere(delta: Tensor, origins: Tensor, threat: ThreatModel) -> Tensor:
    size = per_row(distance(delta, torch.zeros_like(delta), "l2"), delta)
    scaled = delta * (threat.radii(delta) / (size + _TINY))
    return (origins + scaled).clamp(*threat.domain)


def planes(inputs: Tensor) -> Tensor:
    """Return inputs (n, ...) as (n, channels, height, width); vectors and waveforms have height 1."""
    if inputs.dim() == 4:
        return inputs
    channels = inputs.shape[1] if inputs.dim() == 3 else 1
    return inputs.reshape(len(inputs), channels, 1, math.prod(inputs.shape[1:]) // max(channels, 1))


def patches_for(inputs: Tensor, threat: ThreatModel, generator: Generator | Sequence[Generator]) -> Patches:
    """Return the patches of the threat's norm."""
    kind = _Linf if threat.norm == "linf" else _L2
    return kind(inputs, threat, generator)


def _squares(part: Tensor) -> Tensor:
    return part.square().sum((2, 3), keepdim=True)


def _overlap(delta: Tensor, first: Window, second: Window) -> Tensor:
    cut = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(first, second, strict=True)]
    empty = any(c.start >= c.stop for c in cut)
    return delta[:, :, :0, :0] if empty else delta[:, :, *cut]


@cache
def _bump(size: tuple[int, int]) -> Tensor:
    """Return two pyramids of opposite sign (h, w), side by side, of length 1 together."""
    h, w = size
    if h == 1:
        halves = [_pyramid(1, w // 2), -_pyramid(1, w - w // 2)]
        delta = torch.cat(halves, 1)
    else:
        delta = torch.cat([_pyramid(h // 2, w), -_pyramid(h - h // 2, w)], 0)
    return delta / delta.square().sum().sqrt()


def _pyramid(h: int, w: int) -> Tensor:
    """Return nested rectangles (h, w) around the middle, each worth less than the one inside, of length 1."""
    delta = torch.zeros(h, w)
    middle = h // 2 + 1, w // 2 + 1
    top, left = middle[0] - 1, middle[1] - 1
    for ring in range(max(middle)):
        high = slice(max(top - ring, 0), min(top + ring + 1, h))
        wide = slice(max(left - ring, 0), min(left + ring + 1, w))
        delta[high, wide] += 1 / (ring + 1) ** 2
    return delta / delta.square().sum().sqrt().clamp_min(_TINY)
