"""Blur: out of focus, through frosted glass, by motion, by zoom."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from robustgeom.data.corruptions._frame import Draws, Randomness, apply, constants
from robustgeom.data.corruptions._sampling import (
    fold,
    gaussian,
    gaussian_taps,
    separable,
    smear,
    zoom,
)

__all__ = ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur"]

# (radius of the disk, sigma of its softened edge), in pixels
_DEFOCUS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))
_DEFOCUS_LARGE = ((3.0, 0.1), (4.0, 0.5), (6.0, 0.5), (8.0, 0.5), (10.0, 0.5))
# (sigma of the blur before and after, farthest move, rounds of moves); the first two in pixels
_GLASS = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
_GLASS_LARGE = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
# (half the length, sigma along it), in pixels
_MOTION = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))
_MOTION_LARGE = ((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0))
# (end, step) of the zoom factors, which start at 1
_ZOOM = ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01))
_ZOOM_LARGE = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))


def defocus_blur(images: Tensor, severity: int, generator: Randomness = None) -> Tensor:
    """Return images (n, c, h, w) in [0, 1] out of focus: averaged over a disk with a softened edge.

    Parameters: the disk's radius and the edge's sigma, in pixels. Nothing is drawn. Severity 0 to 5. Raises
    `InputError` on bad arguments. Hendrycks & Dietterich 2019, arXiv:1903.12261.

    >>> defocus_blur(torch.full((1, 1, 8, 8), 0.5), 5).std() < 1e-6
    tensor(True)
    """
    return apply(_defocus_blur, images, severity, generator)


def _defocus_blur(images: Tensor, severity: int, draws: Draws) -> Tensor:
    del draws
    (radius, sigma), scale = constants(images, severity, _DEFOCUS, _DEFOCUS_LARGE)
    kernel = _rescaled(_disk(radius, sigma), scale).to(images)
    size = len(kernel) // 2
    rows, columns = (
        fold(torch.arange(-size, length + size, device=images.device), length, "mirror")
        for length in images.shape[-2:]
    )
    padded = images[..., rows, :][..., columns].flatten(0, 1)[:, None]
    return functional.conv2d(padded, kernel[None, None]).view_as(images)


def _disk(radius: float, sigma: float) -> Tensor:
    """Return the published kernel: the pixels inside the disk, softened by a Gaussian cut off after 1 or 2."""
    reach = 1 if radius <= 8 else 2
    size = int(radius) + reach
    places = torch.arange(-size, size + 1, dtype=torch.float64)
    disk = (places[:, None] ** 2 + places**2 <= radius**2).double()
    taps = gaussian_taps(sigma, reach)
    kernel = (taps[:, None] * taps)[None, None]
    return functional.conv2d((disk / disk.sum())[None, None], kernel, padding=reach)[0, 0]


def _rescaled(kernel: Tensor, scale: float) -> Tensor:
    """Return the kernel in pixels `scale` times as fine: each old pixel's weight goes where it comes to lie."""
    reach = len(kernel) // 2
    size = math.ceil((reach + 0.5) * scale - 0.5)
    old = torch.arange(-reach, reach + 1, dtype=torch.float64) * scale
    new = torch.arange(-size, size + 1, dtype=torch.float64)[:, None]
    ends = torch.minimum(new + 0.5, old + scale / 2), torch.maximum(new - 0.5, old - scale / 2)
    overlap = (ends[0] - ends[1]).clamp_min(0) / scale
    return separable(kernel, overlap, overlap)


def glass_blur(images: Tensor, severity: int, generator: Randomness = None) -> Tensor:
    """Return images (n, c, h, w) in [0, 1] as through frosted glass: pixels take a near one's place.

    Parameters: the sigma of a Gaussian blur before and after and the farthest move, both in pixels, and how often
    pixels move. Severity 0 to 5. Raises `InputError` on bad arguments. Hendrycks & Dietterich 2019,
    arXiv:1903.12261.

    >>> glass_blur(torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)), 1).shape
    torch.Size([1, 1, 8, 8])
    """
    return apply(_glass_blur, images, severity, generator)


def _glass_blur(images: Tensor, severity: int, draws: Draws) -> Tensor:
    (sigma, farthest, rounds), scale = constants(images, severity, _GLASS, _GLASS_LARGE)
    images = gaussian(images, sigma * scale, truncate=4, edge="nearest")
    for _ in range(rounds):
        images = _moved(images, max(1.0, farthest * scale), draws)
    return gaussian(images, sigma * scale, truncate=4, edge="nearest")


def _moved(images: Tensor, farthest: float, draws: Draws) -> Tensor:
    """Give each pixel, from the last to the first, the value that one at most `farthest` away has by then.

    A rim of the image stays as it is.
    """
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device)[:, None]
    columns = torch.arange(width, device=images.device)
    moves = draws.uniform(-farthest, farthest, 2, height, width).floor().long()
    inside = (rows > farthest) & (rows <= height - farthest)
    inside = inside & (columns > farthest) & (columns <= width - farthest)
    near = torch.where(inside, (rows + moves[:, 0]) * width + columns + moves[:, 1], rows * width + columns)
    source = _resolved(near.flatten(1))[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, source).view_as(images)


def _resolved(near: Tensor) -> Tensor:
    """Return whose value each pixel ends with (n, h w), where `near` (n, h w) is whom it takes its value from.

    One that comes after its taker has been given a value before, and hands that on: such links are followed to
    their end, twice as far each time.
    """
    own = torch.arange(near.shape[1], device=near.device)
    link = torch.where(near > own, near, own)
    while not torch.equal(farther := link.gather(1, link), link):
        link = farther
    return near.gather(1, link)


def motion_blur(images: Tensor, severity: int, generator: Randomness = None) -> Tensor:
    """Return images (n, c, h, w) in [0, 1] smeared along a line, at an angle within 45 degrees of level.

    Parameters: half the line's length and the sigma of the weights along it, in pixels. Severity 0 to 5. Raises
    `InputError` on bad arguments. Hendrycks & Dietterich 2019, arXiv:1903.12261.

    >>> motion_blur(torch.full((1, 1, 8, 8), 0.5), 5).std() < 1e-6
    tensor(True)
    """
    return apply(_motion_blur, images, severity, generator)


def _motion_blur(images: Tensor, severity: int, draws: Draws) -> Tensor:
    (radius, sigma), scale = constants(images, severity, _MOTION, _MOTION_LARGE)
    return smear(images, draws.uniform(-45, 45), radius * scale, sigma * scale)


def zoom_blur(images: Tensor, severity: int, generator: Randomness = None) -> Tensor:
    """Return images (n, c, h, w) in [0, 1] as a camera sees that nears them: averaged over zooms of the middle.

    Parameters: the zoom factors, from 1 up in steps. Nothing is drawn. Severity 0 to 5. Raises `InputError` on bad
    arguments. Hendrycks & Dietterich 2019, arXiv:1903.12261.

    >>> zoom_blur(torch.full((1, 1, 8, 8), 0.5), 5).std() < 1e-6
    tensor(True)
    """
    return apply(_zoom_blur, images, severity, generator)


def _zoom_blur(images: Tensor, severity: int, draws: Draws) -> Tensor:
    del draws
    (end, step), _ = constants(images, severity, _ZOOM, _ZOOM_LARGE)
    factors = np.arange(1, end, step)  # as published: rounding decides whether `end` itself is one
    total = images.clone()
    for factor in factors.tolist():
        total += zoom(images, factor)
    return total / (len(factors) + 1)
