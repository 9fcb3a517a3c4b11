"""A small convolutional network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustgeom.models.parts import noise_plan
from robustgeom.models.stem import REDUCED_FROM, entry, normalisation

__all__ = ["CNN"]

_NORMS = ((nn.BatchNorm2d, 32), (nn.BatchNorm2d, 64), (nn.BatchNorm1d, 128))


class CNN(nn.Module):
    """Two stride-2 5x5 convolutions (32 and 64 channels), a 128-unit layer, a linear read-out.

    Images (n, channels, size, size) in [0, 1] to logits (n, classes), computed in channels_last, which is
    faster on a CPU. From 64 pixels on a stem comes first, a stride-2 7x7 convolution (32 channels) and max pooling.
    With `stem` "none" the network takes feature maps of a front end, neither normalised nor reduced, and `size` may be
    their height and width. mean, deviation: one number, or one a channel. `rho` is the noise-to-signal variance ratio
    at the places named in `noisy` (any of input, stem, conv1, conv2, hidden), ahead of their ReLU; `noise` is gaussian,
    poisson or multiplicative. `batch_norm` puts one ahead of every ReLU. Raises `InputError` and `UnknownNameError`.

    >>> CNN().eval()(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    stages: tuple[str, ...] = ("conv1", "conv2", "hidden")

    def __init__(
        self,
        *,
        channels: int = 1,
        size: int | Sequence[int] = 28,
        classes: int = 10,
        stem: str = "image",
        mean: float | Sequence[float] = 0.286,
        deviation: float | Sequence[float] = 0.353,
        rho: float = 0.0,
        noise: str = "gaussian",
        noisy: Sequence[str] = (),
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.normalise = normalisation(stem, channels, mean, deviation)
        self.stem: nn.Module | None = None
        sides = (size, size) if isinstance(size, int) else tuple(size)
        reduced = stem == "image" and max(sides) >= REDUCED_FROM
        if reduced:
            self.stages = ("stem", *self.stages)
        plan = noise_plan(rho, noise, noisy, self.stages)
        self.entry_noise = next(iter(plan.layers("input", channels, shared=True)), None)
        if reduced:
            self.stem = nn.Sequential(*entry(channels, 32, max(sides)), plan.activation("stem", 32))
            channels, sides = 32, tuple((side + 3) // 4 for side in sides)
        units = 64 * math.prod((side + 3) // 4 for side in sides)
        norms = [[kind(width)] if batch_norm else [] for kind, width in _NORMS]
        conv1, conv2 = (nn.Conv2d(a, b, 5, stride=2, padding=2) for a, b in ((channels, 32), (32, 64)))
        self.conv1 = nn.Sequential(conv1, *norms[0], plan.activation("conv1", 32))
        self.conv2 = nn.Sequential(conv2, *norms[1], plan.activation("conv2", 64))
        dense = nn.Flatten(), nn.Linear(units, 128)
        self.hidden = nn.Sequential(*dense, *norms[2], plan.activation("hidden", 128))
        self.logits = nn.Linear(128, classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes)."""
        x = self.normalise(x.contiguous(memory_format=torch.channels_last))
        x = x if self.entry_noise is None else self.entry_noise(x)
        x = x if self.stem is None else self.stem(x)
        out: Tensor = self.logits(self.hidden(self.conv2(self.conv1(x))))
        return out
