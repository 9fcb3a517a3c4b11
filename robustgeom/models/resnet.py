"""Pre-activation residual networks, small by default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgeom.errors import InputError
from robustgeom.models.parts import NoisePlan, noise_plan
from robustgeom.models.stem import entry, normalisation

__all__ = ["PreActResNet"]


class _Block(nn.Module):
    """BN, ReLU, convolution, twice, beside a shortcut (He et al. 2016, arXiv:1603.05027)."""

    def __init__(self, before: int, after: int, stride: int, stage: str, plan: NoisePlan) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(before), nn.BatchNorm2d(after)
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.inner = plan.activation(stage, after)
        reshape = stride != 1 or before != after
        # With AVX2, torch 2.11's strided 1x1 convolution of under 8 channels_last channels writes beyond its memory.
        self.skip = stride if before < 8 else 1
        strided = nn.Conv2d(before, after, 1, stride=stride // self.skip, bias=False)
        self.shortcut = strided if reshape else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        ready = F.relu(self.norm1(x))
        skipped = ready[:, :, :: self.skip, :: self.skip]
        around = self.shortcut(x if isinstance(self.shortcut, nn.Identity) else skipped)
        out: Tensor = around + self.conv2(self.inner(self.norm2(self.conv1(ready))))
        return out


def _stage(stage: str, before: int, after: int, stride: int, blocks: int, plan: NoisePlan) -> nn.Module:
    """Return the blocks of a stage; its noise is in the last one, so that a stage has one noise layer."""
    found = [
        _Block(
            after if i else before,
            after,
            1 if i else stride,
            stage,
            plan if i == blocks - 1 else replace(plan, stages=()),
        )
        for i in range(blocks)
    ]
    return found[0] if blocks == 1 else nn.Sequential(*found)


class PreActResNet(nn.Module):
    """Stem, three stages of pre-activation blocks (He et al. 2016, arXiv:1603.05027), mean pooling, a linear read-out.

    Images (n, channels, size, size) in [0, 1] to logits (n, classes), computed in channels_last, which is
    several times faster on a CPU. The stem is a 3x3 convolution; from 64 pixels on a stride-2 7x7 convolution and max
    pooling. With `stem` "none" there is none: the network takes feature maps (n, channels, h, w) of a front end, and
    does not normalise them. widths: channels of the stages; `stem_width` is the stem's, by default the first of them.
    `blocks` a stage. mean, deviation: one number, or one a channel. `rho` is the noise-to-signal variance ratio at the
    places named in `noisy` (any of input, stem, stage1, stage2, stage3), in a stage's last block; `noise` is gaussian,
    poisson or multiplicative. Raises `InputError` and `UnknownNameError`.

    >>> PreActResNet().eval()(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    stages: tuple[str, ...] = ("stem", "stage1", "stage2", "stage3")

    def __init__(
        self,
        *,
        widths: Sequence[int] = (16, 32, 64),
        blocks: int = 1,
        stem_width: int | None = None,
        channels: int = 1,
        size: int = 28,
        classes: int = 10,
        stem: str = "image",
        mean: float | Sequence[float] = 0.286,
        deviation: float | Sequence[float] = 0.353,
        rho: float = 0.0,
        noise: str = "gaussian",
        noisy: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if len(widths) != 3 or min(widths) < 1 or blocks < 1:
            got = f"widths {tuple(widths)} and {blocks} blocks"
            raise InputError(
                "three widths >= 1 and blocks >= 1", got=got, fix="widths=(16, 32, 64), blocks=1"
            )
        self.normalise = normalisation(stem, channels, mean, deviation)
        if stem == "none":
            self.stages = self.stages[1:]
        plan = noise_plan(rho, noise, noisy, self.stages)
        self.entry_noise = next(iter(plan.layers("input", channels, shared=True)), None)
        inside, self.stem = channels, nn.Sequential()
        if stem == "image":
            inside = widths[0] if stem_width is None else stem_width
            # The first block starts with its own BN and ReLU, so a ReLU here would be one too many.
            self.stem = nn.Sequential(*entry(channels, inside, size), *plan.layers("stem", inside))
        self.stage1, self.stage2, self.stage3 = (
            _stage(f"stage{i}", before, after, min(i, 2), blocks, plan)
            for i, (before, after) in enumerate(pairwise((inside, *widths)), 1)
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.logits = nn.Linear(widths[-1], classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes)."""
        x = self.normalise(x.contiguous(memory_format=torch.channels_last))
        x = x if self.entry_noise is None else self.entry_noise(x)
        x = self.stage3(self.stage2(self.stage1(self.stem(x))))
        out: Tensor = self.logits(F.relu(self.norm(x)).mean((2, 3)))
        return out
