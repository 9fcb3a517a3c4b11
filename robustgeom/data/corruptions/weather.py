"""Weather: snow, frost, fog, brightness; what covers the image is drawn from the generator."""

from __future__ import annotations

import torch
from torch import Tensor

from robustgeom.data.corruptions._frame import Draws, Randomness, apply, constants
from robustgeom.data.corruptions._sampling import smear, zoom
from robustgeom.data.corruptions._textures import frost_texture, plasma

__all__ = ["brightness", "fog", "frost", "snow"]

# (mean and deviation of the noise flakes are cut from, their zoom, the threshold, half the length and sigma of
# their fall in pixels, the share of the image that is not whitened)
_SNOW = (
    (0.1, 0.2, 1.0, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)
_SNOW_LARGE = (
    (0.1, 0.3, 3.0, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2.0, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4.0, 0.9, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)
# (weight of the image, weight of the frost)
_FROST = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))
_FROST_LARGE = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
# (weight of the fog, how fast its finer parts fade)
_FOG = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))
_FOG_LARGE = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def snow(images: Tensor, severity: int, generator: Randomness = None) -> Tensor:
    """Return images (n, c, h, w) in [0, 1] whitened and behind falling flakes.

    Parameters: mean and deviation of the noise that flakes are cut from, its zoom, the threshold, length and
    sigma of the fall in pixels, the share of the image that is not whitened. Severity 0 to 5. Raises `InputError`
    on bad arguments. Hendrycks & Dietterich 2019, arXiv:1903.12261.

    >>> snow(torch.full((1, 1, 32, 32), 0.2), 5).mean() > 0.3
    tensor(True)
    """
    return apply(_snow, images, severity, generator)


def _snow(images: Tensor, severity: int, draws: Draws) -> Tensor:
    row, scale = constants(images, severity, _SNOW, _SNOW_LARGE)
    mean, deviation, enlarged, threshold, radius, sigma, kept = row
    # The zoom is in pixels too, but is left as it is: how much of the image flakes cover hangs on it.
    flakes = zoom(mean + deviation * draws.normal(1, *images.shape[2:]), enlarged)
    flakes = torch.where(flakes < threshold, 0, flakes.clamp(0, 1))
    flakes = smear(flakes, draws.uniform(-135, -45), radius * scale, sigma * scale)
    white = torch.maximum(images, _grey(images) * 1.5 + 0.5)
    return kept * images + (1 - kept) * white + flakes + flakes.flip(2, 3)


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] != len(_LUMA):
        return images.mean(1, keepdim=True)
    return (images * images.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)


def frost(images: Tensor, severity: int, generator: Randomness = None) -> Tensor:
    """Return images (n, c, h, w) in [0, 1] behind frost: a weighted sum of the image and a drawn texture.

    Parameters: the weights of image and frost. The original takes photographs; here the texture is drawn, with
    their mean brightness and deviation. Severity 0 to 5. Raises `InputError` on bad arguments. Hendrycks &
    Dietterich 2019, arXiv:1903.12261.

    >>> frost(torch.zeros(1, 1, 32, 32), 5).mean() > 0.15
    tensor(True)
    """
    return apply(_frost, images, severity, generator)


def _frost(images: Tensor, severity: int, draws: Draws) -> Tensor:
    (image_weight, frost_weight), _ = constants(images, severity, _FROST, _FROST_LARGE)
    return image_weight * images + frost_weight * frost_texture(images, draws)


def fog(images: Tensor, severity: int, generator: Randomness = None) -> Tensor:
    """Return images (n, c, h, w) in [0, 1] behind a cloud of fog, a plasma fractal.

    Parameters: the fog's weight and how fast its finer parts fade. Severity 0 to 5. Raises `InputError` on bad
    arguments. Hendrycks & Dietterich 2019, arXiv:1903.12261.

    >>> fog(torch.eye(32)[None, None], 5).amax() <= 1
    tensor(True)
    """
    return apply(_fog, images, severity, generator)


def _fog(images: Tensor, severity: int, draws: Draws) -> Tensor:
    (weight, decay), _ = constants(images, severity, _FOG, _FOG_LARGE)
    brightest = images.amax((1, 2, 3), keepdim=True)
    return (images + weight * plasma(images, draws, decay)) * brightest / (brightest + weight)


def brightness(images: Tensor, severity: int, generator: Randomness = None) -> Tensor:
    """Return images (n, c, h, w) in [0, 1] made brighter; hue and saturation stay.

    Parameter: what is added to the value of HSV (a pixel's largest channel). Nothing is drawn. Severity 0 to 5.
    Raises `InputError` on bad arguments. Hendrycks & Dietterich 2019, arXiv:1903.12261.

    >>> brightness(torch.full((1, 1, 1, 1), 0.5), 5).item()
    0.800000011920929
    """
    return apply(_brightness, images, severity, generator)


def _brightness(images: Tensor, severity: int, draws: Draws) -> Tensor:
    del draws
    shift, _ = constants(images, severity, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5))
    value = images.amax(1, keepdim=True)
    brighter = (value + shift).clamp(0, 1)
    # At fixed hue and saturation the channels are in proportion to the value; black has neither and turns grey.
    return torch.where(value > 0, images / torch.where(value > 0, value, 1), 1) * brighter
