"""Images from a folder with one sub-folder a class."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from robustgeom.data.dataset import Dataset
from robustgeom.errors import ContentError

__all__ = ["image_folder"]

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
_GREY = {"1", "L", "LA"}
_COLOUR = {"RGB", "RGBA", "P", "CMYK", "YCbCr"}


def image_folder(path: Path) -> Dataset:
    """Return the images below `path`, one sub-folder a class, all of one size: (n, 1 or 3, h, w) in [0, 1].

    Classes are the sub-folders in sorted order, sample ids count the files in sorted order. Grey where every
    image is grey, else colour. Raises `ContentError` on no images, on sizes that differ and on damaged files.
    """
    folders = sorted(f for f in path.iterdir() if f.is_dir())
    files = [
        (f, c) for c, d in enumerate(folders) for f in sorted(d.iterdir()) if f.suffix.lower() in _ENDINGS
    ]
    if len(folders) < 2 or not files:
        got = f"{len(folders)} sub-folders with {len(files)} images in {path}"
        raise ContentError(
            "a folder with one sub-folder of images a class", got=got, fix="class-name/image.png"
        )
    images = [_read(file) for file, _ in files]
    sizes = {image.size for image in images}
    if len(sizes) > 1:
        got = ", ".join(f"{w} x {h}" for w, h in sorted(sizes)[:3])
        raise ContentError(f"images of one size in {path}", got=got, fix="resizing them first")
    mode = "L" if all(image.mode in _GREY for image in images) else "RGB"
    inputs: Tensor = torch.stack([pil_to_tensor(image.convert(mode)) for image in images]).float() / 255
    labels = torch.tensor([c for _, c in files])
    names = tuple(d.name for d in folders)
    return Dataset(path.name, "given", inputs, labels, tuple(range(len(files))), names)


def _read(file: Path) -> Image.Image:
    try:
        with Image.open(file) as image:
            image.load()
            found = image.copy()
    except (OSError, UnidentifiedImageError) as error:
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
