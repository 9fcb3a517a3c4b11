"""Attacked sounds on the page: the waveforms as they were, their cochleagrams, and how far the change lies below."""

from __future__ import annotations

import base64
import io
import wave
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from robustgeom.data.dataset import Dataset
from robustgeom.harness.examples import examples as kept
from robustgeom.report import compare
from robustgeom.report.figures import accuracy_figure
from robustgeom.report.html import render
from robustgeom.report.images import examples
from robustgeom.schema import SoundInfo
from robustgeom.words import loudness_text

RATE = 8000
SOUND = SoundInfo(rate=RATE, samples=RATE, level=0.1 / 2**0.5)


@pytest.fixture
def heard(make_record):
    """A record of three waveforms of a second, the second of which has fallen to a tone 40 dB below it."""
    time = torch.arange(RATE) / RATE
    clean = 0.1 * torch.stack([torch.sin(2 * torch.pi * f * time) for f in (200.0, 400.0, 3000.0)])
    attacked = clean + 0.001 * torch.sin(2 * torch.pi * 1000 * time)
    labels = torch.tensor([0, 1, 2])
    data = Dataset("waves", "test", clean, labels, (10, 11, 12), ("a", "b", "c"), (-1.0, 1.0), rate=RATE)
    arrays = kept(data, labels, torch.tensor([0, 2, 2]), attacked)
    record = make_record(clean=[True] * 3, fooled={"pgd": [9.0, 0.1, 9.0]}, arrays=arrays)
    facts = record.header.data.model_copy(update={"sound": SOUND, "domain": (-1.0, 1.0)})
    return replace(record, header=record.header.model_copy(update={"data": facts})), clean[1], attacked[1]


def samples_of(uri):
    head, _, body = uri.partition(",")
    assert head == "data:audio/wav;base64"
    with wave.open(io.BytesIO(base64.b64decode(body))) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        return np.frombuffer(file.readframes(RATE), "<i2") / 32767


def test_sounds_are_played_as_they_were(heard):
    record, clean, attacked = heard
    (example,), sentence = examples(record)
    assert "1 of 1 recorded examples" in sentence
    assert example.sample_id == 11
    for sound, expected in zip(example.sounds, (clean, attacked), strict=True):
        np.testing.assert_allclose(samples_of(sound.uri), expected.numpy(), atol=1.6e-5)
    one, two = record.header.data.classes[1:3]
    assert [s.caption for s in example.sounds] == [f"clean: {one}", f"attacked at 40 dB: heard as {two}"]


def test_cochleagrams_have_low_sounds_at_the_bottom_on_one_scale(heard):
    record, *_ = heard
    ((example,), _) = examples(record)
    pictures = []
    for picture in example.pictures:
        body = picture.uri.partition(",")[2]
        pictures.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(body)))).astype(int))
    assert [p.shape for p in pictures] == [(45, 90)] * 2
    loudest = pictures[0].mean(1).argmax()
    assert loudest > 22  # 400 Hz of 4,000 lies in the lower half
    assert pictures[1][:loudest].mean() > pictures[0][:loudest].mean()  # the added 1,000 Hz lie above
    assert max(p.max() for p in pictures) == 255


def test_the_page_plays_them_and_its_policy_allows_it(heard):
    record, *_ = heard
    page = render(compare([record]))
    assert page.count("<audio controls") == 2
    assert "media-src data:" in page
    assert ">Attacked sounds</h2>" in page


def test_a_rate_that_no_cochleagram_fits_leaves_the_sounds(heard):
    record, *_ = heard
    arrays = {k: v for k, v in record.arrays.items() if "heard" not in k}
    ((example,), _) = examples(replace(record, arrays=arrays))
    assert (len(example.pictures), len(example.sounds)) == (0, 2)
    short = Dataset(
        "w", "t", torch.zeros(1, 50) + 0.1, torch.tensor([0]), (0,), ("a", "b"), (-1, 1), rate=RATE
    )
    made = kept(short, short.labels, short.labels, short.inputs)
    assert "examples.clean" in made
    assert not any("heard" in name for name in made)


def test_examples_that_do_not_fit_together_are_not_drawn(heard):
    record, *_ = heard
    for name, bad in (("examples.labels", np.array([1, 2])), ("examples.heard_clean", np.zeros((2, 3, 4)))):
        said = examples(replace(record, arrays={**record.arrays, name: bad}))
        assert said == ([], "The record's examples do not fit together and are not drawn.")


def test_nothing_is_said_of_silence_and_of_measures_without_a_ball():
    facts = {"samples": RATE, "level": 0.1}
    assert loudness_text(10, "l0", **facts) == loudness_text(3, "corruption", **facts) == ""
    assert loudness_text(0.1, "linf", samples=RATE, level=0.0) == ""


def test_radii_are_said_as_ratios_too(heard):
    record, *_ = heard
    comparison = compare([record])
    page = render(comparison)
    assert "linf 8/255 is 7.06 dB or more; linf 0.1 is -3.01 dB or more." in page
    figure = accuracy_figure(comparison)
    assert figure.columns[:3] == ("model", "eps (linf)", "SNR")
    assert [row[2] for row in figure.rows] == ["inf dB", "7.06 dB or more", "-3.01 dB or more"]


@pytest.mark.parametrize(("models", "shown"), [(1, 8), (2, 4), (4, 2), (40, 1)])
def test_beside_many_models_each_plays_fewer_sounds(heard, models, shown):
    record, *_ = heard
    arrays = {k: np.repeat(v, 9, axis=0) for k, v in record.arrays.items() if k.startswith("examples.")}
    found, sentence = examples(replace(record, arrays=arrays), models)
    assert len(found) == shown
    assert sentence.startswith(f"{shown} of 9 recorded examples")
