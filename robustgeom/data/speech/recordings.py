"""Recordings of people: folders of sound files by class, and Speech Commands (Warden 2018, arXiv:1804.03209)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from robustgeom.data.dataset import Dataset
from robustgeom.data.folder import listing
from robustgeom.data.places import data_folder
from robustgeom.data.speech.sound import clip_of
from robustgeom.data.speech.speakers import WORDS
from robustgeom.data.speech.synthesis import RATE
from robustgeom.data.splits import choose_eval_ids, source_of
from robustgeom.errors import ContentError, InputError

__all__ = ["SOUND", "SOUND_ENDINGS", "sound_folder", "speech_commands"]

SOUND = "sound:"
SOUND_ENDINGS = frozenset({".wav", ".flac", ".ogg", ".aiff", ".au"})
_EVAL_PER_WORD = 25
_COMMANDS = Path("SpeechCommands") / "speech_commands_v0.02"
_LISTS = {"test": "testing_list.txt", "validation": "validation_list.txt"}


def sound_folder(reference: str, *, limit: int | None = None) -> Dataset:
    """Return the recordings of a folder, "sound:FOLDER" or "sound:FOLDER@RATE/SECONDS": (n, t) in [-1, 1].

    FOLDER holds one sub-folder of sound files a class; RATE is in samples a second and 8000, SECONDS 1, unless said
    otherwise. Every recording goes through `clip_of`. Classes are the sub-folders in sorted order, sample ids count the
    files in sorted order; with `limit`, at most so many are read, classes balanced. Raises `InputError` on rate and
    length, and `ContentError` on a folder or on files that do not fit.
    """
    path, rate, seconds = _parsed(reference)
    found = listing(path, SOUND_ENDINGS, "sound files")
    ids = found.chosen(range(len(found.files)), limit)
    clips = [clip_of(found.files[i], rate=rate, seconds=seconds) for i in ids]
    return Dataset(
        name=path.resolve().name,
        split="given",
        inputs=torch.from_numpy(np.stack(clips).astype(np.float32)),
        labels=torch.tensor([found.labels[i] for i in ids]),
        ids=tuple(ids),
        classes=found.classes,
        domain=(-1.0, 1.0),
        rate=rate,
    )


def _parsed(reference: str) -> tuple[Path, int, float]:
    folder, rate, seconds = reference.removeprefix(SOUND), RATE, 1.0
    if given := re.fullmatch(r"(.+)@(\d+)/(\d+(?:\.\d+)?)", folder):
        folder, rate, seconds = given[1], int(given[2]), float(given[3])
    if rate < 1 or seconds * rate < 1:
        raise InputError("a rate and a length above 0", got=reference, fix="@16000/1")
    if not folder or not Path(folder).is_dir():
        form = f"{SOUND}FOLDER or {SOUND}FOLDER@16000/1 of a folder that exists"
        raise ContentError(form, got=repr(reference), fix="checking the path")
    return Path(folder), rate, seconds


def speech_commands(split: str = "eval", *, data_dir: str | None = None) -> Dataset:
    """Return a split of Speech Commands 0.02: eval (25 test clips a word), test, train or validation.

    Waveforms (n, 8000) in [-1, 1], a second at 8,000 a second, through `clip_of`; of the 35 words the twenty of
    spoken-words, in its order, so that a model of the one can be tried on the other. Splits are those of the original's
    lists; sample ids count the split's clips in sorted order, and `facts` has the speaker. The original's folder
    SpeechCommands is looked for in `data_dir`, by default ROBUSTGEOM_DATA, then ~/.cache/robustgeom. Raises
    `InputError` on an unknown split and `ContentError` where files are missing or damaged.
    """
    source_of(split)  # refuses an unknown one
    root = _root(data_dir)
    files = _files(root, "test" if split == "eval" else split)
    labels = np.array([WORDS.index(f.parent.name) for f in files], dtype=np.int64)
    ids = choose_eval_ids(labels, per_class=_EVAL_PER_WORD) if split == "eval" else np.arange(len(files))
    clips = [clip_of(files[i], rate=RATE, seconds=1.0) for i in ids]
    return Dataset(
        name="speech-commands",
        split=split,
        inputs=torch.from_numpy(np.stack(clips).astype(np.float32)),
        labels=torch.from_numpy(labels[ids]),
        ids=tuple(int(i) for i in ids),
        classes=WORDS,
        domain=(-1.0, 1.0),
        rate=RATE,
        facts={"speaker": tuple(files[i].stem.partition("_nohash_")[0] for i in ids)},
    )


def _root(data_dir: str | None) -> Path:
    root = data_folder(data_dir) / _COMMANDS
    missing = [name for name in _LISTS.values() if not (root / name).is_file()]
    if missing:
        fix = "torchaudio.datasets.SPEECHCOMMANDS(FOLDER, download=True), and --data-dir FOLDER"
        raise ContentError(f"{missing[0]} of Speech Commands", got=f"none in {root}", fix=fix)
    return root


def _files(root: Path, split: str) -> list[Path]:
    """Return the clips of our words in a split: those that its list names, or for train those in no list."""
    listed = {name: _listed(root / file) for name, file in _LISTS.items()}
    there = {f"{d}/{f.name}" for d in WORDS for f in (root / d).glob("*_nohash_*.wav")}
    elsewhere = set().union(*listed.values())
    ours = {name for name in listed.get(split, ()) if name.partition("/")[0] in WORDS}
    names = ours if split in listed else there - elsewhere
    if missing := sorted(names - there) or [
        w for w in WORDS if not any(n.startswith(f"{w}/") for n in names)
    ]:
        got = f"none of {missing[0]} in {root}"
        raise ContentError(f"all clips of split {split}", got=got, fix="the whole archive")
    return [root / name for name in sorted(names)]


def _listed(path: Path) -> set[str]:
    try:
        return set(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise ContentError("a readable list", got=f"{path}: {error}", fix="the original file") from error
