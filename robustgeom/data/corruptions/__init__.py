"""The 15 common corruptions of CIFAR-10-C and ImageNet-C, generated here for images of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from robustgeom.registry import Registry

if TYPE_CHECKING:  # the list of names is read without torch
    from torch import Tensor

    from robustgeom.data.corruptions._frame import Randomness

__all__ = ["CORRUPTIONS", "corrupt"]

_FILES = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
_HOME = "robustgeom.data.corruptions"

CORRUPTIONS = Registry(
    "corruption", {name: f"{_HOME}.{file}:{name}" for file, names in _FILES.items() for name in names}
)


def corrupt(name: str, images: Tensor, severity: int, generator: Randomness = None) -> Tensor:
    """Return the images (n, c, h, w), values in [0, 1], under the corruption `name` at `severity` 0 to 5.

    Severity 0 leaves them as they are. `generator` is one for the batch, one a row (then a row's result does not
    hang on the other rows), or none, which means one seeded with 0. Shape, dtype and device stay; no gradient
    flows. The corruptions and their constants are those of Hendrycks & Dietterich 2019, arXiv:1903.12261. Raises
    `UnknownNameError` on the name, `InputError` on images, severity or generators that do not fit.

    >>> import torch
    >>> corrupt("contrast", torch.tensor([[[[0.0, 1.0]]]]), 2).tolist()
    [[[[0.25, 0.75]]]]
    """
    return cast("Tensor", CORRUPTIONS[name](images, severity, generator))
