"""Folders of photographs of all sizes, in ImageNet's layout, resized and cropped as ImageNet's models expect."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import torch
from PIL import Image

from robustgeom.data.dataset import Dataset
from robustgeom.data.folder import Listing, listing, pixels, read_image
from robustgeom.data.splits import source_of
from robustgeom.errors import ContentError, InputError

__all__ = ["IMAGENET", "imagenet_folder"]

IMAGENET = "imagenet:"
_USUAL = (256, 224)
_PARTS = 20


def imagenet_folder(reference: str, split: str = "test", *, limit: int | None = None) -> Dataset:
    """Return the images of "imagenet:FOLDER" or "imagenet:FOLDER@RESIZE/CROP": (n, 3, crop, crop) in [0, 1].

    Each image is turned into RGB, its shorter side resized to 256 pixels (bilinear, antialiased), and the middle 224 x
    224 cut out, or as RESIZE and CROP say. FOLDER holds one sub-folder a class; or `val` and `train`, which do: then
    the splits test and eval are val, validation is the last twentieth of each class of train, and train is the rest.
    Sample ids count the files of FOLDER, of val or of train in sorted order; with `limit`, at most so many are read,
    classes balanced. Raises `InputError` on sizes and splits, `ContentError` on folders and images that do not fit.

    >>> imagenet_folder("imagenet:photos@232/224")
    Traceback (most recent call last):
    robustgeom.errors.ContentError: expected imagenet:FOLDER or imagenet:FOLDER@256/224 of a folder that exists, got \
'imagenet:photos@232/224'; try checking the path
    """
    path, resize, crop = _parsed(reference)
    found, ids, label = _part(path, split)
    ids = found.chosen(ids, limit)
    inputs = torch.empty(len(ids), 3, crop, crop)
    for row, i in zip(inputs, ids, strict=True):  # one by one: thousands of photographs do not fit in memory
        image = read_image(found.files[i]).convert("RGB")
        row.copy_(pixels(_cropped(image, resize, crop))).div_(255)
    labels = torch.tensor([found.labels[i] for i in ids])
    name = f"{path.resolve().name}@{resize}/{crop}"
    return Dataset(name, label, inputs, labels, tuple(ids), found.classes)


def _parsed(reference: str) -> tuple[Path, int, int]:
    folder, sizes = reference.removeprefix(IMAGENET), _USUAL
    if given := re.fullmatch(r"(.+)@(\d+)/(\d+)", folder):
        folder, sizes = given[1], (int(given[2]), int(given[3]))
    if not 0 < sizes[1] <= sizes[0]:
        raise InputError("a crop of at least 1 and at most the resized side", got=reference, fix="@256/224")
    if not folder or not Path(folder).is_dir():
        form = f"{IMAGENET}FOLDER or {IMAGENET}FOLDER@256/224 of a folder that exists"
        raise ContentError(form, got=repr(reference), fix="checking the path")
    return Path(folder), *sizes


def _part(path: Path, split: str) -> tuple[Listing, list[int], str]:
    """Return the files of a split, their positions, and what the split is called."""
    parts = [
        p for p in ("train", "val") if (path / p).is_dir() and any(d.is_dir() for d in (path / p).iterdir())
    ]
    if not parts:
        found = listing(path)
        return found, list(range(len(found.files))), "given"
    part = "train" if source_of(split) == "train" else "val"
    if part not in parts:
        got = f"only {parts[0]} in {path}"
        raise ContentError(
            f"a sub-folder {part} for split {split}", got=got, fix=f"{IMAGENET}{path}/{parts[0]}"
        )
    found = listing(path / part)
    everything = range(len(found.files))
    held_out = set() if part == "val" else _last_of_each(found.labels)
    return (
        found,
        [i for i in everything if part == "val" or (i in held_out) == (split == "validation")],
        split,
    )


def _last_of_each(labels: tuple[int, ...]) -> set[int]:
    """Return the positions of the last twentieth of each class, rounded up."""
    members: dict[int, list[int]] = defaultdict(list)
    for i, label in enumerate(labels):
        members[label].append(i)
    return {i for rows in members.values() for i in rows[len(rows) * (_PARTS - 1) // _PARTS :]}


def _cropped(image: Image.Image, resize: int, crop: int) -> Image.Image:
    """Return the middle of an image whose shorter side is `resize`."""
    width, height = image.size
    short = min(width, height)
    size = (int(resize * width / short), int(resize * height / short))
    left, top = (round((side - crop) / 2) for side in size)
    resized = image.resize(size, Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + crop, top + crop))
