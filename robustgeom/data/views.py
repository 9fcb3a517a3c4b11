"""Random views of images, as objectives without labels compare them."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from robustgeom.errors import InputError

__all__ = ["relit", "view", "views"]

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
    drawn = torch.rand(7, len(x), generator=generator, device=x.device)
    return view(x, drawn, crop=crop, jitter=jitter, flip=flip)


def view(
    images: Tensor, drawn: Tensor, *, crop: float = 0.3, jitter: float = 0.4, flip: bool = True
) -> Tensor:
    """Return the view of each image (n, c, h, w) that numbers `drawn` (7, n) in [0, 1) stand for; see `views`.

    >>> x = torch.rand(3, 1, 8, 8)
    >>> torch.allclose(view(x, torch.full((7, 3), 0.5), crop=1.0), x, atol=1e-6)
    True
    """
    area, aspect, across, down, side, bright, rich = drawn
    area, aspect = crop + (1 - crop) * area, torch.exp((2 * aspect - 1) * _ASPECT)
    width, height = ((area * part).sqrt().clamp(max=1) for part in (aspect, 1 / aspect))
    mirrored = torch.where(side < 0.5, -1.0, 1.0) if flip else torch.ones_like(side)
    zeros = torch.zeros_like(width)
    rows = [
        torch.stack([width * mirrored, zeros, (1 - width) * (2 * across - 1)], 1),
        torch.stack([zeros, height, (1 - height) * (2 * down - 1)], 1),
    ]
    grid = nn.functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    x = nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return relit(x, bright, rich, jitter)


def relit(images: Tensor, bright: Tensor, rich: Tensor, jitter: float) -> Tensor:
    """Return images in [0, 1] brighter, then richer in contrast, by 1 - `jitter` to 1 + `jitter`.

    bright, rich: (n,) in [0, 1), where in that range each image's factors lie.

    >>> relit(torch.full((1, 1, 2, 2), 0.5), torch.zeros(1), torch.zeros(1), 0.5).unique()
    tensor([0.2500])
    """
    bright, rich = ((1 + jitter * (2 * v - 1)).view(-1, 1, 1, 1) for v in (bright, rich))
    x = images * bright
    mean = x.mean((1, 2, 3), keepdim=True)
    found: Tensor = ((x - mean) * rich + mean).clamp(0, 1)
    return found
