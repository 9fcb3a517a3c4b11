"""The data set spoken-words: made here bit for bit, at the stated ratios, by speakers that no two splits share."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustgeom.data.dataset import Dataset
from robustgeom.data.load import load_dataset
from robustgeom.data.speech import spoken_words as module
from robustgeom.data.speech.noise import LOUDNESS, babble, level, mixed, modulated, pink
from robustgeom.data.speech.speakers import ACCENTS, SPEAKERS, WORDS, takes
from robustgeom.data.speech.synthesis import RATE, resampled, say, trimmed
from robustgeom.errors import ContentError, InputError


@pytest.fixture(scope="module")
def test_split():
    """What the speakers of the test split say, by the synthesiser itself."""
    return module.spoken("test")


# --- who says what ----------------------------------------------------------------------------------------------


def test_splits_share_no_speaker_nor_steps_of_one_voice():
    stems = {split: {s.lower().rstrip("0123456789") for s in names} for split, names in SPEAKERS.items()}
    for first, second in combinations(SPEAKERS, 2):
        assert not set(SPEAKERS[first]) & set(SPEAKERS[second])
        # f1 to f5 and m1 to m8 are voices of their own, not steps of one.
        assert stems[first] & stems[second] <= {"f", "m"}
    assert sum(map(len, SPEAKERS.values())) == 95
    assert (len(WORDS), len(set(WORDS)), len(set(ACCENTS))) == (20, 20, 4)


def test_a_speaker_says_every_word_in_every_accent_at_varying_rate_and_pitch():
    said = takes("train", "m1")
    assert Counter((a, w) for a, w, _ in said) == {(a, w): 2 for a in ACCENTS for w in range(20)}
    assert len({(t[1], t[2]) for _, _, t in said}) > 120
    assert all(130 <= t[1] <= 210 and 25 <= t[2] <= 75 for _, _, t in said)
    assert takes("train", "m1") == said != takes("train", "m1", seed=1)


# --- the synthesiser --------------------------------------------------------------------------------------------


def test_a_new_process_says_the_same_again():
    asked = [take for _, _, take in takes("validation", "f4")][:5]
    (rate, first), (_, second) = say(asked), say(asked)
    assert rate == 22_050
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(len(clip) > rate / 10 for clip in first)


def test_an_unknown_voice_is_refused():
    with pytest.raises(ContentError, match="espeak-ng: voice nobody"):
        say([("nobody", 150, 50, "yes")])


def test_the_synthesisers_samples_are_those_that_the_data_set_is_made_of(test_split):
    assert module.digest_of(test_split) == module.DIGESTS["test"]


@pytest.mark.slow
@pytest.mark.parametrize("split", ["validation", "train"])
def test_the_other_splits_samples_too(split):
    assert module.digest_of(module.spoken(split)) == module.DIGESTS[split]


def test_a_tone_is_kept_and_one_that_the_new_rate_cannot_hold_is_taken_away():
    time = np.arange(22_050) / 22_050
    inside = slice(500, -500)
    kept = resampled(np.sin(2 * np.pi * 440 * time), 22_050, RATE)
    assert kept[inside] == pytest.approx(np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)[inside], abs=2e-3)
    assert level(resampled(np.sin(2 * np.pi * 6_000 * time), 22_050, RATE)[inside]) < 2e-3


def test_silence_around_a_word_goes_but_for_a_hundredth_of_a_second():
    word = np.concatenate(
        [np.zeros(5000), 9000 * np.ones(300), np.zeros(100), 9000 * np.ones(10), np.zeros(70)]
    )
    assert len(trimmed(word.astype(np.int16), 1000)) == 10 + 410 + 10


# --- backgrounds and mixing -------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.floats(-10, 40))
def test_a_mix_has_the_stated_ratio_and_loudness(seed, snr):
    generator = np.random.default_rng(seed)
    speech, noise = generator.standard_normal((2, 800)) * generator.uniform(1e-3, 10, (2, 1))
    found = mixed(speech, noise, snr)
    basis = np.stack([speech, noise], 1)
    share, *_ = np.linalg.lstsq(basis, found, rcond=None)
    ratio = 20 * np.log10(share[0] * level(speech) / (share[1] * level(noise)))
    assert ratio == pytest.approx(snr, abs=1e-6)
    assert level(found) == pytest.approx(LOUDNESS)


def test_a_peak_stays_in_the_domain():
    click = np.zeros(8000)
    click[17] = 1
    found = mixed(click, np.random.default_rng(0).standard_normal(8000), 60)
    assert np.abs(found).max() == pytest.approx(1)
    assert level(found) < LOUDNESS


def test_pink_noise_has_equal_power_in_every_octave_and_none_below_50_hz():
    generator = np.random.default_rng(0)
    power = np.mean([np.abs(np.fft.rfft(pink(8000, 8000, generator))) ** 2 for _ in range(200)], 0)
    octaves = [power[low : 2 * low].sum() for low in (60, 120, 240, 480, 960, 1920)]
    assert max(octaves) / min(octaves) < 1.1
    assert power[:50].max() < 1e-20 * power[50]


def test_modulated_noise_swells_at_one_speed():
    envelope = np.abs(modulated(80_000, 8000, np.random.default_rng(3)))
    spectrum = np.abs(np.fft.rfft(envelope - envelope.mean()))
    assert 20 <= int(spectrum.argmax()) <= 80  # of ten seconds: 2 to 8 Hz


def test_babble_is_six_talkers_at_one_level():
    tones = [np.sin(2 * np.pi * f * np.arange(8000) / 8000) * f for f in (100, 200)]
    found = babble(8000, [tones[0]], np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(found)) / 4000
    assert spectrum[100] == pytest.approx(6 * np.sqrt(2), rel=0.5)  # six phases of one tone
    assert babble(8000, tones, np.random.default_rng(1)).shape == (8000,)


# --- the data set -----------------------------------------------------------------------------------------------


def test_the_shipped_clips_are_those_that_are_made_here_within_one_step(test_split):
    made, known = module.clips(test_split, "test")
    data = load_dataset("spoken-words", split="eval")
    again = torch.from_numpy(made[list(data.ids)].astype(np.float32)) / 32768
    assert float((data.inputs - again).abs().max()) * 32768 <= 1
    for name, values in data.facts.items():
        assert values == tuple(known[i][name] for i in data.ids)


def test_the_shipped_clips_are_balanced_and_cover_the_ratios():
    data = load_dataset("spoken-words", split="eval")
    assert (data.rate, data.domain, tuple(data.inputs.shape)) == (8000, (-1.0, 1.0), (500, 8000))
    assert data.labels.bincount().tolist() == [25] * 20
    assert set(data.facts["speaker"]) == set(SPEAKERS["test"])
    snr = np.array(data.facts["snr_db"], dtype=float)
    assert np.histogram(snr, [0, 5, 10, 15, 20])[0].min() > 90
    assert set(data.facts["background"]) == {"babble", "pink", "modulated"}
    levels = data.inputs.square().mean(1).sqrt()
    assert float(levels.max()) <= LOUDNESS * 1.001
    assert float(levels.median()) == pytest.approx(LOUDNESS, rel=1e-3)


def test_a_split_is_kept_and_other_samples_or_a_damaged_file_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SPEAKERS", {"validation": SPEAKERS["validation"][:2]})

    def load():
        return load_dataset("spoken-words", split="validation", data_dir=str(tmp_path))

    with pytest.raises(
        ContentError, match=r"other samples from espeak-ng .*; try pip install espeakng-loader=="
    ):
        load()
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(module, "DIGESTS", {"validation": module.digest_of(module.spoken("validation"))})
    first = load()
    monkeypatch.setattr(module, "spoken", None)
    assert load().hash == first.hash
    assert load().facts == first.facts
    (file,) = tmp_path.rglob("*.npz")
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    with pytest.raises(
        ContentError, match=r"expected clips kept earlier, got .*validation\.npz: .*; try removing"
    ):
        load()


def test_facts_go_with_their_samples():
    facts = {"speaker": ("a", "b", "c")}
    data = Dataset("t", "s", torch.zeros(3, 4), torch.tensor([0, 1, 0]), (1, 2, 3), ("x", "y"), facts=facts)
    assert data.take(torch.tensor([2, 0])).facts == {"speaker": ("c", "a")}
    with pytest.raises(InputError, match="3 values of every fact, got 2 of speaker"):
        Dataset("t", "s", data.inputs, data.labels, data.ids, data.classes, facts={"speaker": ("a", "b")})
