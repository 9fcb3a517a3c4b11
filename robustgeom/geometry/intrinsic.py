"""Intrinsic dimension of a cloud of points, from the distances to its nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from robustgeom.errors import InputError
from robustgeom.geometry._arrays import Matrix, MatrixLike
from robustgeom.geometry._spectra import as_centered

__all__ = ["IntrinsicDimension", "mle_dimension", "two_nn_dimension"]

FEWEST = 10  # different points
DIGITS = 15  # of the cloud's extent; what agrees in them is equal
BLOCK = 256  # rows of distances held at a time


@dataclass(frozen=True)
class IntrinsicDimension:
    """An estimated dimension without unit, and the count of different `points` behind it.

    `standard_error` holds the scatter of the points alone, taken as independent of each other; edges,
    curvature and noise shift the estimate beyond it. `duplicates` counts the points left out as repeated.
    """

    dimension: float
    standard_error: float
    points: int
    duplicates: int


def two_nn_dimension(points: MatrixLike) -> IntrinsicDimension:
    """Estimate the dimension from the ratio of each point's distances to its two nearest neighbours.

    points: (points, features), array or tensor. Of points that are equal one is kept. The estimate
    is (n - 1) / sum of log ratios, unbiased where the density is constant over two neighbours.
    Raises `InputError` where a number is not finite, fewer than 10 points differ, or both neighbours are
    equally far from every point, as on a lattice.
    Source: Facco et al., "Estimating the intrinsic dimension of datasets by a minimal neighborhood
    information" (2017); this maximum-likelihood form: Denti et al. (2022).

    >>> square = np.random.default_rng(0).uniform(size=(500, 2)) @ np.ones((2, 7)).cumsum(axis=1) ** [[1], [2]]
    >>> abs(two_nn_dimension(square).dimension - 2) < 0.3
    True
    """
    distinct, duplicates = _distinct(points)
    nearest, second = _nearest(distinct, 2).T
    logs = np.log(second / nearest)
    count = len(distinct)
    dimension = (count - 1) / _positive(float(logs.sum()))
    return IntrinsicDimension(dimension, dimension / np.sqrt(count - 2), count, duplicates)


def mle_dimension(points: MatrixLike, *, neighbours: int = 20) -> IntrinsicDimension:
    """Estimate the dimension by maximum likelihood from the distances to the nearest `neighbours`.

    points: (points, features), array or tensor. Of points that are equal one is kept. The points'
    inverse dimensions are averaged, which weighs all distance ratios alike. More neighbours scatter less but
    see more of edges and curvature.
    Raises `InputError` where a number is not finite, fewer than 10 points differ, neighbours is not in
    [3, different points - 1], or all neighbours are equally far from every point, as on a lattice.
    Source: Levina and Bickel, "Maximum likelihood estimation of intrinsic dimension" (2004), averaged as in
    MacKay and Ghahramani's comments on it (2005).

    >>> square = np.random.default_rng(0).uniform(size=(500, 2)) @ np.ones((2, 7)).cumsum(axis=1) ** [[1], [2]]
    >>> abs(mle_dimension(square).dimension - 2) < 0.3
    True
    """
    distinct, duplicates = _distinct(points)
    count = len(distinct)
    if not 3 <= neighbours < count:
        got = f"{neighbours} of {count} different points"
        raise InputError(f"neighbours in [3, {count - 1}]", got=got, fix=f"neighbours={min(20, count - 1)}")
    distances = _nearest(distinct, neighbours)
    inverse = np.log(distances[:, -1:] / distances[:, :-1]).mean(axis=1)
    mean = _positive(float(inverse.mean()))
    error = float(inverse.std(ddof=1)) / np.sqrt(count)
    return IntrinsicDimension(1 / mean, error / mean**2, count, duplicates)


def _distinct(points: MatrixLike) -> tuple[Matrix, int]:
    centered = as_centered(points, "points")
    distinct = np.unique(np.round(centered / np.abs(centered).max(), DIGITS), axis=0)
    if len(distinct) < FEWEST:
        got = f"{len(distinct)} of {len(centered)}"
        raise InputError(f"{FEWEST} different points or more", got=got, fix="more points")
    return distinct, len(centered) - len(distinct)


def _nearest(points: Matrix, count: int) -> Matrix:
    """Distances (n, count) of each point to its nearest others, ascending."""
    found = np.empty((len(points), count))
    for start in range(0, len(points), BLOCK):
        distances = scipy.spatial.distance.cdist(points[start : start + BLOCK], points)
        closest = np.partition(distances, count, axis=1)[:, : count + 1]
        found[start : start + BLOCK] = np.sort(closest, axis=1)[:, 1:]  # the first is the point itself
    return found


def _positive(total: float) -> float:
    if not total > 0:
        got = "equal ones at every point"
        raise InputError("neighbours at different distances", got=got, fix="points that are not on a lattice")
    return total
