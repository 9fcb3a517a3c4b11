"""How a network takes in what it is given: images of a size and a data set's scale, or another network's maps."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from robustgeom.errors import InputError, unknown
from robustgeom.models.parts import Normalise

__all__ = ["REDUCED_FROM", "entry", "normalisation"]

REDUCED_FROM = 64
"""Images of so many pixels a side, or more, are reduced to a quarter of it before the first stage."""


def normalisation(
    stem: str, channels: int, mean: float | Sequence[float], deviation: float | Sequence[float]
) -> nn.Module:
    """Return `Normalise` for stem "image", and nothing to do for stem "none", which takes feature maps.

    mean, deviation: one number, or one a channel, of images in [0, 1]. Raises `UnknownNameError` on another stem
    and `InputError` on numbers that do not fit.

    >>> normalisation("none", 16, 0.5, 0.25)
    Identity()
    """
    if stem not in ("image", "none"):
        raise unknown("stem", stem, ("image", "none"))
    if stem == "none":
        return nn.Identity()
    for name, value in (("mean", mean), ("deviation", deviation)):
        if isinstance(value, Sequence) and len(value) != channels:
            fix = f"one number, or {channels}"
            raise InputError(f"one {name}, or one for each of {channels} channels", got=str(value), fix=fix)
    if not all(d > 0 for d in (deviation if isinstance(deviation, Sequence) else (deviation,))):
        raise InputError("deviation > 0", got=str(deviation), fix="that of the training images")
    return Normalise(mean, deviation)


def entry(channels: int, width: int, size: int) -> list[nn.Module]:
    """Return the layers by which images (n, channels, size, size) enter a residual network, to `width` channels.

    A 3x3 convolution; from 64 pixels on a 7x7 one of stride 2 and max pooling of stride 2 (He et al. 2016,
    arXiv:1512.03385), so that a 224-pixel image costs its first stage what a 56-pixel one would.

    >>> len(entry(3, 16, 32)), len(entry(3, 16, 224))
    (1, 2)
    """
    if size < REDUCED_FROM:
        return [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
    return [nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False), nn.MaxPool2d(3, 2, padding=1)]
