"""Networks that hear: any back end, noise ahead of or behind the compression, gradients with other slopes."""

from __future__ import annotations

import pytest
import torch

from robustgeom.data.load import load_dataset
from robustgeom.errors import InputError, UnknownNameError
from robustgeom.models.build import build
from robustgeom.models.calibrate import calibrate
from robustgeom.models.cochlear import CAPS, Cochlea
from robustgeom.models.mel import MelSpectrogram
from robustgeom.models.noise import noise_layers, noise_off
from robustgeom.models.variants import variant, variant_names

SMALL = {"bands": 8, "oversampling": 1, "frames": 50}


def waves(n=4, samples=4000, seed=0):
    return 0.1 * torch.randn(n, samples, generator=torch.Generator().manual_seed(seed))


def small(**arguments):
    """A small network of half a second at 8 kHz, with its own draw of weights, in eval mode and double precision."""
    front = arguments.pop("front", {})
    front = front if "kind" in front else {**SMALL, **front}
    torch.manual_seed(0)
    return build("cochlear", {"samples": 4000, "classes": 5, "front": front, **arguments}).eval().double()


@pytest.mark.parametrize(
    ("back_end", "stages"),
    [
        ("preact_resnet", ("stage1", "stage2", "stage3")),
        ("cnn", ("conv1", "conv2", "hidden")),
        ("wide_resnet", ("stage1", "stage2", "stage3")),
    ],
)
def test_any_back_end_hears(back_end, stages):
    network = small(back_end=back_end, stride=(1, 2))
    assert network(waves().double()).shape == (4, 5)
    assert network.stages == ("front.cochleagram", "front", "conv", *(f"back.{s}" for s in stages))
    seen = {}
    for name in network.stages:
        module = network.get_submodule(name)
        module.register_forward_hook(lambda *met, name=name: seen.setdefault(name, met[2]))
    network(waves().double())
    assert set(seen) == set(network.stages)
    assert seen["front.cochleagram"].min() >= 0


def test_the_uncapped_gradient_is_that_of_the_outputs_and_the_capped_one_is_not():
    network, x = small(), (0.1 * waves(2)).double().requires_grad_()

    def slope(name):
        net = network if name is None else variant(network, name)
        return torch.autograd.grad(net(x).logsumexp(1).sum(), x)[0]

    found = {name: slope(name) for name in (None, *CAPS)}
    way = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        ends = [network(x + sign * 1e-6 * way).logsumexp(1).sum() for sign in (1, -1)]
    measured = float(ends[0] - ends[1]) / 2e-6
    assert float((found["uncapped"] * way).sum()) == pytest.approx(measured, rel=1e-3)
    assert abs(float((found[None] * way).sum()) / measured - 1) > 0.1
    sizes = [found[name].norm() for name in ("cap-1", None, "cap-25", "uncapped")]
    assert sizes == sorted(sizes)
    assert torch.equal(slope(None), found[None])  # the context is over


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_uncapped_gradient_is_true_on_speech_where_low_passed_envelopes_ring_below_zero(place):
    clips = load_dataset("spoken-words", split="eval").inputs[:40].double().requires_grad_()
    torch.manual_seed(0)
    network = build("cochlear", {"front": {"noisy": place}, "back_end": "pooled_cnn"}).eval().double()
    assert (network.front.cochleagram.envelopes(clips) < 0).flatten(1).any(1).sum() > 10
    uncapped = variant(network, "uncapped")
    slope = torch.autograd.grad(uncapped(clips)[:, 0].sum(), clips)[0]
    way = torch.randn(clips.shape, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        ends = [network(clips + sign * 1e-9 * way)[:, 0] for sign in (1, -1)]
    ratio = (slope * way).sum(1) / ((ends[0] - ends[1]) / 2e-9)
    assert float((ratio - 1).abs().quantile(0.8)) < 0.01


def test_variants_answer_as_the_network_does():
    network, x = small(front={"rho": 1.0}), waves().double()
    assert variant_names(network) == ["cap-1", "cap-25", "noise-frozen:SEED", "noise-off", "uncapped"]
    with noise_off():
        for name in CAPS:
            assert torch.equal(variant(network, name)(x), network(x))


@pytest.mark.parametrize("place", ["before", "after"])
def test_noise_has_the_ratio_where_it_is_put(place):
    front = Cochlea(4000, rate=8000, rho=2.0, noisy=place, **SMALL).eval()
    x = waves(400, seed=2) * torch.linspace(0.5, 2, 400)[:, None]
    calibrate(front, x)
    met = {}
    (layer,) = noise_layers(front)
    layer.register_forward_hook(lambda _, given, out: met.update(clean=given[0], noisy=out))
    out = front(x)
    signal, noise = met["clean"].var(0).mean(), (met["noisy"] - met["clean"]).square().mean()
    assert float(noise / signal) == pytest.approx(2, rel=0.05)
    assert out.min() >= 0
    envelopes = front.cochleagram.envelopes(x)
    clean = {"before": envelopes, "after": front.cochleagram.compressed(envelopes)}[place]
    torch.testing.assert_close(met["clean"], clean)


def test_without_noise_the_front_end_is_the_cochleagram():
    front = Cochlea(4000, rate=8000, **SMALL).eval()
    assert torch.equal(front(waves()), front.cochleagram(waves()))


def test_bad_settings_are_refused():
    with pytest.raises(UnknownNameError, match="place of the noise, got 'behind'"):
        small(front={"rho": 1.0, "noisy": "behind"})
    with pytest.raises(UnknownNameError, match="noise, got 'pink'"):
        small(front={"rho": 1.0, "noise": "pink"})
    with pytest.raises(InputError, match=r"density >= 1, or None, got 0\.5"):
        small(front={"density": 0.5})
    with pytest.raises(InputError, match="a whole number of frames"):
        small(front={"frames": 0})
    with pytest.raises(InputError, match="a stride in filters and one in frames"):
        small(stride=(2,))
    with pytest.raises(InputError, match="rho >= 0"):
        small(front={"rho": -1.0})


# --- the mel spectrogram -----------------------------------------------------------------------------------------


def test_a_tones_magnitude_is_about_its_amplitude_at_its_frequency():
    front = MelSpectrogram(8000, rate=8000, filters=40).double()
    time = torch.arange(8000) / 8000
    for frequency in (300.0, 1000.0, 2500.0):
        found = front.envelopes(0.2 * torch.sin(2 * torch.pi * frequency * time).double()[None])[
            0, 0, :, 20:80
        ]
        loudest = int(found.mean(1).argmax())
        centre = front.mel.mel_scale.fb[:, loudest].argmax() * 8000 / 256
        assert abs(float(centre) / frequency - 1) < 0.15
        assert 0.1 < float(found[loudest].mean()) < 0.4


def test_magnitudes_are_those_of_a_short_time_fourier_transform():
    front, x = MelSpectrogram(4000, rate=8000, filters=20).double(), waves(2, 4000).double()
    window = torch.hann_window(240, dtype=torch.float64)
    plain = torch.stft(x, 256, 80, 240, window, center=True, pad_mode="reflect", return_complex=True).abs()
    expected = front.mel.mel_scale.fb.double().T @ plain * 2 / window.sum()
    torch.testing.assert_close(front.envelopes(x)[:, 0], expected, rtol=1e-6, atol=1e-9)
    assert front(x).shape == (2, 1, *front.shape)


def test_a_network_may_hear_by_mel_and_says_so():
    network = small(front={"kind": "mel", "filters": 20, "rho": 1.0}, back_end="cnn")
    assert network(waves().double()).shape == (4, 5)
    assert network.front.cochleagram.shape == (20, 51)
    with pytest.raises(UnknownNameError, match="front end, got 'melody'; try mel"):
        small(front={"kind": "melody"})
    for bad in ({"frames": 77}, {"filters": 0}, {"frames": 0}):
        with pytest.raises(InputError, match="filters and a whole number of samples a frame"):
            MelSpectrogram(4000, rate=8000, **bad)
    with pytest.raises(InputError, match="filters that let something through, got 120"):
        MelSpectrogram(4000, rate=8000, filters=120)
    with pytest.raises(InputError, match="low below high"):
        MelSpectrogram(4000, rate=8000, low=3000, high=200)
    with pytest.raises(InputError, match=r"waveforms \(n, 4000\), got shape \(1, 3999\)"):
        MelSpectrogram(4000, rate=8000)(torch.zeros(1, 3999))
