"""A small pre-activation residual network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgeom.models.parts import Normalise, activation, known_stages

__all__ = ["PreActResNet"]


class _Block(nn.Module):
    """BN, ReLU, convolution, twice, beside a shortcut (He et al. 2016, arXiv:1603.05027)."""

    def __init__(
        self, before: int, after: int, stride: int, *, stage: str, rho: float, noisy: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.inner = activation(stage, after, rho=rho, noisy=noisy)
        reshape = stride != 1 or before != after
        self.shortcut = nn.Conv2d(before, after, 1, stride=stride, bias=False) if reshape else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        ready = F.relu(self.norm1(x))
        around = self.shortcut(x if isinstance(self.shortcut, nn.Identity) else ready)
        out: Tensor = around + self.conv2(self.inner(self.norm2(self.conv1(ready))))
        return out


class PreActResNet(nn.Module):
    """Stem, one pre-activation block a stage (16, 32, 64 channels), mean pooling, a linear read-out.

    Images (n, channels, size, size) in [0, 1] to logits (n, classes), computed in channels_last, which is
    several times faster on a CPU. `rho` is the noise-to-signal variance ratio at the stages named in `noisy`
    (any of stem, stage1, stage2, stage3).

    >>> PreActResNet().eval()(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    stages = ("stem", "stage1", "stage2", "stage3")

    def __init__(
        self,
        *,
        widths: Sequence[int] = (16, 32, 64),
        channels: int = 1,
        classes: int = 10,
        mean: float = 0.286,
        deviation: float = 0.353,
        rho: float = 0.0,
        noisy: Sequence[str] = (),
    ) -> None:
        super().__init__()
        noisy = known_stages(noisy, self.stages)
        first, second, third = widths
        self.normalise = Normalise(mean, deviation)
        stem: list[nn.Module] = [nn.Conv2d(channels, first, 3, padding=1, bias=False)]
        # The first block starts with its own BN and ReLU, so a ReLU here would be one too many.
        self.stem = nn.Sequential(*stem, *list(activation("stem", first, rho=rho, noisy=noisy))[:-1])
        self.stage1 = _Block(first, first, 1, stage="stage1", rho=rho, noisy=noisy)
        self.stage2 = _Block(first, second, 2, stage="stage2", rho=rho, noisy=noisy)
        self.stage3 = _Block(second, third, 2, stage="stage3", rho=rho, noisy=noisy)
        self.norm = nn.BatchNorm2d(third)
        self.logits = nn.Linear(third, classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes)."""
        x = self.normalise(x.contiguous(memory_format=torch.channels_last))
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        out: Tensor = self.logits(F.relu(self.norm(x)).mean((2, 3)))
        return out
