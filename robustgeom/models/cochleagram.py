"""A model of the cochlea: waveforms to compressed envelopes of ERB-spaced filters, differentiable throughout.

Filters and order of operations: McDermott and Simoncelli 2011 (doi:10.1016/j.neuron.2011.06.032), with the
settings of Feather et al. 2023 (doi:10.1038/s41593-023-01442-0) as far as they are known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from robustgeom.errors import InputError

__all__ = ["Cochleagram", "Hearing", "compressed", "erb_filters", "erb_number", "slope_capped"]

_FLOOR = 1e-8  # under the power, whose slope at 0 has no bound
_BETA = 5.0  # of the Kaiser window


def erb_number(frequency: Tensor) -> Tensor:
    """Return the ERB-number of frequencies in Hz: how many critical bands lie below (Glasberg and Moore 1990).

    >>> round(erb_number(torch.tensor(1000.0)).item(), 2)
    15.57
    """
    return 9.265 * torch.log1p(frequency / (24.7 * 9.265))


def erb_filters(
    samples: int, *, rate: int, bands: int, oversampling: int, low: float, high: float
) -> tuple[Tensor, Tensor]:
    """Return gains (filters, samples // 2 + 1) at the frequencies of a real FFT, and the filters' centres in Hz.

    Half cosines on the ERB-number scale from `low` to `high` Hz: oversampling * (bands + 1) - 1 of them, and as many
    low-pass and high-pass filters as `oversampling`, so that squared gains sum to 1 at every frequency. rate: in
    samples a second. Raises `InputError` on frequencies above half of it and on counts below 1.

    >>> gains, centres = erb_filters(400, rate=8000, bands=10, oversampling=2, low=50, high=4000)
    >>> gains.shape, bool((gains.square().sum(0) - 1).abs().max() < 1e-12)
    (torch.Size([25, 201]), True)
    """
    if bands < 1 or oversampling < 1 or not 0 <= low < high <= rate / 2:
        got = f"{bands} bands x {oversampling} from {low} to {high} Hz at {rate} a second"
        raise InputError("a band or more, below half the rate", got=got, fix="bands=20, high=rate / 2")
    edges = erb_number(torch.tensor([low, high], dtype=torch.float64))
    count = oversampling * (bands + 1) - 1
    step = float(edges[1] - edges[0]) / (count + 1)
    rows = torch.arange(1 - oversampling, count + oversampling + 1, dtype=torch.float64)
    centres = edges[0] + step * rows
    place = erb_number(torch.fft.rfftfreq(samples, 1 / rate, dtype=torch.float64))
    away = (place - centres[:, None]) / (oversampling * step)
    # What lies below the lowest filters' centres, or above the highest ones', passes them whole.
    away[:oversampling] = away[:oversampling].clamp(min=0)
    away[-oversampling:] = away[-oversampling:].clamp(max=0)
    gains = torch.where(away.abs() < 1, torch.cos(away * math.pi / 2), 0.0) / math.sqrt(oversampling)
    return gains, 24.7 * 9.265 * torch.expm1(centres / 9.265)


class _Power(torch.autograd.Function):
    """x to a power, with a slope of at most `cap`, which a negative x takes too, or with the true slope."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, power: float, cap: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.power, ctx.cap = power, cap
        return (x.clamp(min=0) + _FLOOR).pow(power)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        slope = ctx.power * (x.clamp(min=0) + _FLOOR).pow(ctx.power - 1)
        # Below 0, where the output is flat, published networks let the cut slope through; the true one is 0.
        slope = slope.clamp(max=ctx.cap) if math.isfinite(ctx.cap) else slope * (x > 0)
        return grads[0] * slope, None, None


_CAP: ContextVar[float | None] = ContextVar("cap", default=None)


@contextmanager
def slope_capped(cap: float) -> Iterator[None]:
    """Let the gradient's slope in `compressed` be at most `cap`, whatever it is given, while the context lasts."""
    token = _CAP.set(cap)
    try:
        yield
    finally:
        _CAP.reset(token)


def compressed(x: Tensor, *, power: float = 0.3, cap: float = 5.0) -> Tensor:
    """Return envelopes x (n, ...) raised to `power`, negative ones as 0; the gradient's slope is at most `cap`.

    The slope has no bound at 0, so published networks cut it at 5, and train and are attacked with a gradient that is
    not that of their outputs; with cap=inf it is.

    >>> x = torch.tensor([1e-4, 1.0], requires_grad=True)
    >>> compressed(x).sum().backward()
    >>> [round(v, 3) for v in x.grad.tolist()]
    [5.0, 0.3]
    """
    asked = _CAP.get()
    found: Tensor = _Power.apply(x, power, cap if asked is None else asked)  # type: ignore[no-untyped-call]
    return found


class _Magnitude(torch.autograd.Function):
    """The absolute value of complex numbers, in half the time of torch's; the gradient at 0 is 0."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return torch.addcmul(z.real.square(), z.imag, z.imag).sqrt_()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        size = torch.addcmul(z.real.square(), z.imag, z.imag).sqrt()
        share = grads[0] / size.clamp_min(torch.finfo(size.dtype).tiny)
        return torch.view_as_complex(torch.view_as_real(z) * share.unsqueeze(-1))


class Hearing(nn.Module):
    """Waveforms (n, samples) to envelopes (n, 1, filters, frames) of filters, then compressed; a base class.

    rate: samples a second; `shape` is filters and frames; power and cap are those of `compressed`.
    """

    shape: tuple[int, int]

    def __init__(self, samples: int, *, rate: int, power: float, cap: float) -> None:
        super().__init__()
        self.samples, self.rate, self.power, self.cap = samples, rate, power, cap

    def forward(self, x: Tensor) -> Tensor:
        """Return what is heard of waveforms; raises `InputError` on others than (n, samples)."""
        return self.compressed(self.envelopes(x))

    def compressed(self, envelopes: Tensor) -> Tensor:
        """Return envelopes (n, 1, filters, frames) compressed."""
        return compressed(envelopes, power=self.power, cap=self.cap)

    def envelopes(self, x: Tensor) -> Tensor:
        """Return the envelopes (n, 1, filters, frames) of waveforms, ahead of the compression."""
        if x.dim() != 2 or x.shape[1] != self.samples:
            got = f"shape {tuple(x.shape)}"
            raise InputError(f"waveforms (n, {self.samples})", got=got, fix="cutting or padding them")
        return self.filtered(x)[:, None]

    def filtered(self, x: Tensor) -> Tensor:
        """Return the envelopes (n, filters, frames) of waveforms of the right length."""
        raise NotImplementedError


class Cochleagram(Hearing):
    """Waveforms (n, samples) to compressed envelopes (n, 1, filters, frames).

    rate: samples a second; `samples`: how many a waveform has; `bands`, `oversampling`, `low` and `high` (Hz) are those
    of `erb_filters`; frames: envelopes a second, after a Kaiser-windowed low-pass filter of about ten frames without
    padding; power and cap: those of `compressed`. An envelope is computed at `density` samples a second and Hz of its
    filter's width, or at the waveform's rate with density=None, which costs five times as much. Raises `InputError` on
    waveforms of another length.

    >>> Cochleagram(8000, rate=8000, bands=10, oversampling=2, frames=100)(torch.zeros(2, 8000)).shape
    torch.Size([2, 1, 25, 90])
    """

    order: Tensor

    def __init__(
        self,
        samples: int,
        *,
        rate: int = 20_000,
        bands: int = 50,
        oversampling: int = 4,
        low: float = 50.0,
        high: float | None = None,
        frames: int = 200,
        power: float = 0.3,
        cap: float = 5.0,
        density: float | None = 4.0,
    ) -> None:
        super().__init__(samples, rate=rate, power=power, cap=cap)
        stride, left = divmod(rate, max(frames, 1))
        if frames < 1 or left or stride < 1 or samples % stride or samples <= 10 * stride:
            got = f"{samples} samples at {rate} a second, {frames} frames a second"
            raise InputError("a whole number of frames, more than ten", got=got, fix="frames=100")
        if density is not None and not density >= 1:
            raise InputError("density >= 1, or None", got=str(density), fix="density=2")
        high = rate / 2 if high is None else high
        gains, self.centres = erb_filters(
            samples, rate=rate, bands=bands, oversampling=oversampling, low=low, high=high
        )
        self.shape = len(gains), samples // stride - 10
        gains[:, 1 : (samples + 1) // 2] *= 2  # the analytic signal has both halves' amplitude in one
        wanted = torch.full((len(gains),), stride)
        if density is not None:
            wide = (gains > 0).sum(1) * rate / samples
            wanted = (density * wide / frames).ceil().clamp(max=stride).long()
        strides = [next(s for s in range(w, stride + 1) if stride % s == 0) for w in wanted.tolist()]
        members = [[i for i, s in enumerate(strides) if s == each] for each in sorted(set(strides))]
        self.groups = nn.ModuleList(
            _Filters(gains[rows], samples, strides[rows[0]], samples // stride) for rows in members
        )
        order = torch.tensor([i for rows in members for i in rows]).argsort()
        self.register_buffer("order", order, persistent=False)

    def filtered(self, x: Tensor) -> Tensor:
        """Return the envelopes (n, filters, frames) of waveforms."""
        spectrum = torch.fft.rfft(x)
        return torch.cat([group(spectrum) for group in self.groups], 1)[:, self.order]

    def extra_repr(self) -> str:
        """Describe the module."""
        filters, frames = self.shape
        return f"{self.samples} samples at {self.rate} Hz, {filters} filters, {frames} frames, cap={self.cap}"


class _Filters(nn.Module):
    """Half spectra (n, bins) to low-pass envelopes (n, filters, frames) of filters that share a sampling rate.

    A filter's band, moved to 0 Hz, has the same envelope, and a few times its width of samples hold it.
    """

    places: Tensor
    gains: Tensor
    window: Tensor

    def __init__(self, gains: Tensor, samples: int, stride: int, frames: int) -> None:
        super().__init__()
        self.points, self.frames = frames * stride, frames - 10
        starts, width = (gains > 0).to(torch.uint8).argmax(1), int((gains > 0).sum(1).max())
        places = starts[:, None] + torch.arange(width)
        inside = places < gains.shape[1]
        places = places.clamp(max=gains.shape[1] - 1)
        taken = torch.where(inside, gains.gather(1, places), 0.0) * self.points / samples
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("gains", taken.float(), persistent=False)
        self.register_buffer("window", _blocks(_lowpass(stride), stride), persistent=False)

    def forward(self, spectrum: Tensor) -> Tensor:
        """Return the envelopes."""
        n, (filters, width) = len(spectrum), self.places.shape
        band = spectrum.index_select(1, self.places.flatten()).view(n, filters, width) * self.gains
        envelopes: Tensor = _Magnitude.apply(torch.fft.ifft(band, n=self.points))  # type: ignore[no-untyped-call]
        envelopes = nn.functional.pad(envelopes, (0, -self.points % len(self.window)))
        # Ten strides give to the ten frames that start in them, and to the ten before: one product, then two sums.
        blocks = envelopes.view(n, filters, -1, len(self.window)) @ self.window
        ahead, own = blocks[..., :10], blocks[..., 10:]
        frames: Tensor = own[:, :, :-1] + ahead[:, :, 1:]
        return frames.flatten(2)[:, :, : self.frames]


def _lowpass(stride: int) -> Tensor:
    """Return a windowed sinc of ten strides and a sample, cut off at half the frame rate, zeros up to eleven strides.

    Its sum, the gain at 0 Hz, is 1 within a few thousandths, as a sinc's is.
    """
    reach = 5 * stride
    taps = torch.arange(-reach, reach + 1, dtype=torch.float64)
    window = torch.kaiser_window(2 * reach + 1, periodic=False, beta=_BETA, dtype=torch.float64)
    kernel = torch.sinc(taps / stride) / stride * window
    return nn.functional.pad(kernel, (0, stride - 1)).float()


def _blocks(kernel: Tensor, stride: int) -> Tensor:
    """Return what samples of ten strides (10 stride, 20) give to the ten frames before them and to their own ten."""
    spread = kernel.new_zeros(20 * stride, 10)
    for frame in range(10):
        spread[frame * stride :, frame][: len(kernel)] = kernel[: 20 * stride - frame * stride]
    own, ahead = spread[: 10 * stride], spread[10 * stride :]
    return torch.cat([ahead, own], 1)
