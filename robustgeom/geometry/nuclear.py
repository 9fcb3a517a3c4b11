"""Nuclear norm of centroids on the sphere: how well views of an image agree while images stay apart."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from robustgeom.errors import InputError
from robustgeom.geometry._arrays import as_matrix

__all__ = ["nuclear_norm_measure"]


def nuclear_norm_measure(views: NDArray[np.floating] | torch.Tensor) -> float:
    """Return the nuclear norm of the images' mean unit vectors, over its largest possible value.

    views: (images, views, features), array or tensor, several embeddings of each image, such as augmented,
    noisy or attacked ones; each is divided by its norm first. The result has no unit and is in [0, 1]: 1
    where the views of each image coincide and the images' centroids are orthogonal (or, with more images
    than features, a tight frame), 0 only where all views cancel. It depends on the counts of images, views
    and features: compare equal ones.
    Raises `InputError` where a number is not finite, the shape differs, or an embedding is zero.
    Source: Yerxa, Kuang, Simoncelli and Chung, "Learning efficient coding of natural images with maximum
    manifold capacity representations" (2023).

    >>> orthogonal = np.repeat(np.eye(4)[:, None], 3, axis=1)
    >>> nuclear_norm_measure(5 * orthogonal), nuclear_norm_measure(np.ones((4, 3, 4)))
    (1.0, 0.5)
    """
    shape = tuple(views.shape)
    if len(shape) != 3 or 0 in shape:
        raise InputError(
            "views of shape (images, views, features)", got=f"shape {shape}", fix="one more axis"
        )
    flat = as_matrix(views.reshape(-1, shape[2]), "views")
    largest = np.abs(flat).max(axis=1, keepdims=True)
    if not largest.all():
        raise InputError("embeddings with a direction", got="a zero one", fix="leaving that image out")
    scaled = flat / largest  # so that squares neither vanish nor overflow
    unit = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    centroids = unit.reshape(shape).mean(axis=1)
    sizes = np.linalg.svd(centroids, compute_uv=False)
    return min(float(sizes.sum() / np.sqrt(shape[0] * min(shape[0], shape[2]))), 1.0)
