"""Networks that hear: a cochleagram, noisy or not, as the front end of any network that takes feature maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from robustgeom.errors import InputError, unknown
from robustgeom.models.cochleagram import Cochleagram, Hearing, slope_capped
from robustgeom.models.mel import MelSpectrogram
from robustgeom.models.noise import NOISES

__all__ = ["Cochlea", "CochlearNet"]

CAPS = {"uncapped": float("inf"), "cap-1": 1.0, "cap-25": 25.0}
"""Gradient sources: the true slope of the compression, and cut at a fifth and at five times the published 5."""


FRONTS: dict[str, Callable[..., Hearing]] = {"cochleagram": Cochleagram, "mel": MelSpectrogram}
_USUAL: dict[str, dict[str, Any]] = {
    # Twice the density costs twice as much, and moves a cochleagram of speech by under 1 % of its deviation.
    "cochleagram": {"bands": 20, "oversampling": 2, "frames": 100, "density": 2.0},
    "mel": {"filters": 45, "frames": 100},
}


class Cochlea(nn.Module):
    """A `Cochleagram` with noise of the ratio `rho` behind the compression or, with `noisy` "before", ahead of it.

    With `kind` "mel" it is a `MelSpectrogram`; `front` holds other arguments of either.
    Waveforms (n, samples) to (n, 1, filters, frames), never negative: noise, then ReLU, as in a VOneBlock. One level of
    noise serves all filters. `noise` is gaussian, poisson or multiplicative. Raises `UnknownNameError` and
    `InputError`.

    >>> import torch
    >>> Cochlea(8000, rate=8000, bands=10, oversampling=2, frames=100, rho=1.0)(torch.zeros(2, 8000)).shape
    torch.Size([2, 1, 25, 90])
    """

    def __init__(
        self,
        samples: int,
        *,
        rate: int,
        kind: str = "cochleagram",
        rho: float = 0.0,
        noise: str = "gaussian",
        noisy: str = "after",
        **front: Any,
    ) -> None:
        super().__init__()
        if kind not in FRONTS:
            raise unknown("front end", kind, FRONTS)
        if noise not in NOISES:
            raise unknown("noise", noise, NOISES)
        if noisy not in ("before", "after"):
            raise unknown("place of the noise", noisy, ("before", "after"))
        self.cochleagram = FRONTS[kind](samples, rate=rate, **{**_USUAL[kind], **front})
        self.noise = NOISES[noise](1, rho=rho, key="cochlea", shared=True)
        self.before = noisy == "before"

    def forward(self, x: Tensor) -> Tensor:
        """Return the noisy cochleagram of waveforms."""
        if self.before:
            return self.cochleagram.compressed(self.noise(self.cochleagram.envelopes(x)))
        found: Tensor = self.noise(self.cochleagram(x)).relu()
        return found


class CochlearNet(nn.Module):
    """A `Cochlea`, batch normalisation, a strided 5x5 convolution, and any back end that takes feature maps.

    Waveforms (n, samples) in [-1, 1] to logits (n, classes). `front` holds arguments of `Cochlea`; `stride` is the
    convolution's in filters and frames; `back_end` is an architecture's name and `arguments` its arguments: it is built
    with stem "none". The variants uncapped, cap-1 and cap-25 have another slope of the compression in their gradients.

    >>> import torch
    >>> CochlearNet().eval()(torch.zeros(2, 8000)).shape
    torch.Size([2, 20])
    """

    def __init__(
        self,
        *,
        samples: int = 8_000,
        rate: int = 8_000,
        classes: int = 20,
        front: Mapping[str, Any] | None = None,
        width: int = 16,
        stride: Sequence[int] = (2, 2),
        back_end: str = "preact_resnet",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        from robustgeom.models.build import build_back_end  # the registry names this module too

        super().__init__()
        if len(stride) != 2 or min(stride) < 1:
            raise InputError(
                "a stride in filters and one in frames", got=str(tuple(stride)), fix="stride=(2, 2)"
            )
        self.front = Cochlea(samples, rate=rate, **(front or {}))
        self.scale = nn.BatchNorm2d(1)
        self.conv = nn.Conv2d(1, width, 5, stride=(stride[0], stride[1]), padding=2, bias=False)
        maps = tuple(
            -(-side // step) for side, step in zip(self.front.cochleagram.shape, stride, strict=True)
        )
        given = {"channels": width, "size": maps, "classes": classes, "stem": "none", **(arguments or {})}
        self.back = build_back_end(back_end, given)
        inner: tuple[str, ...] = self.back.stages  # type: ignore[assignment]
        heard = ("front",) if self.front.before else ("front.cochleagram", "front")
        self.stages = (*heard, "conv", *(f"back.{name}" for name in inner))

    @property
    def variants(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """The gradient sources of this network."""
        return {name: self._capped(cap) for name, cap in CAPS.items()}

    def _capped(self, cap: float) -> Callable[[Tensor], Tensor]:
        def forward(x: Tensor) -> Tensor:
            with slope_capped(cap):
                logits: Tensor = self(x)
            return logits

        return forward

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes)."""
        out: Tensor = self.back(self.conv(self.scale(self.front(x))))
        return out
