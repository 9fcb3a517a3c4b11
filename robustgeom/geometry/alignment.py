"""Alignment of point clouds: do centres, and main axes, of different manifolds share directions?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from robustgeom.errors import InputError
from robustgeom.geometry._arrays import DUST, Matrix, MatrixLike, same_width
from robustgeom.geometry._averages import off_diagonal_mean
from robustgeom.geometry._random import draw_order, seeded
from robustgeom.geometry._spectra import as_centered

__all__ = ["PointCloudAlignment", "point_cloud_alignment"]


@dataclass(frozen=True)
class PointCloudAlignment:
    """Alignments of P manifolds, matrices (P, P) without unit, all entries in [0, 1].

    `center`: absolute cosine between two centres; `axis`: overlap of two clouds' leading covariances;
    `center_axis`: share of the column's variance that lies along the row's centre. `mean_*` average over pairs
    of different manifolds; `shuffled_*` are the same means after the points were dealt out at random.
    """

    center: Matrix
    axis: Matrix
    center_axis: Matrix
    shuffled_center: float
    shuffled_axis: float
    shuffled_center_axis: float

    @property
    def mean_center(self) -> float:
        """Mean of `center` over pairs of different manifolds."""
        return off_diagonal_mean(self.center)

    @property
    def mean_axis(self) -> float:
        """Mean of `axis` over pairs of different manifolds."""
        return off_diagonal_mean(self.axis)

    @property
    def mean_center_axis(self) -> float:
        """Mean of `center_axis` over pairs of different manifolds."""
        return off_diagonal_mean(self.center_axis)


def point_cloud_alignment(
    manifolds: Sequence[MatrixLike],
    *,
    share: float = 0.9,
    shuffles: int = 10,
    generator: torch.Generator | None = None,
) -> PointCloudAlignment:
    """Measure how far the centres and the leading axes of P manifolds point the same way.

    manifolds: P arrays or tensors (points, features). Centres are taken from the mean of all points; with
    two manifolds they are opposite, and their alignment is 1. The axes of a manifold are its leading
    principal directions that hold `share`, in (0, 1], of its variance, weighted by that variance. The
    baseline deals all points out at random, keeping counts, `shuffles` times, drawn from `generator`
    (default: a fresh torch.Generator seeded with 0). Shuffled clouds all have the covariance of everything, so
    their axes are highly aligned: the baseline says what labels change, and is no lower bound.
    Raises `InputError` with fewer than 2 manifolds, numbers that are not finite, differing features, a
    manifold that is a single point or centred on the mean of all points, shuffles < 1, or a bad share.
    Source: ours; no published measure has this definition. The axis overlap is the RV coefficient
    (Escoufier, 1973) of truncated covariances.

    >>> step = np.array([[-1.0], [1.0]])
    >>> found = point_cloud_alignment([np.eye(4)[i] + step * np.eye(4)[3] for i in range(3)])
    >>> round(found.mean_center, 9), round(found.mean_axis, 9), round(found.mean_center_axis, 9)
    (0.5, 1.0, 0.0)
    """
    arrays = _checked(manifolds, share, shuffles)
    source = seeded(generator)
    points = as_centered(np.concatenate(arrays), "manifolds")
    edges = np.cumsum([len(a) for a in arrays])[:-1]
    own = _alignments(np.split(points, edges), share)
    means = [
        [
            off_diagonal_mean(m)
            for m in _alignments(np.split(points[draw_order(len(points), source)], edges), share)
        ]
        for _ in range(shuffles)
    ]
    return PointCloudAlignment(*own, *np.mean(means, axis=0).tolist())


def _checked(manifolds: Sequence[MatrixLike], share: float, shuffles: int) -> list[Matrix]:
    if not 0 < share <= 1:
        raise InputError("a share in (0, 1]", got=str(share), fix="share=0.9")
    if shuffles < 1:
        raise InputError("shuffles >= 1", got=str(shuffles), fix="shuffles=10")
    return same_width(manifolds)


def _alignments(clouds: Sequence[Matrix], share: float) -> tuple[Matrix, Matrix, Matrix]:
    dust = DUST * max(float(np.abs(c).max()) for c in clouds)
    centers = np.array([_direction(c.mean(axis=0), dust, i) for i, c in enumerate(clouds)])
    axes = [_axes(c - c.mean(axis=0), dust, share, i) for i, c in enumerate(clouds)]
    overlap = np.array([[np.square(a @ b.T).sum() for b in axes] for a in axes])
    sizes = np.sqrt(np.diag(overlap))
    along = [np.square(centers @ a.T).sum(axis=1) / np.square(a).sum() for a in axes]
    # Rounding alone could exceed 1.
    center = np.minimum(np.abs(centers @ centers.T), 1)
    axis = np.minimum(overlap / np.outer(sizes, sizes), 1)
    return center, axis, np.minimum(np.column_stack(along), 1)


def _direction(center: Matrix, dust: float, index: int) -> Matrix:
    norm = float(np.linalg.norm(center))
    if norm <= dust:
        fix = "leaving that manifold out"
        raise InputError("centres that differ from the mean", got=f"manifold {index} centred on it", fix=fix)
    return np.asarray(center / norm, dtype=np.float64)


def _axes(centered: Matrix, dust: float, share: float, index: int) -> Matrix:
    """Leading principal directions, each as long as the standard deviation along it."""
    _, sizes, directions = np.linalg.svd(centered, full_matrices=False)
    if sizes[0] <= dust:
        raise InputError("two different points or more", got=f"manifold {index} of one", fix="leaving it out")
    held = np.cumsum(np.square(sizes)) / np.square(sizes).sum()
    kept = 1 + int(np.sum(held < share - DUST))
    return np.asarray(sizes[:kept, None] * directions[:kept], dtype=np.float64)
