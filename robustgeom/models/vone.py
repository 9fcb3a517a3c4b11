"""A fixed model of primary visual cortex with noisy neurons, as the front end of any network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgeom.errors import InputError, unknown
from robustgeom.models.gabor import gabor_bank, sample_gabors
from robustgeom.models.noise import NOISES
from robustgeom.models.stem import normalisation

__all__ = ["VOneBlock", "VOneNet"]

GAIN = 25.0
"""Spikes per unit of filter response; with noise set by rho, only the activations' scale depends on it."""


class GaborCells(nn.Module):
    """Simple cells relu(q0), then complex cells sqrt(q0^2 + q1^2) / sqrt 2, of fixed Gabor filters q0 and q1.

    Images (n, channels, h, w) to rates (n, simple + complex, h / stride, w / stride), rounded up, times 25.
    """

    first: Tensor
    second: Tensor

    def __init__(
        self, simple: int, pairs: int, *, channels: int, kernel: int, stride: int, density: float, **draw: Any
    ) -> None:
        super().__init__()
        self.simple, self.stride = simple, stride
        gabors = sample_gabors(simple + pairs, channels=channels, **draw)
        first, second = (
            gabor_bank(gabors, size=kernel, density=density, channels=channels, shift=shift)
            for shift in (0.0, math.pi / 2)
        )
        self.register_buffer("first", first)
        self.register_buffer("second", second[simple:])

    def forward(self, x: Tensor) -> Tensor:
        """Return the rates of all cells."""
        q = _filtered(x, torch.cat([self.first, self.second]).to(x), self.stride)
        count, simple = len(self.first), self.simple
        power = q[:, simple:count].square() + q[:, count:].square()
        complex_cells = (power + 1e-5).sqrt() / math.sqrt(2)  # the slope of sqrt has no bound at 0
        return GAIN * torch.cat([q[:, :simple].relu(), complex_cells], 1)


def _filtered(x: Tensor, bank: Tensor, stride: int) -> Tensor:
    """Convolve images (n, channels, h, w) with a bank (k, channels, size, size), zeros around them.

    One channel's small patches times the bank are twice as fast on a CPU as a convolution, forward and backward.
    """
    size, reach = bank.shape[-1], bank.shape[-1] // 2
    if x.shape[1] > 1 or size > 15 or x.is_cuda:
        return F.conv2d(x, bank, stride=stride, padding=reach)
    patches = F.pad(x, [reach] * 4).unfold(2, size, stride).unfold(3, size, stride)
    n, _, h, w = patches.shape[:4]
    q = patches.reshape(n * h * w, size * size) @ bank.flatten(1).T
    return q.view(n, h, w, len(bank)).permute(0, 3, 1, 2)


class VOneBlock(nn.Module):
    """Gabor cells, noise of the unit-free ratio rho, ReLU (Dapello et al. 2020, doi:10.1101/2020.06.16.154542).

    Images (n, channels, h, w), normalised, to rates (n, simple + complex, h / stride, w / stride). The filters are
    drawn once from `filter_seed` and never trained. From 96 pixels on the kernels are 25 pixels wide, the stride 4
    and the field of view 8 degrees, as published; below that 11, 2 and 14 pixels a degree, so that the highest
    frequency, 5.6 cycles a degree, stays below half a cycle a pixel. `noise` is gaussian (one sigma for all
    cells, ahead of the ReLU), poisson or multiplicative. Raises `InputError` and `UnknownNameError`.

    >>> VOneBlock(4, 4, rho=3.0).eval()(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 8, 14, 14])
    """

    def __init__(
        self,
        simple: int = 32,
        complex: int = 32,  # noqa: A002 - the field's word
        *,
        channels: int = 1,
        size: int = 28,
        rho: float = 0.0,
        noise: str = "gaussian",
        colour: Literal["corrected", "faithful"] = "corrected",
        filter_seed: int = 0,
        kernel: int | None = None,
        stride: int | None = None,
        degrees: float | None = None,
    ) -> None:
        super().__init__()
        if noise not in NOISES:
            raise unknown("noise", noise, NOISES)
        if simple < 0 or complex < 0 or simple + complex == 0:
            raise InputError("at least one cell", got=f"{simple} simple, {complex} complex", fix="32 and 32")
        wide = size >= 96
        kernel = (25 if wide else 11) if kernel is None else kernel
        stride = (4 if wide else 2) if stride is None else stride
        degrees = (8.0 if wide else size / 14) if degrees is None else degrees
        self.gabor = GaborCells(
            simple,
            complex,
            channels=channels,
            kernel=kernel,
            stride=stride,
            density=size / degrees,
            colour=colour,
            generator=torch.Generator().manual_seed(filter_seed),
        )
        self.noise = NOISES[noise](simple + complex, rho=rho, key="vone", shared=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return noisy rates."""
        out: Tensor = self.noise(self.gabor(x)).relu()
        return out


class VOneNet(nn.Module):
    """A `VOneBlock`, a 1x1 convolution to the back end's channels, and any back end that takes feature maps.

    Images (n, channels, size, size) in [0, 1] to logits (n, classes). `front` holds arguments of `VOneBlock`;
    `back_end` is an architecture's name and `arguments` its arguments: it is built with stem "none". mean, deviation:
    one number, or one a channel. Raises `InputError` and `UnknownNameError`.

    >>> VOneNet(front={"simple": 4, "complex": 4}).eval()(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        size: int = 28,
        classes: int = 10,
        mean: float | Sequence[float] = 0.286,
        deviation: float | Sequence[float] = 0.353,
        width: int = 16,
        front: Mapping[str, Any] | None = None,
        back_end: str = "preact_resnet",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        from robustgeom.models.build import build_back_end  # the registry names this module too

        super().__init__()
        self.normalise = normalisation("image", channels, mean, deviation)
        self.front = VOneBlock(channels=channels, size=size, **(front or {}))
        self.bottleneck = nn.Conv2d(self.front.noise.variance.numel(), width, 1, bias=False)
        nn.init.kaiming_normal_(self.bottleneck.weight, mode="fan_out", nonlinearity="relu")
        maps = -(-size // self.front.gabor.stride)
        given = {"channels": width, "size": maps, "classes": classes, "stem": "none", **(arguments or {})}
        self.back = build_back_end(back_end, given)
        inner: tuple[str, ...] = self.back.stages  # type: ignore[assignment]
        self.stages = ("front.gabor", "front.noise", "front", *(f"back.{name}" for name in inner))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes)."""
        x = self.normalise(x.contiguous(memory_format=torch.channels_last))
        out: Tensor = self.back(self.bottleneck(self.front(x)))
        return out
