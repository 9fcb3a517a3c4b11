"""Parts that architectures share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustgeom.errors import unknown
from robustgeom.models.noise import GaussianNoise

__all__ = ["Normalise", "activation", "known_stages"]


class Normalise(nn.Module):
    """Scale images in [0, 1] by a data set's mean and deviation; part of the model, so attacks see raw images.

    mean, deviation: one number, or one a channel for images (n, channels, h, w).

    >>> Normalise([0.0, 0.5], [1.0, 0.5])(torch.ones(1, 2, 1, 1)).flatten().tolist()
    [1.0, 1.0]
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: float | Sequence[float], deviation: float | Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", _a_channel(mean))
        self.register_buffer("deviation", _a_channel(deviation))

    def forward(self, x: Tensor) -> Tensor:
        """Return (x - mean) / deviation."""
        return (x - self.mean) / self.deviation


def _a_channel(value: float | Sequence[float]) -> Tensor:
    """Return one number as it is, and one a channel as (channels, 1, 1)."""
    return torch.tensor(list(value)).view(-1, 1, 1) if isinstance(value, Sequence) else torch.tensor(value)


def known_stages(noisy: Sequence[str], stages: Sequence[str]) -> tuple[str, ...]:
    """Return `noisy` as a tuple; raises `UnknownNameError` where one is no stage, as its noise would be lost.

    >>> known_stages(["conv1"], ("conv1", "conv2"))
    ('conv1',)
    """
    for stage in noisy:
        if stage not in stages:
            raise unknown("stage", stage, stages)
    return tuple(noisy)


def activation(stage: str, channels: int, *, rho: float, noisy: tuple[str, ...]) -> nn.Sequential:
    """Return the end of a stage: noise, if the stage is among `noisy`, then ReLU."""
    noise = [GaussianNoise(channels, rho=rho, key=stage)] if stage in noisy and rho != 0 else []
    return nn.Sequential(*noise, nn.ReLU())
