"""The data set spoken-words: 20 words by 95 synthetic speakers with four accents, in noise; made here, bit for bit."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustgeom.data.dataset import Dataset
from robustgeom.data.places import data_folder
from robustgeom.data.speech.noise import babble, mixed, modulated, pink
from robustgeom.data.speech.sound import read_sound
from robustgeom.data.speech.speakers import SPEAKERS, WORDS, takes
from robustgeom.data.speech.synthesis import RATE, resampled, say, trimmed
from robustgeom.data.splits import source_of
from robustgeom.errors import ContentError
from robustgeom.files import write_bytes
from robustgeom.seeds import seed_of

__all__ = ["SNR_DB", "spoken_words"]

SNR_DB = (0.0, 20.0)
EVAL_PER_WORD = 25
VERSION = 1
_SHIPPED = "spoken_words_eval"
_FACTS = ("speaker", "accent", "background", "snr_db")
DIGESTS = {
    "train": "299cd6c991c7cb3e6ab98791e9a7cb1ae290ef17cdf935dce9a09db4ab895daa",
    "validation": "557521f1ac7ea8d869677e4606913af78f2987efe5c75a90a88a2330a85db392",
    "test": "5e4f49645a574cf321bb6cadbcc60f5a45f42f83d4943f4359f1ba29d4530d0a",
}
"""The sha256 over what espeak-ng says in a split, before any arithmetic of ours."""


def spoken_words(split: str = "eval", *, data_dir: str | None = None) -> Dataset:
    """Return a split of spoken-words: eval (500 balanced test clips, shipped), test, train or validation.

    Waveforms (n, 8000) in [-1, 1], a second long, of the ten digits and ten commands; splits share no speaker. Each
    word lies somewhere in babble of other speakers, pink or modulated noise, at a signal-to-noise ratio drawn from 0 to
    20 dB. `facts` has speaker, accent, background and snr_db of each clip; sample ids are positions in the split. All
    but eval are synthesised on first use, in about a minute, and kept in `data_dir`, by default ROBUSTGEOM_DATA, then
    ~/.cache/robustgeom. Raises `InputError` on an unknown split and `ContentError` where the synthesiser is missing or
    says something else than it should.

    >>> spoken_words("eval").inputs.shape
    torch.Size([500, 8000])
    """
    source_of(split)  # refuses an unknown one
    made, known, ids = _shipped() if split == "eval" else _kept(split, data_dir)
    words = [WORDS.index(str(row["word"])) for row in known]
    return Dataset(
        name="spoken-words",
        split=split,
        inputs=torch.from_numpy(made.astype(np.float32) / 32768),
        labels=torch.tensor(words),
        ids=tuple(ids),
        classes=WORDS,
        domain=(-1.0, 1.0),
        rate=RATE,
        facts={name: tuple(row[name] for row in known) for name in _FACTS},
    )


_Rows = list[dict[str, Any]]


@cache
def _shipped() -> tuple[NDArray[np.int16], _Rows, list[int]]:
    folder = resources.files("robustgeom.data.speech")
    known = json.loads(folder.joinpath(f"{_SHIPPED}.json").read_text())
    samples, _ = read_sound(
        io.BytesIO(folder.joinpath(f"{_SHIPPED}.flac").read_bytes()), name=f"{_SHIPPED}.flac"
    )
    made = np.round(samples * 32768).astype(np.int16).reshape(-1, RATE)
    return made, known, [row["id"] for row in known]


def _kept(split: str, data_dir: str | None) -> tuple[NDArray[np.int16], _Rows, list[int]]:
    path = data_folder(data_dir) / f"spoken-words-{VERSION}" / f"{split}.npz"
    if not path.is_file():
        _write(path, *_made(split))
    try:
        with np.load(path, allow_pickle=False) as arrays:
            made, known = arrays["clips"], json.loads(str(arrays["facts"]))
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ContentError("clips kept earlier", got=f"{path}: {error}", fix="removing it") from error
    return made, known, list(range(len(made)))


def _write(path: Path, made: NDArray[np.int16], known: _Rows) -> None:
    raw = io.BytesIO()
    np.savez(raw, clips=made, facts=json.dumps(known))
    write_bytes(path, raw.getvalue())


def _made(split: str) -> tuple[NDArray[np.int16], _Rows]:
    said = spoken(split)
    found = digest_of(said)
    if found != DIGESTS[split]:
        got = f"other samples from espeak-ng ({found[:12]}...)"
        raise ContentError(f"spoken-words {VERSION}", got=got, fix="pip install espeakng-loader==0.2.4")
    return clips(said, split)


def digest_of(said: Sequence[Spoken]) -> str:
    """Return the sha256 over the synthesiser's samples of every word, in order."""
    return hashlib.sha256(b"".join(one.digest for one in said)).hexdigest()


@dataclass(frozen=True)
class Spoken:
    """A word as it was said: who, how, which word, its samples (t,) at 8,000 a second, and those of the synthesiser."""

    speaker: str
    accent: str
    word: int
    samples: NDArray[np.float64]
    digest: bytes


def spoken(split: str, *, seed: int = 0) -> list[Spoken]:
    """Return every take of a split, in the order of its speakers; speakers are shared out over the processors."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        said = pool.map(lambda speaker: _said(split, speaker, seed), SPEAKERS[split])
        return [one for speaker in said for one in speaker]


def _said(split: str, speaker: str, seed: int) -> list[Spoken]:
    asked = takes(split, speaker, seed=seed)
    rate, clips = say([take for _, _, take in asked])
    found = []
    for (accent, word, _), clip in zip(asked, clips, strict=True):
        samples = resampled(trimmed(clip, rate) / 32768, rate, RATE)[:RATE]
        found.append(Spoken(speaker, accent, word, samples, hashlib.sha256(clip.tobytes()).digest()))
    return found


def clips(said: Sequence[Spoken], split: str, *, seed: int = 0) -> tuple[NDArray[np.int16], _Rows]:
    """Return every word in a background of its own (n, 8000), and what is known of each clip."""
    made = [_clip(said, i, np.random.default_rng(seed_of(seed, "mix", split, i))) for i in range(len(said))]
    return np.stack([samples for samples, _ in made]), [facts for _, facts in made]


def _clip(
    said: Sequence[Spoken], index: int, generator: np.random.Generator
) -> tuple[NDArray[np.int16], dict[str, Any]]:
    one = said[index]
    kind = ("babble", "pink", "modulated")[int(generator.integers(3))]
    snr = float(generator.uniform(*SNR_DB))
    start = int(generator.integers(RATE - len(one.samples) + 1))
    speech = np.pad(one.samples, (start, RATE - len(one.samples) - start))
    if kind == "babble":
        others = [other.samples for other in said if other.speaker != one.speaker]
        background = babble(RATE, others, generator)
    else:
        background = {"pink": pink, "modulated": modulated}[kind](RATE, RATE, generator)
    whole = np.round(mixed(speech, background, snr) * 32767).astype(np.int16)
    facts = {"speaker": one.speaker, "accent": one.accent, "background": kind, "snr_db": round(snr, 2)}
    return whole, {"word": WORDS[one.word], **facts}
