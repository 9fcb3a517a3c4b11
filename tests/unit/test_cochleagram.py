"""The cochleagram against its closed forms, an independent path through scipy, and finite differences."""

import math

import numpy as np
import pytest
import torch
from scipy import signal

from robustgeom.errors import InputError
from robustgeom.models.cochleagram import Cochleagram, compressed, erb_filters, erb_number

SMALL = {"samples": 4000, "rate": 4000, "bands": 9, "oversampling": 2, "frames": 100}


def noise(n=2, samples=4000, seed=0):
    return 0.1 * torch.randn(n, samples, generator=torch.Generator().manual_seed(seed))


def test_the_published_setting_has_the_published_sizes():
    module = Cochleagram(40_000)
    assert module.shape == (211, 390)
    gains, centres = erb_filters(40_000, rate=20_000, bands=50, oversampling=4, low=50, high=10_000)
    numbers = erb_number(centres)
    assert float((numbers[1:] - numbers[:-1]).mean()) == pytest.approx(0.164, abs=5e-4)
    assert float(centres[4]) > 50
    assert float(centres[3]) == pytest.approx(50)
    assert float(centres[207]) == pytest.approx(10_000)
    assert gains.shape == (211, 20_001)


@pytest.mark.parametrize(("bands", "oversampling"), [(1, 1), (9, 1), (9, 2), (7, 4)])
def test_squared_gains_sum_to_one_at_every_frequency(bands, oversampling):
    gains, centres = erb_filters(
        999, rate=8000, bands=bands, oversampling=oversampling, low=40.0, high=3500.0
    )
    assert len(gains) == oversampling * (bands + 1) - 1 + 2 * oversampling == len(centres)
    torch.testing.assert_close(
        gains.square().sum(0), torch.ones(500, dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_a_filter_is_a_half_cosine_on_the_erb_number_scale():
    gains, centres = erb_filters(8000, rate=8000, bands=9, oversampling=1, low=50, high=4000)
    hertz = torch.arange(4001, dtype=torch.float64)
    step = float(erb_number(centres)[1] - erb_number(centres)[0])
    for gain, centre in zip(gains[1:-1], centres[1:-1], strict=True):
        away = (9.265 * torch.log(1 + hertz / 228.8455) - 9.265 * torch.log(1 + centre / 228.8455)) / step
        expected = torch.where(away.abs() < 1, torch.cos(away * math.pi / 2), 0.0)
        torch.testing.assert_close(gain, expected)
    assert bool((gains[0][hertz <= centres[0]] == 1).all())
    assert bool((gains[-1][hertz >= centres[-1]] == 1).all())


def by_scipy(x, *, samples, rate, bands, oversampling, frames):
    """Filter, take Hilbert envelopes at the full rate, convolve with a windowed sinc, keep one a stride, compress."""
    gains, _ = erb_filters(samples, rate=rate, bands=bands, oversampling=oversampling, low=50, high=rate / 2)
    stride = rate // frames
    kernel = signal.firwin(10 * stride + 1, frames / 2, window=("kaiser", 5.0), fs=rate, scale=False)
    found = []
    for wave in x.double().numpy():
        filtered = np.fft.irfft(np.fft.rfft(wave) * gains.numpy(), n=samples)
        envelopes = np.abs(signal.hilbert(filtered))
        smooth = np.stack([np.convolve(e, kernel, mode="valid")[::stride] for e in envelopes])
        found.append((np.maximum(smooth, 0) + 1e-8) ** 0.3)
    return torch.from_numpy(np.stack(found)).float()[:, None]


def test_it_is_what_scipy_makes_of_the_same_steps():
    x = noise()
    found = Cochleagram(**SMALL, density=None)(x)
    expected = by_scipy(x, **SMALL)
    assert found.shape == expected.shape == (2, 1, 23, 90)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("density", "error"), [(8.0, 0.002), (4.0, 0.006), (2.0, 0.03)])
def test_fewer_samples_than_the_waveforms_hold_the_envelopes(density, error):
    x = noise(8)
    exact, quick = Cochleagram(**SMALL, density=None)(x), Cochleagram(**SMALL, density=density)(x)
    away = (quick - exact).square().mean().sqrt() / exact.std((0, 3)).mean()
    assert 0 < away < error
    assert min(len(g.window.T) for g in Cochleagram(**SMALL, density=density).groups) < SMALL["rate"] // 100


def test_a_tone_sounds_where_its_filter_is_and_twice_as_loud_is_two_to_the_power():
    module = Cochleagram(**SMALL)
    row = 12
    tone = torch.sin(2 * math.pi * module.centres[row] * torch.arange(4000) / 4000)[None].float()
    levels = module(0.1 * tone)[0, 0].mean(1)
    assert int(levels.argmax()) == row
    expected = (0.1 / math.sqrt(2)) ** 0.3  # the gain at a centre is 1 / sqrt(oversampling)
    assert float(levels[row]) == pytest.approx(expected, rel=2e-3)
    assert float(module(0.2 * tone)[0, 0, row].mean() / levels[row]) == pytest.approx(2**0.3, rel=1e-3)


def test_gradients_without_a_cap_are_those_of_finite_differences():
    module = Cochleagram(**SMALL, cap=math.inf).double()
    x, direction = noise(1).double().requires_grad_(), noise(1, seed=1).double()
    weight = torch.randn(23, 90, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    weight[module(x.detach())[0, 0] < 0.05] = (
        0  # a negative envelope takes a slope that its value does not have
    )

    def value(z):
        return (module(z)[0, 0] * weight).sum()

    (gradient,) = torch.autograd.grad(value(x), x)
    step = 1e-4
    with torch.no_grad():
        numeric = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(numeric), rel=1e-4)


@pytest.mark.parametrize("cap", [5.0, 50.0, math.inf])
def test_the_slope_of_the_compression_is_capped(cap):
    x = torch.tensor([-0.1, 0.0, 1e-6, 1e-3, 0.018, 0.2], dtype=torch.float64, requires_grad=True)
    out = compressed(x, cap=cap)
    (slope,) = torch.autograd.grad(out.sum(), x)
    exact = 0.3 * (x.detach().clamp(min=0) + 1e-8) ** -0.7
    # Cut, the slope is let through below 0, as published; else it is the true one, and the output is flat there.
    expected = exact.clamp(max=cap) if math.isfinite(cap) else exact * (x.detach() > 0)
    torch.testing.assert_close(slope, expected)
    torch.testing.assert_close(out.detach(), (x.detach().clamp(min=0) + 1e-8) ** 0.3)


def test_rows_do_not_see_each_other_and_silence_is_finite():
    module, x = Cochleagram(**SMALL), noise(3)
    torch.testing.assert_close(module(x)[1:2], module(x[1:2]), rtol=1e-5, atol=1e-6)
    silence = torch.zeros(1, 4000, requires_grad=True)
    out = module(silence)
    out.sum().backward()
    torch.testing.assert_close(out, torch.full_like(out, 1e-8**0.3))
    assert torch.isfinite(silence.grad).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"high": 3000.0}, "a band or more, below half the rate"),
        ({"low": -1.0}, "a band or more"),
        ({"bands": 0}, "a band or more"),
        ({"frames": 90}, "a whole number of frames"),
        ({"samples": 400}, "more than ten"),
        ({"samples": 4001}, "a whole number of frames"),
    ],
)
def test_settings_that_make_no_cochleagram_are_refused(change, said):
    with pytest.raises(InputError, match=said):
        Cochleagram(**{**SMALL, **change})


@pytest.mark.parametrize("shape", [(1, 3999), (4000,), (1, 1, 4000)])
def test_waveforms_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match=r"expected waveforms \(n, 4000\)"):
        Cochleagram(**SMALL)(torch.zeros(shape))
