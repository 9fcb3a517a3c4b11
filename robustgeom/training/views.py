"""Random views of images, as objectives without labels compare them."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from robustgeom.errors import InputError

__all__ = ["views"]

_ASPECT = math.log(4 / 3)  # of crops, either way


def views(
    images: Tensor,
    count: int,
    generator: Generator,
    *,
    crop: float = 0.3,
    jitter: float = 0.4,
    flip: bool = True,
) -> Tensor:
    """Return `count` views of each of the images (n, c, h, w) in [0, 1], those of one image in consecutive rows.

    A view is a crop of `crop` to all of the area, between 3:4 and 4:3 and enlarged to the image's size, mirrored or
    not, and made brighter and richer in contrast by factors of 1 - `jitter` to 1 + `jitter`. The generator is on the
    images' device. Raises `InputError` on other inputs and settings.

    >>> views(torch.rand(3, 1, 8, 8), 2, Generator().manual_seed(0)).shape
    torch.Size([6, 1, 8, 8])
    """
    if images.dim() != 4 or not 0 < crop <= 1 or not 0 <= jitter < 1 or count < 1:
        got = f"shape {tuple(images.shape)}, count={count}, crop={crop}, jitter={jitter}"
        raise InputError(
            "images, a view, 0 < crop <= 1 and 0 <= jitter < 1", got=got, fix="crop=0.3, jitter=0.4"
        )
    x = images.repeat_interleave(count, 0)
    area, aspect, across, down, side, bright, rich = torch.rand(
        7, len(x), generator=generator, device=x.device
    )
    area, aspect = crop + (1 - crop) * area, torch.exp((2 * aspect - 1) * _ASPECT)
    width, height = ((area * part).sqrt().clamp(max=1) for part in (aspect, 1 / aspect))
    mirrored = torch.where(side < 0.5, -1.0, 1.0) if flip else torch.ones_like(side)
    zeros = torch.zeros_like(width)
    rows = [
        torch.stack([width * mirrored, zeros, (1 - width) * (2 * across - 1)], 1),
        torch.stack([zeros, height, (1 - height) * (2 * down - 1)], 1),
    ]
    grid = nn.functional.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    x = nn.functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
    bright, rich = ((1 + jitter * (2 * v - 1)).view(-1, 1, 1, 1) for v in (bright, rich))
    x = x * bright
    mean = x.mean((1, 2, 3), keepdim=True)
    found: Tensor = ((x - mean) * rich + mean).clamp(0, 1)
    return found
