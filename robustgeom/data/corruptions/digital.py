"""Digital: contrast, elastic transform, pixelate, JPEG."""

from __future__ import annotations

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from robustgeom.data.corruptions._frame import (
    CIFAR_SIDE,
    Draws,
    Randomness,
    apply,
    constants,
)
from robustgeom.data.corruptions._sampling import bilinear, separable
from robustgeom.data.corruptions._warps import affine_places, wavy_places

__all__ = ["contrast", "elastic_transform", "jpeg_compression", "pixelate"]

# (strength of the waves, their sigma, largest move of the affine map's three points), in pixels
_ELASTIC = tuple(
    tuple(CIFAR_SIDE * share for share in row)
    for row in ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
)
_ELASTIC_LARGE = tuple(
    tuple(244 * share for share in row)  # 244, not 224: so published
    for row in ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
)


def contrast(images: Tensor, severity: int, generator: Randomness = None) -> Tensor:
    """Return images (n, c, h, w) in [0, 1] with less contrast: nearer to each channel's mean.

    Parameter: what is left of the distance to the mean. Nothing is drawn. Severity 0 to 5. Raises `InputError` on
    bad arguments. Hendrycks & Dietterich 2019, arXiv:1903.12261.

    >>> contrast(torch.tensor([[[[0.0, 1.0]]]]), 2).tolist()
    [[[[0.25, 0.75]]]]
    """
    return apply(_contrast, images, severity, generator)


def _contrast(images: Tensor, severity: int, draws: Draws) -> Tensor:
    del draws
    left, _ = constants(images, severity, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05))
    mean = images.mean((2, 3), keepdim=True)
    return mean + left * (images - mean)


def elastic_transform(images: Tensor, severity: int, generator: Randomness = None) -> Tensor:
    """Return images (n, c, h, w) in [0, 1] under a random affine map, then under random waves.

    Parameters: strength and sigma of the waves and the largest move of the three points that fix the affine map,
    in pixels. Severity 0 to 5. Raises `InputError` on bad arguments. Hendrycks & Dietterich 2019,
    arXiv:1903.12261.

    >>> elastic_transform(torch.full((1, 1, 8, 8), 0.5), 5).std() < 1e-6
    tensor(True)
    """
    return apply(_elastic_transform, images, severity, generator)


def _elastic_transform(images: Tensor, severity: int, draws: Draws) -> Tensor:
    (strength, sigma, farthest), scale = constants(images, severity, _ELASTIC, _ELASTIC_LARGE)
    images = bilinear(images, *affine_places(images, farthest * scale, draws), edge="mirror")
    if strength == 0:
        return images
    # A Gaussian `scale` times as wide averages over scale^2 as many draws, which divides the waves by `scale`;
    # for them to be `scale` times as high, their strength grows with its square.
    places = wavy_places(images, strength * scale**2, sigma * scale, draws)
    return bilinear(images, *places, edge="reflect")


def pixelate(images: Tensor, severity: int, generator: Randomness = None) -> Tensor:
    """Return images (n, c, h, w) in [0, 1] shrunk and enlarged again by box filters.

    Parameter: the smaller image's share of the side. Nothing is drawn. Severity 0 to 5. Raises `InputError` on bad
    arguments. Hendrycks & Dietterich 2019, arXiv:1903.12261.

    >>> pixelate(torch.full((1, 1, 8, 8), 0.5), 5).std() < 1e-6
    tensor(True)
    """
    return apply(_pixelate, images, severity, generator)


def _pixelate(images: Tensor, severity: int, draws: Draws) -> Tensor:
    del draws
    share, _ = constants(images, severity, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25))
    down, across = (_there_and_back(size, share).to(images) for size in images.shape[-2:])
    return separable(images, down, across)


def _there_and_back(size: int, share: float) -> Tensor:
    small = max(int(size * share), 1)
    return _box(small, size) @ _box(size, small)


def _box(sources: int, targets: int) -> Tensor:
    """Return the matrix (targets, sources) of a box filter: the mean of the pixels whose centres the box holds."""
    ratio = sources / targets
    centres = (torch.arange(targets, dtype=torch.float64) + 0.5) * ratio
    offset = (torch.arange(sources, dtype=torch.float64) + 0.5 - centres[:, None]) / max(ratio, 1.0)
    inside = ((offset > -0.5) & (offset <= 0.5)).double()
    return inside / inside.sum(1, keepdim=True)


def jpeg_compression(images: Tensor, severity: int, generator: Randomness = None) -> Tensor:
    """Return images (n, c, h, w) in [0, 1] after saving as JPEG and reading again.

    Parameter: the quality. Values are rounded to 8 bits first; where there are neither 1 nor 3 channels, each is
    saved as a grey image. Nothing is drawn. Severity 0 to 5. Raises `InputError` on bad arguments. Hendrycks &
    Dietterich 2019, arXiv:1903.12261.

    >>> jpeg_compression(torch.full((1, 3, 8, 8), 0.5), 5).std()
    tensor(0.)
    """
    return apply(_jpeg_compression, images, severity, generator)


def _jpeg_compression(images: Tensor, severity: int, draws: Draws) -> Tensor:
    del draws
    quality, _ = constants(images, severity, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7))
    coloured = images.shape[1] == 3
    pictures = images.permute(0, 2, 3, 1) if coloured else images.flatten(0, 1)
    raw = (pictures * 255).round().clamp(0, 255).to("cpu", torch.uint8).numpy()
    read = torch.from_numpy(np.stack([_round_trip(picture, quality) for picture in raw])).to(images) / 255
    return read.permute(0, 3, 1, 2) if coloured else read.view_as(images)


def _round_trip(picture: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))
