"""Filters and resampling of images (n, c, h, w); what runs along rows and columns apart is one matrix for each."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

__all__ = ["bilinear", "fold", "gaussian", "gaussian_taps", "linear", "pick", "separable", "smear", "zoom"]

Edge = Literal["nearest", "mirror", "reflect"]


def fold(index: Tensor, size: int, edge: Edge) -> Tensor:
    """Bring positions beyond the edge back to 0 ... size - 1.

    Beyond "abc", nearest reads "ccc", mirror "ba" and reflect "cba".

    >>> [fold(torch.arange(-2, 5), 3, edge).tolist() for edge in ("nearest", "mirror", "reflect")]
    [[0, 0, 0, 1, 2, 2, 2], [2, 1, 0, 1, 2, 1, 0], [1, 0, 0, 1, 2, 2, 1]]
    """
    if edge == "nearest":
        return index.clamp(0, size - 1)
    if edge == "mirror":
        period = max(2 * (size - 1), 1)
        index = index % period
        return torch.minimum(index, period - index)
    index = index % (2 * size)
    return torch.minimum(index, 2 * size - 1 - index)


def separable(images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Apply the matrix `down` (h', h) to the columns and `across` (w', w) to the rows of images (..., h, w)."""
    return down @ images @ across.mT


def gaussian_taps(sigma: float, reach: int) -> Tensor:
    """Return the weights of a Gaussian at -reach ... reach pixels; they sum to 1.

    >>> gaussian_taps(1.0, 1)
    tensor([0.2741, 0.4519, 0.2741], dtype=torch.float64)
    """
    places = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (places / max(sigma, 1e-6)) ** 2)
    return weights / weights.sum()


def gaussian(images: Tensor, sigma: float, *, truncate: float, edge: Edge) -> Tensor:
    """Blur images (..., h, w) with a Gaussian of `sigma` pixels, cut off at `truncate` sigmas."""
    taps = gaussian_taps(sigma, int(truncate * sigma + 0.5))
    down, across = (_smoothing(size, taps, edge).to(images) for size in images.shape[-2:])
    return separable(images, down, across)


def _smoothing(size: int, taps: Tensor, edge: Edge) -> Tensor:
    reach = len(taps) // 2
    index = torch.arange(size)[:, None] + torch.arange(-reach, reach + 1)
    blank = torch.zeros(size, size, dtype=taps.dtype)
    return blank.scatter_add_(1, fold(index, size, edge), taps.expand(size, -1))


def linear(size: int, positions: Tensor) -> Tensor:
    """Return the matrix (k, size) that interpolates linearly at `positions` (k,) between 0 and size - 1.

    >>> linear(3, torch.tensor([0.0, 1.25]))
    tensor([[1.0000, 0.0000, 0.0000],
            [0.0000, 0.7500, 0.2500]])
    """
    low = positions.floor().clamp(0, size - 1)
    share = positions - low
    index = torch.stack([low, (low + 1).clamp(max=size - 1)], 1).long()
    blank = torch.zeros(len(positions), size, dtype=positions.dtype)
    return blank.scatter_add_(1, index, torch.stack([1 - share, share], 1))


def pick(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return pixel (rows, columns), each (n, h', w') whole numbers inside the image, of images (n, c, h, w)."""
    n, channels, _, width = images.shape
    places = (rows * width + columns).flatten(1)[:, None].expand(-1, channels, -1)
    return images.flatten(2).gather(2, places).view(n, channels, *rows.shape[1:])


def bilinear(images: Tensor, rows: Tensor, columns: Tensor, edge: Edge) -> Tensor:
    """Return images (n, c, h, w) read at fractional places (rows, columns), each (n, h', w')."""
    height, width = images.shape[-2:]
    top, left = rows.floor(), columns.floor()
    weight_down, weight_across = (rows - top)[:, None], (columns - left)[:, None]
    found = torch.zeros((), dtype=images.dtype, device=images.device)
    for down in (0, 1):
        for across in (0, 1):
            row = fold(top.long() + down, height, edge)
            column = fold(left.long() + across, width, edge)
            weight = (weight_down if down else 1 - weight_down) * (
                weight_across if across else 1 - weight_across
            )
            found = found + weight * pick(images, row, column)
    return found


def smear(images: Tensor, degrees: Tensor, radius: float, sigma: float) -> Tensor:
    """Average images (n, c, h, w) along a line that leaves each pixel at the angle `degrees` (n,).

    The weights are one half of a Gaussian of `sigma` pixels at 0, 1, ... 2 radius pixels; places are rounded to
    whole pixels and stay inside the image.
    """
    height, width = images.shape[-2:]
    steps = 2 * math.ceil(radius) + 1
    weights = torch.exp(-0.5 * (torch.arange(steps, dtype=torch.float64) / sigma) ** 2)
    angle = torch.deg2rad(degrees.double()).to(images.device)
    rows = torch.arange(height, device=images.device)[None, :, None]
    columns = torch.arange(width, device=images.device)[None, None, :]
    found = torch.zeros_like(images)
    for step, weight in enumerate((weights / weights.sum()).tolist()):
        down = torch.ceil(step * torch.sin(angle) - 0.5).long()[:, None, None]
        across = torch.ceil(step * torch.cos(angle) - 0.5).long()[:, None, None]
        row = fold(rows + down, height, "nearest").expand(-1, -1, width)
        column = fold(columns + across, width, "nearest").expand(-1, height, -1)
        found += weight * pick(images, row, column)
    return found


def zoom(images: Tensor, factor: float) -> Tensor:
    """Return the middle of images (n, c, h, w), enlarged by `factor` >= 1 with linear interpolation.

    >>> zoom(torch.eye(4)[None, None], 1.0).equal(torch.eye(4)[None, None])
    True
    """
    down, across = (_enlarging(size, factor).to(images) for size in images.shape[-2:])
    return separable(images, down, across)


def _enlarging(size: int, factor: float) -> Tensor:
    cut = math.ceil(size / factor)
    grown = round(cut * factor)
    places = torch.arange(size, dtype=torch.float64) + (grown - size) // 2
    return linear(size, (size - cut) // 2 + places * (cut - 1) / max(grown - 1, 1))
