"""Random places to read an image at: an affine map, and waves."""

from __future__ import annotations

import torch
from torch import Tensor

from robustgeom.data.corruptions._frame import Draws
from robustgeom.data.corruptions._sampling import gaussian

__all__ = ["affine_places", "wavy_places"]


def wavy_places(images: Tensor, strength: float, sigma: float, draws: Draws) -> tuple[Tensor, Tensor]:
    """Return where each pixel is read, (n, h, w) down and across: moved by smoothed uniform noise x `strength`."""
    noise = draws.uniform(-1, 1, 2, *images.shape[2:])
    moves = strength * gaussian(noise, sigma, truncate=3, edge="reflect")
    rows, columns = _grid(images)
    return rows + moves[:, 0], columns + moves[:, 1]


def affine_places(images: Tensor, farthest: float, draws: Draws) -> tuple[Tensor, Tensor]:
    """Return where each pixel is read, (n, h, w) down and across: three points move by at most `farthest` pixels.

    The points are three corners of a square two thirds as large as the image.
    """
    height, width = images.shape[-2:]
    half = min(height, width) // 3
    corners = images.new_tensor([[1, 1], [1, -1], [-1, -1]], dtype=torch.float64) * max(half, 1)
    points = corners + corners.new_tensor([height // 2, width // 2])
    moved = points + draws.uniform(-farthest, farthest, 3, 2).double()
    # Rows [down, across, 1] at the moved points, times the map, are the points themselves.
    ones = torch.ones_like(moved[..., :1])
    back = torch.linalg.solve(torch.cat([moved, ones], 2), points.expand_as(moved))
    rows, columns = (axis.double().flatten() for axis in _grid(images))
    places = torch.stack([rows, columns, torch.ones_like(rows)], 1) @ back
    down, across = places.to(images.dtype).unflatten(1, (height, width)).unbind(3)
    return down, across


def _grid(images: Tensor) -> tuple[Tensor, Tensor]:
    height, width = images.shape[-2:]
    rows = torch.arange(height, dtype=images.dtype, device=images.device)[:, None].expand(height, width)
    return rows, torch.arange(width, dtype=images.dtype, device=images.device).expand(height, width)
