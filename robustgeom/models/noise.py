"""Gaussian noise inside a network, in training and in inference, set by the unit-free ratio rho.

rho is the noise variance over the variance that images cause in a channel (mean over its units). The second
is tracked and detached, so a network that grows its weights grows its noise with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustgeom.errors import InputError

__all__ = ["GaussianNoise", "noise_context", "noise_frozen", "noise_off", "noise_ratio"]

_MOMENTUM = 0.05


@dataclass(frozen=True)
class _Keyed:
    """One draw a row, from (seed, sample id, draw, layer)."""

    seed: int
    ids: Sequence[int]
    draws: Sequence[int]

    def sample(self, shape: torch.Size, key: str) -> Tensor:
        if len(self.ids) != shape[0]:
            raise InputError(
                f"{len(self.ids)} rows, one an id", got=f"{shape[0]} rows", fix="ids of these inputs"
            )
        rows, generator = torch.empty(shape), torch.Generator()
        for row, sample_id, draw in zip(rows, self.ids, self.draws, strict=True):
            generator.manual_seed(_digest(self.seed, sample_id, draw, key))
            torch.randn(shape[1:], generator=generator, out=row)
        return rows


@dataclass(frozen=True)
class _Frozen:
    """One draw for every row and pass: the network becomes a deterministic one."""

    seed: int

    def sample(self, shape: torch.Size, key: str) -> Tensor:
        generator = torch.Generator().manual_seed(_digest(self.seed, key))
        return torch.randn(shape[1:], generator=generator).expand(shape)


@dataclass(frozen=True)
class _Off:
    """No noise."""

    def sample(self, shape: torch.Size, key: str) -> Tensor:
        del key
        return torch.zeros(()).expand(shape)


_STATE: ContextVar[_Keyed | _Frozen | _Off | None] = ContextVar("noise", default=None)


def _digest(*parts: object) -> int:
    text = "|".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


@contextmanager
def _using(state: _Keyed | _Frozen | _Off) -> Iterator[None]:
    token = _STATE.set(state)
    try:
        yield
    finally:
        _STATE.reset(token)


def noise_context(
    seed: int, ids: Sequence[int], draw: int | Sequence[int] = 0
) -> AbstractContextManager[None]:
    """Key all noise by (seed, sample id, draw, layer) while the context lasts.

    ids: one a row; draw: one for all rows, or one a row. The noise of a row is then the same in any batch.

    >>> layer, x = GaussianNoise(2, rho=1.0, key="a").eval(), torch.rand(3, 2)
    >>> with noise_context(0, ids=[7, 8, 9]):
    ...     whole = layer(x)
    >>> with noise_context(0, ids=[8]):
    ...     torch.equal(layer(x[1:2]), whole[1:2])
    True
    """
    draws = [draw] * len(ids) if isinstance(draw, int) else list(draw)
    if len(draws) != len(ids):
        raise InputError(f"{len(ids)} draws, one an id", got=str(len(draws)), fix="draw=0")
    return _using(_Keyed(seed, list(ids), draws))


def noise_off() -> AbstractContextManager[None]:
    """Switch all noise off while the context lasts."""
    return _using(_Off())


def noise_frozen(seed: int) -> AbstractContextManager[None]:
    """Give every row and pass the same noise draw, from `seed`, while the context lasts."""
    return _using(_Frozen(seed))


class GaussianNoise(nn.Module):
    """Add N(0, sigma^2) noise, with sigma^2 = rho x the tracked variance over images; a new draw in every pass.

    Inputs (n, channels, ...). `rho` is unit-free. With `shared`, one sigma serves all channels, as fits fixed
    filters. Outside `noise_context` the draws come from the module's own generator, seeded with `seed`.

    >>> GaussianNoise(2, rho=0.0, key="a")(torch.ones(1, 2)).tolist()
    [[1.0, 1.0]]
    """

    variance: Tensor
    started: Tensor

    def __init__(self, channels: int, *, rho: float, key: str, shared: bool = False, seed: int = 0) -> None:
        super().__init__()
        if not rho >= 0:
            raise InputError("rho >= 0", got=str(rho), fix="rho=1.0")
        self.rho, self.key, self.shared = float(rho), key, shared
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Restart the module's own generator from `seed`."""
        self._generator = torch.Generator().manual_seed(_digest(seed, self.key))

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus noise."""
        if self.training and len(x) > 1:
            self._track(x.detach())
        if self.rho == 0:
            return x
        state = _STATE.get()
        own = self._generator
        noise = torch.randn(x.shape, generator=own) if state is None else state.sample(x.shape, self.key)
        sigma = (self.rho * self.variance).sqrt().view(1, -1, *[1] * (x.dim() - 2))
        return x + sigma * noise.to(x)

    def _track(self, x: Tensor) -> None:
        """Follow the variance over images, averaged over each channel's units (or over all units)."""
        variance = x.var(dim=0)
        variance = (
            variance.mean().expand(len(self.variance))
            if self.shared
            else variance.reshape(len(variance), -1).mean(1)
        )
        weight = _MOMENTUM if bool(self.started) else 1.0
        self.variance.lerp_(variance.to(self.variance), weight)
        self.started.fill_(True)

    def extra_repr(self) -> str:
        """Describe the module."""
        return f"rho={self.rho}, key={self.key!r}, shared={self.shared}"


def noise_ratio(model: nn.Module) -> float:
    """Return the largest rho of a model's noise modules, 0 without any.

    >>> noise_ratio(nn.Sequential(GaussianNoise(1, rho=2.0, key="a")))
    2.0
    """
    return max((m.rho for m in model.modules() if isinstance(m, GaussianNoise)), default=0.0)
