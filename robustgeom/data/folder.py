"""Images from a folder with one sub-folder a class."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustgeom.data.dataset import Dataset, balanced_positions
from robustgeom.errors import ContentError

__all__ = ["IMAGE_ENDINGS", "Listing", "image_folder", "listing", "pixels", "read_image"]

IMAGE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})
_GREY = {"1", "L", "LA"}
_COLOUR = {"RGB", "RGBA", "P", "CMYK", "YCbCr"}


@dataclass(frozen=True)
class Listing:
    """The files of a folder with one sub-folder a class, by class and name; none of them read yet."""

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[int, ...]

    def chosen(self, among: Sequence[int], limit: int | None) -> list[int]:
        """Return `among`, or at most `limit` of them with the classes balanced."""
        if limit is None:
            return list(among)
        rows = balanced_positions([self.labels[i] for i in among], min(limit, len(among)))
        return [among[i] for i in rows]


def pixels(image: Image.Image) -> Tensor:
    """Return a grey or RGB image as numbers (channels, h, w) in [0, 255].

    >>> pixels(Image.new("L", (3, 2), 7)).shape
    torch.Size([1, 2, 3])
    """
    found = torch.from_numpy(np.array(image))  # torchvision's form of this line costs two seconds to import
    return found[None] if found.dim() == 2 else found.permute(2, 0, 1)


def listing(path: Path, endings: Collection[str] = IMAGE_ENDINGS, kind: str = "images") -> Listing:
    """Return the files below `path` with these endings, a `kind` of thing, classes and files in sorted order.

    Raises `ContentError` where there are none, or under two classes.
    """
    folders = sorted(f for f in path.iterdir() if f.is_dir())
    files = [
        (f, c) for c, d in enumerate(folders) for f in sorted(d.iterdir()) if f.suffix.lower() in endings
    ]
    if len(folders) < 2 or not files:
        got = f"{len(folders)} sub-folders with {len(files)} {kind} in {path}"
        raise ContentError(f"a folder with one sub-folder of {kind} a class", got=got, fix="class-name/file")
    names = tuple(d.name for d in folders)
    return Listing(names, tuple(f for f, _ in files), tuple(c for _, c in files))


def image_folder(path: Path, *, limit: int | None = None) -> Dataset:
    """Return the images below `path`, one sub-folder a class, all of one size: (n, 1 or 3, h, w) in [0, 1].

    Classes are the sub-folders in sorted order, sample ids count the files in sorted order; with `limit`, at most so
    many are read, classes balanced. Grey where every image is grey, else colour. Raises `ContentError` on no images,
    on sizes that differ and on damaged files.
    """
    found = listing(path)
    ids = found.chosen(range(len(found.files)), limit)
    images = [read_image(found.files[i]) for i in ids]
    sizes = {image.size for image in images}
    if len(sizes) > 1:
        got = ", ".join(f"{w} x {h}" for w, h in sorted(sizes)[:3])
        raise ContentError(
            f"images of one size in {path}", got=got, fix=f"resizing them first, or imagenet:{path}"
        )
    mode = "L" if all(image.mode in _GREY for image in images) else "RGB"
    inputs: Tensor = torch.stack([pixels(image.convert(mode)) for image in images]).float() / 255
    labels = torch.tensor([found.labels[i] for i in ids])
    return Dataset(path.resolve().name, "given", inputs, labels, tuple(ids), found.classes)


def read_image(file: Path) -> Image.Image:
    """Return an image of 8 bits a channel; raises `ContentError` on a damaged one and on others."""
    try:
        with Image.open(file) as image:
            image.load()
            found = image.copy()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ContentError(
            "a readable image", got=f"{file}: {error}", fix="removing or replacing it"
        ) from error
    if found.mode not in _GREY | _COLOUR:  # more bits would be cut off at white
        raise ContentError(
            "images of 8 bits a channel",
            got=f"mode {found.mode} in {file}",
            fix="an .npz of floats in [0, 1]",
        )
    return found
