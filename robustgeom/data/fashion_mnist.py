"""Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747): 28 x 28 grey images of ten kinds of clothing."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from robustgeom.data.dataset import Dataset
from robustgeom.data.places import home
from robustgeom.data.splits import positions, source_of
from robustgeom.errors import ContentError

__all__ = ["fashion_mnist"]

CLASSES = (
    "T-shirt",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_FILES = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 60_000),
          "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", 10_000)}  # fmt: skip


def fashion_mnist(split: str = "eval", *, data_dir: str | None = None) -> Dataset:
    """Return a split of Fashion-MNIST: eval (1,000 balanced test images, shipped), test, train or validation.

    Images (n, 1, 28, 28) in [0, 1]; sample ids are positions in the original file. train is the first 55,000
    training images, validation the last 5,000. All but eval are looked for in `data_dir`, then in
    ROBUSTGEOM_DATA, the Debian package dataset-fashion-mnist, then torchvision's download. Raises `InputError`
    on an unknown split and `ContentError` where the files are missing or damaged.

    >>> fashion_mnist("eval").inputs.shape
    torch.Size([1000, 1, 28, 28])
    """
    if split == "eval":
        images, labels, ids = _shipped()
        return _dataset(images, labels, ids, split)
    source = source_of(split)
    images, labels = _original(source, _find(_FILES[source][0], data_dir))
    ids = positions(split, labels)
    return _dataset(images[ids], labels[ids], ids, split)


def _dataset(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], ids: NDArray[np.int64], split: str
) -> Dataset:
    return Dataset(
        name="fashion-mnist",
        split=split,
        inputs=torch.from_numpy(images.astype(np.float32) / 255)[:, None],
        labels=torch.from_numpy(labels.astype(np.int64)),
        ids=tuple(int(i) for i in ids),
        classes=CLASSES,
    )


@cache
def _shipped() -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64]]:
    with resources.files("robustgeom.data").joinpath("fashion_mnist_eval.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        return arrays["images"], arrays["labels"], arrays["ids"].astype(np.int64)


@cache
def _original(source: str, folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images_name, labels_name, count = _FILES[source]
    images, labels = _read_idx(folder / f"{images_name}.gz"), _read_idx(folder / f"{labels_name}.gz")
    if images.shape != (count, 28, 28) or labels.shape != (count,):
        got = f"{images.shape} and {labels.shape} in {folder}"
        raise ContentError(
            f"{count} images of 28 x 28 and as many labels", got=got, fix="installing the files again"
        )
    return images, labels


def _find(images_name: str, data_dir: str | None) -> Path:
    given = data_dir or os.environ.get("ROBUSTGEOM_DATA")
    folders = [Path(given)] if given else [_DEBIAN, *_downloaded()]
    for folder in folders:
        if (folder / f"{images_name}.gz").is_file():
            return folder
    looked = ", ".join(map(str, folders))
    raise ContentError(
        f"{images_name}.gz",
        got=f"no such file in {looked}",
        fix="apt-get install dataset-fashion-mnist, or --data-dir",
    )


def _downloaded() -> list[Path]:
    """Return the folder of torchvision's download, fetched if need be; nothing where there is no network."""
    root = home()
    folder = root / "FashionMNIST" / "raw"
    if _DEBIAN.is_dir() or folder.is_dir():
        return [folder]
    from torchvision.datasets import FashionMNIST  # the import costs a second and is rarely needed

    try:
        FashionMNIST(str(root), download=True)
    except (OSError, RuntimeError):
        return []
    return [folder]


def _read_idx(path: Path) -> NDArray[np.uint8]:
    try:
        raw = gzip.decompress(path.read_bytes())
        _, _, dims = struct.unpack(">HBB", raw[:4])
        shape = struct.unpack(f">{dims}I", raw[4 : 4 + 4 * dims])
        return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * dims).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise ContentError(
            "an intact idx file", got=f"{path}: {error}", fix="installing the file again"
        ) from error
