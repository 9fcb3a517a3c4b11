"""What all corruptions share: the door, pieces of the batch, draws, and which constants hold at which size.

Sizes. The side of an image is the shorter of height and width. Up to 64 pixels the constants of CIFAR-10-C hold,
above them those of ImageNet-C. Both are given for one side (32 and 224): lengths in pixels are multiplied by
side / 32 or side / 224, so that 32 and 224 get the published numbers and other sizes the same picture in finer or
coarser pixels. Shares and strengths are the same at every size.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Generator, Tensor

from robustgeom import checks
from robustgeom.errors import InputError

__all__ = ["Draws", "Randomness", "apply", "constants"]

Randomness = Generator | Sequence[Generator] | None

WORST = 5
SMALL = 64
CIFAR_SIDE, IMAGENET_SIDE = 32, 224
_PIECE = 2**20  # numbers in a piece of the batch: bounds the memory, and small ones stay in the cache

Constants = TypeVar("Constants")


class Draws:
    """Random draws for the rows of a batch (n, ...), always in float32 so that a seed means the same in any dtype."""

    def __init__(self, like: Tensor, generator: Generator | Sequence[Generator]) -> None:
        self._like = like
        self._generator = generator

    def _each(self, one: Callable[[int | None, Generator], Tensor]) -> Tensor:
        if isinstance(self._generator, Generator):
            drawn = one(None, self._generator)
        else:
            drawn = torch.stack([one(row, g) for row, g in enumerate(self._generator)])
        return drawn.to(self._like)

    def _sample(self, sampler: Callable[..., Tensor], shape: Sequence[int]) -> Tensor:
        def one(row: int | None, generator: Generator) -> Tensor:
            size = [*shape] if row is not None else [len(self._like), *shape]
            return sampler(size, generator=generator, dtype=torch.float32)

        return self._each(one)

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers (n, *shape)."""
        return self._sample(torch.randn, shape)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Return numbers (n, *shape) uniform between `low` and `high`."""
        return low + (high - low) * self._sample(torch.rand, shape)

    def poisson(self, rates: Tensor) -> Tensor:
        """Return Poisson counts with the expected counts `rates` (n, ...)."""
        rates = rates.to("cpu", torch.float32)
        return self._each(lambda row, g: torch.poisson(rates if row is None else rates[row], generator=g))


Change = Callable[[Tensor, int, Draws], Tensor]


def apply(change: Change, images: Tensor, severity: int, generator: Randomness) -> Tensor:
    """Check what was given and return the changed images, cut to [0, 1], in the shape and dtype they came in."""
    _check(images, severity, generator)
    images = images.detach()
    if severity == 0 or images.numel() == 0:
        return images.clone()
    source = Generator().manual_seed(0) if generator is None else generator
    wide = images.to(torch.promote_types(images.dtype, torch.float32))
    size = max(1, _PIECE // wide[0].numel())
    changed = []
    with torch.no_grad():
        for start in range(0, len(wide), size):
            piece = wide[start : start + size]
            part = source if isinstance(source, Generator) else source[start : start + size]
            changed.append(change(piece, int(severity), Draws(piece, part)).clamp(0, 1))
    return torch.cat(changed).to(images.dtype)


def constants(
    images: Tensor, severity: int, cifar: Sequence[Constants], imagenet: Sequence[Constants]
) -> tuple[Constants, float]:
    """Return the row of the table that holds for images of this size, and the factor for lengths in pixels."""
    side = min(images.shape[-2:])
    if side <= SMALL:
        return cifar[severity - 1], side / CIFAR_SIDE
    return imagenet[severity - 1], side / IMAGENET_SIDE


def _check(images: Tensor, severity: int, generator: Randomness) -> None:
    checks.inputs(images, domain=(0.0, 1.0))
    if images.dim() != 4:
        raise InputError(
            "images (n, channels, height, width)", got=f"shape {tuple(images.shape)}", fix="images[None]"
        )
    whole = isinstance(severity, numbers.Integral) and not isinstance(severity, bool)
    if not whole or not 0 <= severity <= WORST:
        raise InputError(f"a whole severity from 0 to {WORST}", got=repr(severity), fix="severity=3")
    if generator is None or isinstance(generator, Generator):
        return
    if not isinstance(generator, Sequence) or not all(isinstance(g, Generator) for g in generator):
        raise InputError("one generator, or one a row", got=type(generator).__name__, fix="torch.Generator()")
    if len(generator) != len(images):
        raise InputError(
            f"{len(images)} generators, one a row", got=str(len(generator)), fix="a single torch.Generator()"
        )
