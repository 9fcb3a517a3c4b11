"""Parts that architectures share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustgeom.errors import InputError, unknown
from robustgeom.models.noise import NOISES

__all__ = ["Block", "NoisePlan", "Normalise", "noise_plan", "strided"]


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


@dataclass(frozen=True)
class NoisePlan:
    """Which stages of a network get noise, of which kind and ratio rho."""

    rho: float
    kind: str
    stages: tuple[str, ...]

    def layers(self, stage: str, channels: int, *, shared: bool = False) -> list[nn.Module]:
        """Return the stage's noise layer, or none."""
        if stage not in self.stages or self.rho == 0:
            return []
        return [NOISES[self.kind](channels, rho=self.rho, key=stage, shared=shared)]

    def activation(self, stage: str, channels: int) -> nn.Sequential:
        """Return the end of a stage: its noise, if it has any, then ReLU."""
        return nn.Sequential(*self.layers(stage, channels), nn.ReLU())


def noise_plan(rho: float, kind: str, noisy: Sequence[str], stages: Sequence[str]) -> NoisePlan:
    """Return the plan for noise at the places `noisy`: among the stages, or input, which is ahead of the first.

    Raises `UnknownNameError` where one is no stage, as its noise would be lost, and on an unknown kind; `InputError`
    on a bad rho, and on noise without a place.

    >>> noise_plan(1.0, "gaussian", ["conv1"], ("conv1", "conv2")).activation("conv1", 8)[0].rho
    1.0
    """
    if kind not in NOISES:
        raise unknown("noise", kind, NOISES)
    if not 0 <= rho < float("inf"):
        raise InputError("rho >= 0", got=str(rho), fix="rho=1.0")
    if rho > 0 and not noisy:
        fix = f"noisy={list(stages[:1])}"
        raise InputError("stages for the noise", got=f"rho={rho} and none", fix=fix)
    for stage in noisy:
        if stage not in ("input", *stages):
            raise unknown("stage", stage, ("input", *stages))
    return NoisePlan(rho, kind, tuple(noisy))


class Block(nn.Module):
    """A layer, the gate that its units go through, and what follows; local learning rules train networks of such.

    The gate is a module with `gates(h, width=None)`, which returns what it multiplies a layer's outputs h by; without
    one a block is a read-out.
    """

    def __init__(
        self, layer: nn.Module, gate: nn.Module | None = None, after: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.layer, self.gate, self.after = layer, gate, after

    def finish(self, h: Tensor, gates: Tensor | None) -> Tensor:
        """Return the block's output for the outputs h of its layer under given gates."""
        a = h if gates is None else h * gates
        return a if self.after is None else self.after(a)

    def gates(self, h: Tensor, *, width: float | None = None) -> Tensor | None:
        """Return what the gate multiplies the layer's outputs h by; None of a read-out."""
        return None if self.gate is None else self.gate.gates(h, width=width)  # type: ignore[operator]

    def soft(self, x: Tensor, width: float) -> Tensor:
        """Return the block's output with gates that rise over `width` standard deviations of what they look at."""
        h: Tensor = self.layer(x)
        return self.finish(h, self.gates(h, width=width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        h: Tensor = self.layer(x)
        return self.finish(h if self.gate is None else self.gate(h), None)


def strided(size: int, stride: int, maps: Sequence[int]) -> int:
    """Return how many pixels a side the first of 3x3 convolutions of `maps`, padded by one, leaves of `size`.

    Raises `InputError` on strides below 1, and where there is no convolution that could take one.

    >>> strided(28, 2, (8,)), strided(28, 1, ())
    (14, 28)
    """
    if stride < 1 or (stride > 1 and not maps):
        got = f"stride={stride}" + ("" if maps else " without convolutions")
        raise InputError("a stride of 1 or more, of a convolution", got=got, fix="stride=1")
    return (size - 1) // stride + 1
