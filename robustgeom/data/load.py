"""Data sets by name, "file.py:attr", a folder of images, an .npz file, or a pair of tensors."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustgeom import checks
from robustgeom.data.dataset import Dataset, numbers
from robustgeom.data.folder import IMAGE_ENDINGS, image_folder
from robustgeom.data.imagenet import IMAGENET, imagenet_folder
from robustgeom.data.speech.recordings import SOUND, SOUND_ENDINGS, sound_folder
from robustgeom.errors import ContentError, InputError
from robustgeom.refs import called, is_reference, resolve
from robustgeom.registry import Registry

__all__ = ["DATASETS", "as_dataset", "load_dataset"]

DATASETS = Registry(
    "data set",
    {
        "cifar10": "robustgeom.data.cifar:cifar10",
        "cifar100": "robustgeom.data.cifar:cifar100",
        "fashion-mnist": "robustgeom.data.fashion_mnist:fashion_mnist",
        "fashion-mnist-halves": "robustgeom.data.fashion_mnist_halves:fashion_mnist_halves",
        "retinal-waves": "robustgeom.data.waves.clips:retinal_waves",
        "retinal-waves-shuffled": "robustgeom.data.waves.clips:retinal_waves_shuffled",
        "retinal-waves-shuffled-space": "robustgeom.data.waves.clips:retinal_waves_shuffled_space",
        "retinal-waves-shuffled-time": "robustgeom.data.waves.clips:retinal_waves_shuffled_time",
        "speech-commands": "robustgeom.data.speech.recordings:speech_commands",
        "spoken-words": "robustgeom.data.speech.spoken_words:spoken_words",
    },
)

_MOST_CLASSES = 1_000_000


def load_dataset(
    name: str, *, split: str = "test", limit: int | None = None, data_dir: str | None = None
) -> Dataset:
    """Return a data set by name, "file.py:attr", folder or .npz file; at most `limit` samples, classes balanced.

    fashion-mnist, fashion-mnist-halves, cifar10, cifar100, spoken-words and speech-commands have the splits eval, test,
    train and validation, and are looked for in `data_dir` first. A folder holds one sub-folder a class, of images of
    one size or of recordings, see `sound_folder`; "imagenet:FOLDER" resizes and crops images, see `imagenet_folder`. An
    .npz holds `inputs` (n, ...) in [0, 1] (or uint8, then divided by 255) and `labels` (n,). An attribute is a Dataset,
    a pair of tensors, or a function that returns either. Raises `UnknownNameError`, `ReferenceNotFoundError`,
    `ContentError` and `InputError`.

    >>> len(load_dataset("fashion-mnist", split="eval", limit=100))
    100
    """
    data = _found(name, split, limit, data_dir)
    return data if limit is None else data.balanced(min(limit, len(data)))


def _found(name: str, split: str, limit: int | None, data_dir: str | None) -> Dataset:
    if name.startswith(IMAGENET):
        return imagenet_folder(name, split, limit=limit)
    if name.endswith(".npz"):
        return _from_npz(Path(name))
    if name.startswith(SOUND):
        return sound_folder(name, limit=limit)
    if name not in DATASETS and Path(name).is_dir():
        return _folder(Path(name), limit)
    if is_reference(name):
        found = resolve(name)
        return as_dataset(called(found, name, wanted="data") if callable(found) else found, name=name)
    if name not in DATASETS and (Path(name).suffix or "/" in name):
        raise ContentError(
            "a folder, an .npz file, file.py:attr or a data set's name",
            got=repr(name),
            fix="checking the path",
        )
    data: Dataset = DATASETS[name](split, data_dir=data_dir)
    return data


def _folder(path: Path, limit: int | None) -> Dataset:
    """Return what a folder with a sub-folder a class holds: sounds where its first file is one, else images."""
    files = (f.suffix.lower() for d in sorted(path.iterdir()) if d.is_dir() for f in sorted(d.iterdir()))
    if next((e for e in files if e in SOUND_ENDINGS | IMAGE_ENDINGS), None) in SOUND_ENDINGS:
        return sound_folder(f"{SOUND}{path}", limit=limit)
    return image_folder(path, limit=limit)


def as_dataset(found: object, *, name: str = "tensors") -> Dataset:
    """Return a Dataset as it is, or one made from a pair (inputs, labels) of tensors.

    >>> as_dataset((torch.zeros(2, 3), torch.tensor([0, 1]))).classes
    ('0', '1')
    """
    if isinstance(found, Dataset):
        return found
    if isinstance(found, tuple | list):
        found = tuple(torch.from_numpy(v) if isinstance(v, np.ndarray) else v for v in found)
    if not (
        isinstance(found, tuple | list) and len(found) == 2 and all(isinstance(t, Tensor) for t in found)
    ):
        raise InputError(
            "a Dataset or a pair (inputs, labels) of tensors or arrays", got=_kinds(found), fix="(x, y)"
        )
    inputs, labels = found
    checks.inputs(inputs, domain=(0.0, 1.0))
    checks.labels(labels, inputs)
    count = max(int(labels.max()) + 1 if labels.numel() else 0, 2)
    if count > _MOST_CLASSES:
        wanted = f"labels below {_MOST_CLASSES:,}, as classes are counted from them"
        raise InputError(wanted, got=f"{count - 1:,}", fix="class indices from 0")
    ids = tuple(range(len(inputs)))
    return Dataset(name, "given", inputs, labels, ids, numbers(count))


def _kinds(found: object) -> str:
    inside = ", ".join(type(v).__name__ for v in found) if isinstance(found, tuple | list) else ""
    return f"{type(found).__name__} of ({inside})" if inside else type(found).__name__


def _from_npz(path: Path) -> Dataset:
    if not path.is_file():
        raise ContentError("an .npz with inputs and labels", got=f"no file {path}", fix="checking the path")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            inputs, labels = arrays["inputs"], arrays["labels"]
    except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ContentError(
            "an .npz with inputs and labels", got=f"{path}: {error}", fix="np.savez"
        ) from error
    if inputs.dtype.kind not in "fiu" or labels.dtype.kind not in "iu":
        got = f"{inputs.dtype} and {labels.dtype} in {path}"
        raise ContentError("numbers as inputs and integer labels", got=got, fix="labels.astype(int)")
    scaled = inputs.astype(np.float32) / (255 if inputs.dtype == np.uint8 else 1)
    return as_dataset((torch.from_numpy(scaled), torch.from_numpy(labels.astype(np.int64))), name=path.stem)
