"""Recordings: the rules that sound files go through, folders by class, Speech Commands in its own layout."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
import soundfile
import torch

from robustgeom.data.load import load_dataset
from robustgeom.data.speech.sound import clip_of, read_sound
from robustgeom.data.speech.speakers import WORDS
from robustgeom.errors import ContentError, InputError, UnknownNameError


def tone(seconds=1.0, rate=16_000, frequency=440.0, loud=0.3):
    return loud * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


@pytest.fixture
def write(tmp_path):
    """Write a sound file below the test's folder."""

    def put(name, samples, rate=16_000, **options):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, rate, **options)
        return path

    return put


# --- one file ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "subtype", "step"), [("wav", "PCM_16", 4e-5), ("flac", "PCM_24", 1e-7), ("wav", "FLOAT", 1e-7)]
)
def test_sound_files_are_read_as_they_were_written(write, ending, subtype, step):
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, 800)
    found, rate = read_sound(write(f"a.{ending}", samples, 11_025, subtype=subtype))
    assert rate == 11_025
    assert found == pytest.approx(samples, abs=step)


def test_channels_are_averaged(write):
    left, right = tone(frequency=300), tone(frequency=500)
    found, _ = read_sound(write("two.wav", np.stack([left, right], 1), subtype="FLOAT"))
    assert found == pytest.approx((left + right) / 2, abs=1e-6)


def test_a_clip_has_rate_length_and_loudness(write):
    found = clip_of(write("a.wav", tone(2.0, 22_050, loud=0.01), 22_050), rate=8000, seconds=1.0)
    assert found.shape == (8000,)
    assert np.sqrt(np.mean(found**2)) == pytest.approx(0.1)
    assert int(np.abs(np.fft.rfft(found)).argmax()) == 440


def test_a_short_recording_lies_in_the_middle_of_silence(write):
    found = clip_of(write("a.wav", tone(0.5, 8000), 8000), rate=8000, seconds=1.0)
    loud = np.nonzero(np.abs(found) > 0.01)[0]
    assert 1990 <= loud[0] <= 2010
    assert 5990 <= loud[-1] <= 6010


def test_a_click_is_not_amplified_beyond_the_domain(write):
    click = np.zeros(8000)
    click[4000] = 0.5
    assert np.abs(clip_of(write("a.wav", click, 8000), rate=8000, seconds=1.0)).max() == pytest.approx(1)


@pytest.mark.parametrize(
    ("samples", "rate", "said"),
    [
        (np.full(8000, 0.01), 8000, r"expected sound, got silence in"),
        (np.zeros(8000), 8000, r"expected sound, got silence in .*a\.wav; try leaving it out"),
        (tone(0.05), 16_000, r"expected 0\.1 s of sound or more, got 0\.050 s in"),
        (tone(1, 4000), 4000, r"expected 8000 samples a second or more, got 4000 in .*a\.wav"),
        (np.full(8000, np.nan), 8000, r"expected finite samples, got NaN or infinity in .*a\.wav"),
    ],
)
def test_bad_recordings_are_refused_by_name(write, samples, rate, said):
    with pytest.raises(ContentError, match=said):
        clip_of(write("a.wav", samples, rate, subtype="FLOAT"), rate=8000, seconds=1.0)


def test_damaged_files_are_refused(tmp_path):
    (tmp_path / "bad.flac").write_bytes(b"fLaC and nothing more")
    with pytest.raises(ContentError, match=r"expected a readable sound file, got .*bad\.flac"):
        read_sound(tmp_path / "bad.flac")
    with pytest.raises(ContentError, match="a readable sound file, got noname"):
        read_sound(io.BytesIO(b""), name="noname")


# --- folders ----------------------------------------------------------------------------------------------------


def test_a_folder_of_sounds_by_class(write, tmp_path):
    for name, frequency in (("low/b.wav", 200), ("low/a.flac", 250), ("high/c.ogg", 2000)):
        write(name, tone(frequency=frequency))
    (tmp_path / "low" / ".notes").write_text("not a sound")
    data = load_dataset(str(tmp_path))
    assert (data.classes, data.labels.tolist(), data.ids) == (("high", "low"), [0, 1, 1], (0, 1, 2))
    assert (data.rate, data.domain, tuple(data.inputs.shape)) == (8000, (-1.0, 1.0), (3, 8000))
    peaks = torch.fft.rfft(data.inputs).abs().argmax(1).tolist()
    assert peaks == [2000, 250, 200]
    longer = load_dataset(f"sound:{tmp_path}@16000/0.5", limit=2)
    assert (longer.rate, tuple(longer.inputs.shape), longer.ids) == (16_000, (2, 8000), (0, 1))


def test_folders_that_hold_no_sounds_are_refused(tmp_path, write):
    with pytest.raises(ContentError, match="sound:FOLDER@16000/1 of a folder that exists"):
        load_dataset("sound:nowhere")
    write("one/a.wav", tone())
    with pytest.raises(ContentError, match="one sub-folder of sound files a class, got 1 sub-folders with 1"):
        load_dataset(str(tmp_path))
    with pytest.raises(InputError, match="a rate and a length above 0"):
        load_dataset(f"sound:{tmp_path}@0/1")


# --- Speech Commands --------------------------------------------------------------------------------------------


@pytest.fixture
def commands(write, tmp_path):
    """Speech Commands in its own layout, with a clip of every word in each split, and words that are not ours."""
    root = "SpeechCommands/speech_commands_v0.02"
    lists = {"test": [], "validation": []}
    for i, word in enumerate([*WORDS, "marvin"]):
        for j, split in enumerate(("train", "test", "validation")):
            name = f"{word}/{i:06x}{j:02x}_nohash_0.wav"
            write(f"{root}/{name}", tone(frequency=200 + 50 * i), 16_000)
            lists.get(split, []).append(name)
    write(f"{root}/_background_noise_/pink_noise.wav", tone(2))
    (tmp_path / root / "testing_list.txt").write_text("\n".join(lists["test"]))
    (tmp_path / root / "validation_list.txt").write_text("\n".join(lists["validation"]) + "\n")
    return tmp_path


@pytest.mark.parametrize(("split", "place"), [("train", 0), ("test", 1), ("validation", 2), ("eval", 1)])
def test_speech_commands_splits_by_its_lists(commands, split, place):
    data = load_dataset("speech-commands", split=split, data_dir=str(commands))
    assert data.classes == WORDS
    assert sorted(data.labels.tolist()) == list(range(20))
    assert {s[-2:] for s in data.facts["speaker"]} == {f"{place:02x}"}
    assert len(data) == 20
    peaks = torch.fft.rfft(data.inputs).abs().argmax(1)
    assert torch.equal(peaks, 200 + 50 * data.labels)


def test_speech_commands_reads_what_torchaudio_lays_out(commands):
    from torchaudio.datasets import SPEECHCOMMANDS

    theirs = SPEECHCOMMANDS(commands, subset="testing")
    found = sorted(
        theirs.get_metadata(i)[2:4] for i in range(len(theirs)) if theirs.get_metadata(i)[2] in WORDS
    )
    data = load_dataset("speech-commands", split="test", data_dir=str(commands))
    words = [WORDS[i] for i in data.labels.tolist()]
    assert sorted(zip(words, data.facts["speaker"], strict=True)) == found


def test_an_archive_that_lacks_clips_is_refused(commands):
    root = commands / "SpeechCommands" / "speech_commands_v0.02"
    shutil.rmtree(root / "zero")
    with pytest.raises(
        ContentError, match=r"all clips of split test, got none of zero/00000001_nohash_0\.wav"
    ):
        load_dataset("speech-commands", split="test", data_dir=str(commands))
    with pytest.raises(ContentError, match="all clips of split train, got none of zero in"):
        load_dataset("speech-commands", split="train", data_dir=str(commands))


def test_missing_speech_commands_say_how_to_get_them(tmp_path):
    with pytest.raises(ContentError, match=r"download=True\), and --data-dir FOLDER"):
        load_dataset("speech-commands", data_dir=str(tmp_path))
    with pytest.raises(UnknownNameError):
        load_dataset("speech-command")
