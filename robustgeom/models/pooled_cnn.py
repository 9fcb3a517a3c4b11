"""A plain convolutional network that averages over places before it decides."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from robustgeom.errors import InputError
from robustgeom.models.parts import noise_plan
from robustgeom.models.stem import normalisation

__all__ = ["PooledCNN"]


class PooledCNN(nn.Module):
    """Three stride-2 5x5 convolutions with batch normalisation and ReLU, mean pooling, a linear read-out.

    Images (n, channels, h, w) in [0, 1] of any size to logits (n, classes); with `stem` "none" feature maps of a front
    end, which are not normalised. What a word or thing is does not depend on where it is, and fewer weights see fewer
    accidents of the training samples than `CNN`'s. widths: channels of the convolutions. mean, deviation: one number,
    or one a channel. `rho` is the noise-to-signal variance ratio at the places named in `noisy` (any of input, conv1,
    conv2, conv3), ahead of their ReLU; `noise` is gaussian, poisson or multiplicative. Raises `InputError` and
    `UnknownNameError`.

    >>> PooledCNN().eval()(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    stages: tuple[str, ...] = ("conv1", "conv2", "conv3")

    def __init__(
        self,
        *,
        widths: Sequence[int] = (32, 64, 128),
        channels: int = 1,
        size: int | Sequence[int] = 28,
        classes: int = 10,
        stem: str = "image",
        mean: float | Sequence[float] = 0.286,
        deviation: float | Sequence[float] = 0.353,
        rho: float = 0.0,
        noise: str = "gaussian",
        noisy: Sequence[str] = (),
    ) -> None:
        super().__init__()
        del size  # mean pooling takes any
        if len(widths) != 3:
            raise InputError("three widths", got=str(tuple(widths)), fix="widths=(32, 64, 128)")
        self.normalise = normalisation(stem, channels, mean, deviation)
        plan = noise_plan(rho, noise, noisy, self.stages)
        self.entry_noise = next(iter(plan.layers("input", channels, shared=True)), None)
        self.conv1, self.conv2, self.conv3 = (
            nn.Sequential(
                nn.Conv2d(before, after, 5, stride=2, padding=2, bias=False),
                nn.BatchNorm2d(after),
                plan.activation(stage, after),
            )
            for stage, (before, after) in zip(self.stages, pairwise((channels, *widths)), strict=True)
        )
        self.logits = nn.Linear(widths[-1], classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes)."""
        x = self.normalise(x.contiguous(memory_format=torch.channels_last))
        x = x if self.entry_noise is None else self.entry_noise(x)
        out: Tensor = self.logits(self.conv3(self.conv2(self.conv1(x))).mean((2, 3)))
        return out
