"""Textures that cover an image: plasma clouds and frost, drawn from the generator."""

from __future__ import annotations

import torch
from torch import Tensor

from robustgeom.data.corruptions._frame import Draws
from robustgeom.data.corruptions._sampling import gaussian, smear

__all__ = ["frost_texture", "plasma"]

_TINT = (0.9, 1.0, 1.08)  # frost is bluish


def plasma(images: Tensor, draws: Draws, decay: float) -> Tensor:
    """Return clouds (n, 1, h, w) for images (n, c, h, w): corners of larger ones that each run from 0 to 1.

    Diamond-square on a torus of 1, 2, 4, ... pixels until it covers the image: a square's centre is the mean of
    its corners, an edge's middle that of its ends and the two centres beside it, plus noise that shrinks by
    decay^2 a round (decay is the published constant, which the original squares as well).
    """
    height, width = images.shape[-2:]
    grid, size = images.new_zeros(len(images), 1, 1), 1.0
    while grid.shape[-1] < max(height, width, 2):
        grid = _doubled(grid, draws.uniform(-size, size, 3, *grid.shape[1:]))
        size /= decay**2
    low, high = (bound(grid, (1, 2), keepdim=True) for bound in (torch.amin, torch.amax))
    cloud = (grid - low) / (high - low).clamp_min(torch.finfo(grid.dtype).tiny)
    return cloud[:, None, :height, :width]


def _doubled(grid: Tensor, noise: Tensor) -> Tensor:
    """Put centres and the middles of edges between the points of a grid (n, m, m); noise (n, 3, m, m)."""
    down, right = grid.roll(-1, 1), grid.roll(-1, 2)
    centre = (grid + down + right + down.roll(-1, 2)) / 4 + noise[:, 0]
    level = (grid + right + centre + centre.roll(1, 1)) / 4 + noise[:, 1]
    upright = (grid + down + centre + centre.roll(1, 2)) / 4 + noise[:, 2]
    return _woven(_woven(grid, level, 2), _woven(upright, centre, 2), 1)


def _woven(first: Tensor, second: Tensor, axis: int) -> Tensor:
    return torch.stack([first, second], axis + 1).flatten(axis, axis + 1)


def frost_texture(images: Tensor, draws: Draws) -> Tensor:
    """Return frost (n, 1 or 3, h, w) in [0, 1]: needles over clouds, bluish where the images have colours.

    Brightness runs over that of the original's photographs (means 0.48 to 0.81), as does the deviation inside a
    picture (0.05 to 0.13).
    """
    clouds = plasma(images, draws, 1.5)
    mixed = 0.8 * _standard(_needles(images, draws)) + 0.6 * _standard(clouds)
    base, spread = (draws.uniform(*span, 1, 1, 1) for span in ((0.48, 0.81), (0.05, 0.13)))
    texture = base + spread * mixed
    if images.shape[1] == len(_TINT):
        texture = texture * images.new_tensor(_TINT)[:, None, None]
    return texture.clamp(0, 1)


def _needles(images: Tensor, draws: Draws) -> Tensor:
    """Return the brightest of four sheets of bright dots, each smeared into one direction."""
    height, width = images.shape[-2:]
    side = min(height, width)
    sheets = []
    for _ in range(4):
        dots = draws.uniform(0, 1, 1, height, width) ** 8
        sheets.append(smear(dots, draws.uniform(0, 360), side / 16, side / 16))
    needles = torch.stack(sheets).amax(0)
    return gaussian(needles, side / 300, truncate=4, edge="nearest")


def _standard(texture: Tensor) -> Tensor:
    flat = texture.flatten(1)
    centre = flat - flat.mean(1, keepdim=True)
    return (centre / centre.square().mean(1, keepdim=True).sqrt().clamp_min(1e-6)).view_as(texture)
