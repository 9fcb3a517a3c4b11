"""Noise inside a network, in training and in inference, set by the unit-free ratio rho.

rho is the noise variance over the variance that images cause in a channel (both means over its units). The second
is tracked and detached, so a network that grows its weights grows its noise with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from robustgeom.errors import InputError
from robustgeom.seeds import seed_of

__all__ = [
    "NOISES",
    "FixedNoise",
    "GaussianNoise",
    "MultiplicativeNoise",
    "Noise",
    "PoissonNoise",
    "has_noise",
    "noise_context",
    "noise_frozen",
    "noise_off",
    "noise_ratio",
    "noise_watched",
    "reseed_noise",
]

_MOMENTUM = 0.05


@dataclass(frozen=True)
class _Keyed:
    """One draw a row, from (seed, sample id, draw, layer); inputs may come once for all rows that they own."""

    seed: int
    ids: Sequence[int]
    draws: Sequence[int]
    owners: Tensor | None = None
    calls: dict[str, int] = field(default_factory=dict)

    def spread(self, x: Tensor) -> Tensor:
        if self.owners is None or len(x) == len(self.owners):
            return x
        owners = self.owners.to(x.device)
        if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):  # else it would change format
            return x.permute(0, 2, 3, 1).index_select(0, owners).permute(0, 3, 1, 2)
        return x.index_select(0, owners)

    def sample(self, shape: torch.Size, key: str) -> Tensor:
        if len(self.ids) != shape[0]:
            raise InputError(
                f"{len(self.ids)} rows, one an id", got=f"{shape[0]} rows", fix="ids of these inputs"
            )
        again = self.calls.get(key, 0)
        self.calls[key] = again + 1
        names = (key, again) if again else (key,)  # a layer that is passed twice draws twice
        rows, generator = torch.empty(shape), torch.Generator()
        for row, sample_id, draw in zip(rows, self.ids, self.draws, strict=True):
            generator.manual_seed(seed_of(self.seed, sample_id, draw, *names))
            torch.randn(shape[1:], generator=generator, out=row)
        return rows


@dataclass(frozen=True)
class _Frozen:
    """One draw for every row and pass: the network becomes a deterministic one."""

    seed: int

    def sample(self, shape: torch.Size, key: str) -> Tensor:
        generator = torch.Generator().manual_seed(seed_of(self.seed, key))
        return torch.randn(shape[1:], generator=generator).expand(shape)


@dataclass(frozen=True)
class _Off:
    """No noise."""

    def sample(self, shape: torch.Size, key: str) -> Tensor:
        del key
        return torch.zeros(()).expand(shape)


_STATE: ContextVar[_Keyed | _Frozen | _Off | None] = ContextVar("noise", default=None)
_WATCH: ContextVar[Callable[[Noise, Tensor], None] | None] = ContextVar("watch", default=None)


@contextmanager
def _using(state: _Keyed | _Frozen | _Off) -> Iterator[None]:
    token = _STATE.set(state)
    try:
        yield
    finally:
        _STATE.reset(token)


def noise_context(
    seed: int, ids: Sequence[int], draw: int | Sequence[int] = 0, owners: Tensor | None = None
) -> AbstractContextManager[None]:
    """Key all noise of one pass by (seed, sample id, draw, layer, how often the layer was passed before).

    ids: one a row; draw: one for all rows, or one a row. The noise of a row is then the same in any batch.
    owners: (rows,) which of fewer inputs each row repeats: what lies ahead of the first noise runs once an input.

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
    return _using(_Keyed(seed, list(ids), draws, owners))


def noise_off() -> AbstractContextManager[None]:
    """Switch all noise off while the context lasts."""
    return _using(_Off())


def noise_frozen(seed: int) -> AbstractContextManager[None]:
    """Give every row and pass the same noise draw, from `seed`, while the context lasts."""
    return _using(_Frozen(seed))


@contextmanager
def noise_watched(watch: Callable[[Noise, Tensor], None]) -> Iterator[None]:
    """Tell `watch` of every noise module that is passed, and of its inputs, while the context lasts."""
    token = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(token)


class Noise(nn.Module):
    """Add noise of a `deviation` that a subclass defines; a new draw in every pass.

    Inputs (n, channels, ...). Outside `noise_context` the draws come from the module's own generator, seeded with
    `seed` and `key`.
    """

    def __init__(self, *, key: str, seed: int = 0) -> None:
        super().__init__()
        self.key = key
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Restart the module's own generator from `seed`."""
        self._generator = torch.Generator().manual_seed(seed_of(seed, self.key))

    @property
    def active(self) -> bool:
        """Whether the module adds anything."""
        raise NotImplementedError

    def deviation(self, x: Tensor) -> Tensor:
        """Return the noise's standard deviation, in units of x and broadcastable to it."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus noise."""
        watch = _WATCH.get()
        if watch is not None:
            watch(self, x.detach())
        if not self.active:
            return x
        state = _STATE.get()
        x = state.spread(x) if isinstance(state, _Keyed) else x
        return x + self.deviation(x) * self._draw(x)

    def _draw(self, x: Tensor) -> Tensor:
        state = _STATE.get()
        if state is not None:
            return state.sample(x.shape, self.key).to(x)
        if self._generator.device != x.device:  # draws on the spot are what makes training on a GPU quick
            self._generator = torch.Generator(x.device).manual_seed(self._generator.initial_seed())
        return torch.randn(x.shape, generator=self._generator, device=x.device).to(x)


class FixedNoise(Noise):
    """Gaussian noise of standard deviation `sigma` in the units of its inputs, whatever their variance.

    >>> FixedNoise(0.0, key="a")(torch.ones(1, 2)).tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, sigma: float, *, key: str, seed: int = 0) -> None:
        super().__init__(key=key, seed=seed)
        if not 0 <= sigma < float("inf"):
            raise InputError("sigma >= 0", got=str(sigma), fix="sigma=0.25")
        self.sigma = float(sigma)

    @property
    def active(self) -> bool:
        """Whether sigma > 0."""
        return self.sigma > 0

    def deviation(self, x: Tensor) -> Tensor:
        """Return sigma."""
        return x.new_tensor(self.sigma)

    def extra_repr(self) -> str:
        """Describe the module."""
        return f"sigma={self.sigma}, key={self.key!r}"


class GaussianNoise(Noise):
    """Add N(0, sigma^2) noise, with sigma^2 = rho x the tracked variance over images.

    Inputs (n, channels, ...). `rho` is unit-free. With `shared`, one sigma serves all channels, as fits fixed
    filters. The variance follows the batches in training; `calibrate` sets it from given images.

    >>> GaussianNoise(2, rho=0.0, key="a")(torch.ones(1, 2)).tolist()
    [[1.0, 1.0]]
    """

    variance: Tensor
    started: Tensor
    statistics: tuple[str, ...] = ("variance",)

    def __init__(self, channels: int, *, rho: float, key: str, shared: bool = False, seed: int = 0) -> None:
        super().__init__(key=key, seed=seed)
        if not 0 <= rho < float("inf"):
            raise InputError("rho >= 0", got=str(rho), fix="rho=1.0")
        self.rho, self.shared = float(rho), shared
        for name in self.statistics:
            self.register_buffer(name, torch.ones(channels))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @property
    def active(self) -> bool:
        """Whether rho > 0."""
        return self.rho > 0

    def deviation(self, x: Tensor) -> Tensor:
        """Return sqrt(rho x variance), one a channel."""
        return self._per_channel(self.rho * self.variance, x).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus noise; in training the statistics follow x first."""
        if self.training and len(x) > 1:
            weight = _MOMENTUM if bool(self.started) else 1.0
            self.follow(*_moments(x.detach()), weight)
        return super().forward(x)

    def follow(self, mean: Tensor, variance: Tensor, weight: float = 1.0) -> None:
        """Move the statistics by `weight` towards those of images whose units have `mean` and `variance`."""
        for name, value in self.measured(mean, variance).items():
            tracked: Tensor = getattr(self, name)
            channels = value.reshape(len(value), -1).mean(1)
            channels = channels.mean().expand(len(tracked)) if self.shared else channels
            tracked.lerp_(channels.to(tracked), weight)
        self.started.fill_(True)

    def measured(self, mean: Tensor, variance: Tensor) -> dict[str, Tensor]:
        """Return the statistics of units (channels, ...) with `mean` and `variance` over images."""
        del mean
        return {"variance": variance}

    @staticmethod
    def _per_channel(value: Tensor, x: Tensor) -> Tensor:
        return value.view(1, -1, *[1] * (x.dim() - 2))

    def extra_repr(self) -> str:
        """Describe the module."""
        return f"rho={self.rho}, key={self.key!r}, shared={self.shared}"


class PoissonNoise(GaussianNoise):
    """Add Gaussian noise whose variance is linear in the activation, as spike counts have it ("neuronal" noise).

    Inputs (n, channels, ...), meant to be >= 0: firing rates. The variance is k (x + `spontaneous` x the mean
    activation), with k such that its mean is rho x the variance over images. The default spontaneous share is that
    of VOneNet's constants (0.07 spikes, 0.35 spikes a unit, mean activation 1.1; Dapello et al. 2020,
    doi:10.1101/2020.06.16.154542). The gradient passes through the deviation.

    >>> PoissonNoise(2, rho=0.0, key="a")(torch.ones(1, 2)).tolist()
    [[1.0, 1.0]]
    """

    average: Tensor
    statistics = ("variance", "average")
    spontaneous = 0.18

    def measured(self, mean: Tensor, variance: Tensor) -> dict[str, Tensor]:
        """Return the variance over images and the mean activation."""
        return {"variance": variance, "average": mean.clamp(min=0)}

    def deviation(self, x: Tensor) -> Tensor:
        """Return the square root of the variance at the activation x."""
        least = self.spontaneous * self.average
        slope = self.rho * self.variance / (self.average + least).clamp(min=1e-12)
        variance = self._per_channel(slope, x) * (x.clamp(min=0) + self._per_channel(least, x))
        return variance.clamp(min=1e-12).sqrt()  # the slope of sqrt has no bound at 0


class MultiplicativeNoise(GaussianNoise):
    """Multiply by 1 + c z with z ~ N(0, 1): the deviation is proportional to the activation.

    Inputs (n, channels, ...). c is such that the noise's mean variance is rho x the variance over images.

    >>> MultiplicativeNoise(2, rho=0.0, key="a")(torch.ones(1, 2)).tolist()
    [[1.0, 1.0]]
    """

    power: Tensor
    statistics = ("variance", "power")

    def measured(self, mean: Tensor, variance: Tensor) -> dict[str, Tensor]:
        """Return the variance over images and the mean square."""
        return {"variance": variance, "power": mean.square() + variance}

    def deviation(self, x: Tensor) -> Tensor:
        """Return c x."""
        share = self.rho * self.variance / self.power.clamp(min=1e-12)
        return x * self._per_channel(share, x).sqrt()


NOISES: dict[str, type[GaussianNoise]] = {
    "gaussian": GaussianNoise,
    "poisson": PoissonNoise,
    "multiplicative": MultiplicativeNoise,
}


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of every unit over rows; as products with ones, ten times as fast as `var`."""
    rows, ones = x.flatten(1), x.new_ones(1, len(x))
    away = rows - rows[:1]  # squares of values far from 0 would swallow their variance
    mean = (ones @ away)[0] / len(x)
    variance = ((ones @ away.square())[0] - len(x) * mean.square()) / (len(x) - 1)
    return (mean + rows[0]).view(x.shape[1:]), variance.clamp(min=0).view(x.shape[1:])


def noise_layers(model: nn.Module) -> list[Noise]:
    """Return a model's noise modules that add anything."""
    return [m for m in model.modules() if isinstance(m, Noise) and m.active]


def has_noise(model: nn.Module) -> bool:
    """Return whether a model has a noise module that adds anything.

    >>> has_noise(nn.Sequential(FixedNoise(0.25, key="a")))
    True
    """
    return bool(noise_layers(model))


def noise_ratio(model: nn.Module) -> float:
    """Return the largest rho of a model's noise modules, 0 without any.

    >>> noise_ratio(nn.Sequential(GaussianNoise(1, rho=2.0, key="a")))
    2.0
    """
    return max((m.rho for m in noise_layers(model) if isinstance(m, GaussianNoise)), default=0.0)


def reseed_noise(model: nn.Module, seed: int) -> None:
    """Restart the generators of all noise modules of `model` from `seed`."""
    for module in noise_layers(model):
        module.reseed(seed)
