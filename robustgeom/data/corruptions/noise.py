"""Noise on single values: Gaussian, shot, impulse."""

from __future__ import annotations

from torch import Tensor

from robustgeom.data.corruptions._frame import Draws, Randomness, apply, constants

__all__ = ["gaussian_noise", "impulse_noise", "shot_noise"]


def gaussian_noise(images: Tensor, severity: int, generator: Randomness = None) -> Tensor:
    """Return images (n, c, h, w) in [0, 1] plus normal noise, as a badly lit sensor adds.

    Parameter: the noise's standard deviation, in units of the value range. Severity 0 to 5. Raises `InputError`
    on bad arguments. Hendrycks & Dietterich 2019, arXiv:1903.12261.

    >>> import torch
    >>> gaussian_noise(torch.full((1, 1, 64, 64), 0.5), 3).std().round(decimals=2)
    tensor(0.0800)
    """
    return apply(_gaussian_noise, images, severity, generator)


def _gaussian_noise(images: Tensor, severity: int, draws: Draws) -> Tensor:
    deviation, _ = constants(images, severity, (0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38))
    return images + deviation * draws.normal(*images.shape[1:])


def shot_noise(images: Tensor, severity: int, generator: Randomness = None) -> Tensor:
    """Return images (n, c, h, w) in [0, 1] as counts of photons show them: noise grows with brightness.

    Parameter: the expected count of a white pixel. Severity 0 to 5. Raises `InputError` on bad arguments.
    Hendrycks & Dietterich 2019, arXiv:1903.12261.

    >>> import torch
    >>> shot_noise(torch.zeros(1, 1, 2, 2), 5).max()  # no light, no noise
    tensor(0.)
    """
    return apply(_shot_noise, images, severity, generator)


def _shot_noise(images: Tensor, severity: int, draws: Draws) -> Tensor:
    photons, _ = constants(images, severity, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3))
    return draws.poisson(images.clamp_min(0) * photons) / photons


def impulse_noise(images: Tensor, severity: int, generator: Randomness = None) -> Tensor:
    """Return images (n, c, h, w) in [0, 1] with some values replaced by 0 or 1, either equally often.

    Parameter: the share of values replaced; channels are hit apart. Severity 0 to 5. Raises `InputError` on bad
    arguments. Hendrycks & Dietterich 2019, arXiv:1903.12261.

    >>> import torch
    >>> impulse_noise(torch.full((1, 1, 8, 8), 0.5), 5).unique()
    tensor([0.0000, 0.5000, 1.0000])
    """
    return apply(_impulse_noise, images, severity, generator)


def _impulse_noise(images: Tensor, severity: int, draws: Draws) -> Tensor:
    share, _ = constants(images, severity, (0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27))
    fate = draws.uniform(0, 1, *images.shape[1:])
    return images.masked_fill(fate < share / 2, 0).masked_fill(fate >= 1 - share / 2, 1)
