"""Clips of retinal waves as data sets: what an eye shows its brain before it opens, and shuffled controls."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from robustgeom.data.dataset import Dataset, numbers
from robustgeom.data.places import data_folder
from robustgeom.data.splits import source_of
from robustgeom.data.waves.reaction_diffusion import retinal_waves as simulated
from robustgeom.data.waves.statistics import Wave, waves_of
from robustgeom.errors import ContentError, InputError
from robustgeom.files import write_bytes
from robustgeom.seeds import seed_of

__all__ = [
    "FRAMES",
    "clips_of",
    "episodes",
    "retinal_waves",
    "retinal_waves_shuffled",
    "retinal_waves_shuffled_space",
    "retinal_waves_shuffled_time",
    "scaled",
]

FRAMES = 16  # of a clip, a tenth of a second apart
FRAMES_PER_SECOND = 10
VERSION = 1
SIZE = 32
_SHEETS = {
    "train": (16, 300.0),
    "validation": (4, 150.0),
    "test": (4, 150.0),
}  # how many, watched for how long in s
_SEEDS = {"train": 0, "validation": 1, "test": 2}


def retinal_waves(split: str = "train", *, data_dir: str | None = None) -> Dataset:
    """Return clips (n, 16, 32, 32) in [0, 1] of simulated retinal waves, 1.6 s long (arXiv:2312.02791).

    Frames of one clip are its channels, in order. The label says which episode a clip is cut from: a time in which one
    wave or several, that overlap, run over a sheet (`clips_of`); `facts` has the sheet. train is of 16 sheets watched
    for 300 s each, validation, test and its first half eval of 4 others for 150 s. Simulated on first use, train in
    about six minutes, and kept in `data_dir`, by default ROBUSTGEOM_DATA, then ~/.cache/robustgeom. Raises `InputError`
    on an unknown split and `ContentError` where what is kept is damaged.
    """
    source_of(split)  # refuses an unknown one
    clips, labels, sheets = _kept("test" if split == "eval" else split, data_dir)
    end = len(clips) // 2 if split == "eval" else len(clips)
    clips, labels, sheets = clips[:end], labels[:end], sheets[:end]
    return Dataset(
        name="retinal-waves",
        split=split,
        inputs=torch.from_numpy(clips).float() / 255,
        labels=torch.from_numpy(labels),
        ids=tuple(range(len(clips))),
        classes=numbers(max(int(labels.max()) + 1, 2)),
        facts={"sheet": tuple(sheets.tolist())},
    )


def retinal_waves_shuffled_time(split: str = "train", *, data_dir: str | None = None) -> Dataset:
    """Return `retinal_waves` with all frames of the split in random order: pictures of waves that nothing connects."""
    return _shuffled(retinal_waves(split, data_dir=data_dir), "shuffled-time", time=True, space=False)


def retinal_waves_shuffled_space(split: str = "train", *, data_dir: str | None = None) -> Dataset:
    """Return `retinal_waves` with the cells of every frame in a random order of its own: activity without a place."""
    return _shuffled(retinal_waves(split, data_dir=data_dir), "shuffled-space", time=False, space=True)


def retinal_waves_shuffled(split: str = "train", *, data_dir: str | None = None) -> Dataset:
    """Return `retinal_waves` with frames and, in each, cells in random order."""
    return _shuffled(retinal_waves(split, data_dir=data_dir), "shuffled", time=True, space=True)


def _shuffled(data: Dataset, name: str, *, time: bool, space: bool) -> Dataset:
    generator = Generator().manual_seed(seed_of(0, "retinal-waves", data.split))
    n, frames, size, _ = data.inputs.shape
    shown = data.inputs.reshape(n * frames, size * size)
    if time:
        shown = shown[torch.randperm(len(shown), generator=generator)]
    if space:
        shown = shown.gather(1, torch.rand(shown.shape, generator=generator).argsort(1))
    return Dataset(
        name=f"{data.name}-{name}",
        split=data.split,
        inputs=shown.reshape(data.inputs.shape),
        labels=data.labels,
        ids=data.ids,
        classes=data.classes,
        facts=data.facts,
    )


def episodes(waves: Sequence[Wave]) -> list[tuple[int, int]]:
    """Return the times (first frame, past the last) in which waves run, those of waves that overlap as one.

    >>> episodes([Wave(0, 5, 9, 9), Wave(3, 8, 9, 9), Wave(8, 9, 9, 9)])
    [(0, 8), (8, 9)]
    """
    found: list[tuple[int, int]] = []
    for wave in sorted(waves, key=lambda w: w.start):
        if found and wave.start < found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], wave.end)
        else:
            found.append((wave.start, wave.end))
    return found


def clips_of(voltages: Tensor, frames: int = FRAMES) -> tuple[Tensor, Tensor]:
    """Return clips (n, frames, size, size) of one sheet's voltages (time, size, size) in mV, and their episodes (n,).

    Each episode gives as many clips as fit into it, one after the other; shorter ones give none, and are not counted.
    Values are those of `scaled`. Raises `InputError` where no episode is long enough.

    >>> quiet = torch.full((9, 6, 6), -70.0)
    >>> quiet[1:6, 2:5, 2:5] = 0.0
    >>> clips, labels = clips_of(quiet, frames=2)
    >>> clips.shape, labels.tolist()
    (torch.Size([2, 2, 6, 6]), [0, 0])
    """
    shown = scaled(voltages)
    long = [e for e in episodes(waves_of(voltages.numpy())) if e[1] - e[0] >= frames]
    if not long:
        raise InputError(f"an episode of {frames} frames", got="none", fix="a longer movie")
    starts = [
        (number, at)
        for number, (first, end) in enumerate(long)
        for at in range(first, end - frames + 1, frames)
    ]
    return torch.stack([shown[at : at + frames] for _, at in starts]), torch.tensor([n for n, _ in starts])


def scaled(voltages: Tensor) -> Tensor:
    """Return a movie (time, size, size) as learned from: each cell's course in standard deviations, then all in [0, 1].

    >>> scaled(torch.rand(5, 2, 2, generator=Generator().manual_seed(0))).aminmax().max.item()
    1.0
    """
    centred = voltages - voltages.mean(0)
    course = centred / centred.square().mean(0).sqrt().clamp(min=1e-6)
    low, high = course.aminmax()
    return (course - low) / (high - low).clamp(min=1e-6)


_Clips = tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]


def _kept(split: str, data_dir: str | None) -> _Clips:
    path = data_folder(data_dir) / f"retinal-waves-{VERSION}" / f"{split}.npz"
    if not path.is_file():
        raw = io.BytesIO()
        clips, labels, sheets = _made(split)
        np.savez_compressed(raw, clips=clips, labels=labels, sheets=sheets)
        write_bytes(path, raw.getvalue())
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays["clips"], arrays["labels"], arrays["sheets"]
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ContentError("clips kept earlier", got=f"{path}: {error}", fix="removing it") from error


def _made(split: str) -> _Clips:
    count, seconds = _SHEETS[split]
    movies = simulated(
        seconds, sheets=count, size=SIZE, frames_per_second=FRAMES_PER_SECOND, seed=_SEEDS[split]
    )
    clips, labels, sheets, known = [], [], [], 0
    for sheet, movie in enumerate(movies):
        shown, which = clips_of(movie)
        clips.append((shown * 255).round().to(torch.uint8).numpy())
        labels.append((which + known).numpy())
        sheets.append(np.full(len(which), sheet))
        known += int(which.max()) + 1
    return np.concatenate(clips), np.concatenate(labels), np.concatenate(sheets)
