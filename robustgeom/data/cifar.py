"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 32 x 32 colour images of 10 or 100 kinds of things."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustgeom.data.dataset import Dataset
from robustgeom.data.pickled import read_pickle
from robustgeom.data.places import data_folder, home
from robustgeom.data.splits import positions, source_of
from robustgeom.errors import ContentError, unknown

__all__ = ["cifar10", "cifar100", "download"]

_PIXELS = 3 * 32 * 32
_TEN = "airplane automobile bird cat deer dog frog horse ship truck"
_FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark
shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
_COUNTS = {"train": 50_000, "test": 10_000}


@dataclass(frozen=True)
class _Original:
    """Where the original files lie, and what is in them; the last of the label bytes is the label."""

    name: str
    folders: tuple[str, ...]
    files: Mapping[str, tuple[str, ...]]
    key: bytes
    label_bytes: int
    classes: tuple[str, ...]


_CIFAR10 = _Original(
    name="cifar10",
    folders=("cifar-10-batches-py", "cifar-10-batches-bin"),
    files={"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
    key=b"labels",
    label_bytes=1,
    classes=tuple(_TEN.split()),
)
_CIFAR100 = _Original(
    name="cifar100",
    folders=("cifar-100-python", "cifar-100-binary"),
    files={"train": ("train",), "test": ("test",)},
    key=b"fine_labels",
    label_bytes=2,
    classes=tuple(_FINE.split()),
)


def cifar10(split: str = "eval", *, data_dir: str | None = None) -> Dataset:
    """Return a split of CIFAR-10: eval (1,000 balanced test images), test, train or validation.

    Images (n, 3, 32, 32) in [0, 1]; sample ids are positions in the original part. train is the first 45,000 training
    images, validation the last 5,000. Read from the python or the binary version, in `data_dir`, then ROBUSTGEOM_DATA,
    then where `download` puts it. Raises `InputError` on an unknown split, `ContentError` where files are missing or
    damaged.

    >>> cifar10("test", data_dir="no/such/folder")
    Traceback (most recent call last):
    robustgeom.errors.ContentError: expected the files of cifar10, got none in no/such/folder; try robustgeom \
download cifar10, or --data-dir
    """
    return _split(_CIFAR10, split, data_dir)


def cifar100(split: str = "eval", *, data_dir: str | None = None) -> Dataset:
    """Return a split of CIFAR-100 with its 100 fine labels; otherwise as `cifar10`.

    >>> cifar100("dev")
    Traceback (most recent call last):
    robustgeom.errors.InputError: expected split eval, test, train or validation, got 'dev'; try split="eval"
    """
    return _split(_CIFAR100, split, data_dir)


def download(name: str, folder: str | Path | None = None) -> Path:
    """Fetch the archive of cifar10 or cifar100 (about 170 MB), check its md5 and unpack it into `folder`.

    The folder is returned; by default it is where the data set is looked for without one. Raises `UnknownNameError`
    on another name and `ContentError` where the download fails.
    """
    from torchvision import datasets  # the import costs a second and is rarely needed
    from torchvision.datasets.utils import download_url

    known = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}
    if name not in known:
        raise unknown("data set to download", name, known)
    source, root = known[name], home() if folder is None else Path(folder)
    try:
        download_url(source.url, str(root), source.filename, source.tgz_md5)
        with tarfile.open(root / source.filename) as archive:
            archive.extractall(root, filter="data")
    except (OSError, RuntimeError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
        fix = f"unpacking {source.url} in a folder by hand, and --data-dir"
        raise ContentError(f"to download {source.filename}", got=str(error), fix=fix) from error
    return root


def _split(original: _Original, split: str, data_dir: str | None) -> Dataset:
    part = source_of(split)
    images, labels = _read(original, part, _find(original, part, data_dir))
    ids = positions(split, labels)
    return Dataset(
        name=original.name,
        split=split,
        inputs=torch.from_numpy(images[ids]).float().div_(255).view(-1, 3, 32, 32),
        labels=torch.from_numpy(labels[ids]),
        ids=tuple(ids.tolist()),
        classes=original.classes,
    )


def _find(original: _Original, part: str, data_dir: str | None) -> list[Path]:
    """Return the files of a part, of the first version that is there."""
    root = data_folder(data_dir)
    for folder in (*(root / name for name in original.folders), root):
        for ending in ("", ".bin"):
            files = [folder / f"{name}{ending}" for name in original.files[part]]
            if files[0].is_file():
                return files
    fix = f"robustgeom download {original.name}, or --data-dir"
    raise ContentError(f"the files of {original.name}", got=f"none in {root}", fix=fix)


def _read(original: _Original, part: str, files: list[Path]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return pixels (n, 3072), channel by channel, and labels (n,) of all the files."""
    read = [_binary(f, original) if f.suffix == ".bin" else _pickle(f, original) for f in files]
    images, labels = (np.concatenate(parts) for parts in zip(*read, strict=True))
    if len(labels) != _COUNTS[part] or labels.min() < 0 or labels.max() >= len(original.classes):
        got = f"{len(labels)} in {files[0].parent}, labels from {labels.min()} to {labels.max()}"
        wanted = f"{_COUNTS[part]} images in {part} of {original.name}, of {len(original.classes)} classes"
        raise ContentError(wanted, got=got, fix="unpacking the original archive again")
    return images, labels


def _pickle(file: Path, original: _Original) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    found = read_pickle(file)
    images, labels = found.get(b"data"), found.get(original.key)
    if (
        not isinstance(images, np.ndarray)
        or images.shape[1:] != (_PIXELS,)
        or not _are_labels(labels, images)
    ):
        raise _odd(file, f"rows of {_PIXELS} bytes and as many {original.key.decode()}")
    return images, np.array(labels, dtype=np.int64)


def _are_labels(labels: Any, images: NDArray[np.uint8]) -> bool:
    return (
        isinstance(labels, list)
        and 0 < len(labels) == len(images)
        and all(isinstance(n, int) and 0 <= n < 256 for n in labels)
    )


def _binary(file: Path, original: _Original) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        raw = np.fromfile(file, dtype=np.uint8)
    except OSError as error:
        raise _odd(file, "a readable file") from error
    width = original.label_bytes + _PIXELS
    if len(raw) == 0 or len(raw) % width:
        raise _odd(file, f"rows of {width} bytes")
    rows = raw.reshape(-1, width)
    return rows[:, original.label_bytes :], rows[:, original.label_bytes - 1].astype(np.int64)


def _odd(file: Path, wanted: str) -> ContentError:
    return ContentError(wanted, got=f"other content in {file}", fix="unpacking the original archive again")
