"""Wide residual networks, the usual architecture of robust models of CIFAR-10."""

from __future__ import annotations

from collections.abc import Sequence

from robustgeom.errors import InputError
from robustgeom.models.resnet import PreActResNet

__all__ = ["WideResNet"]

_WIDTHS = (16, 32, 64)


class WideResNet(PreActResNet):
    """WRN-depth-widen (Zagoruyko & Komodakis 2016, arXiv:1605.07146), without dropout.

    A `PreActResNet` with (depth - 4) / 6 blocks a stage, a stem of 16 channels and stages of 16, 32 and 64 times
    `widen`; the other arguments are its. Images (n, channels, size, size) in [0, 1] to logits (n, classes). Raises
    `InputError` and `UnknownNameError`.

    >>> import torch
    >>> WideResNet(depth=10, widen=1).eval()(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        *,
        depth: int = 16,
        widen: int = 4,
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
        if depth < 10 or (depth - 4) % 6 or widen < 1:
            got = f"depth {depth} and widen {widen}"
            raise InputError("depth 6 n + 4 with n >= 1, and widen >= 1", got=got, fix="depth=16, widen=4")
        super().__init__(
            widths=[widen * width for width in _WIDTHS],
            blocks=(depth - 4) // 6,
            stem_width=_WIDTHS[0],
            channels=channels,
            size=size,
            classes=classes,
            stem=stem,
            mean=mean,
            deviation=deviation,
            rho=rho,
            noise=noise,
            noisy=noisy,
        )
