"""Anchor points of a point manifold: the exact projection of Gaussian probes on the cone of its points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robustgeom.errors import InputError
from robustgeom.geometry._arrays import REACH, Matrix, MatrixLike, as_matrix, check_margin, device_of
from robustgeom.geometry.cone import signed_projection

__all__ = ["AnchorPoints", "anchor_points"]

TOUCHING = 1e-8  # a projection shorter than this fixes no direction


@dataclass(frozen=True)
class AnchorPoints:
    """Solution per probe: `squared_distance` (n_t,), `multiplier` (n_t,), `anchors` (n_t, d + 1)."""

    squared_distance: Matrix
    multiplier: Matrix
    anchors: Matrix


def anchor_points(points: MatrixLike, probes: MatrixLike, *, kappa: float = 0.0) -> AnchorPoints:
    """Find for each probe t the nearest v with `point . v <= -kappa` for all points, and its anchor point.

    points: (m, d + 1), last (centre) coordinate 1; probes: (n_t, d + 1); arrays or tensors. The result is
    numpy float64, exact to rounding: |t - v|^2, the sum of multipliers, and the anchors, which are convex
    combinations of points, or the point furthest along t where t itself satisfies all conditions. Points on a GPU
    are worked on there.
    Raises `InputError` where shapes differ, a number is not finite or above 1e6, a last coordinate is not 1,
    or kappa < 0.
    Source: Chung, Lee and Sompolinsky, "Classification and geometry of general perceptual manifolds" (2018).

    >>> found = anchor_points(np.array([[0.0, 1.0]]), np.array([[3.0, 2.0], [3.0, -2.0]]))
    >>> found.squared_distance.tolist(), found.anchors.tolist()
    ([4.0, 0.0], [[0.0, 1.0], [0.0, 1.0]])
    """
    corners, targets = _checked(points, probes, kappa)
    targets[:, -1] += kappa  # a margin is a shift along the centre axis
    support = targets @ corners.T
    anchors = corners[support.argmax(axis=1)]
    projections = np.zeros_like(targets)
    outside = np.flatnonzero(support.max(axis=1) > 0)
    projections[outside] = signed_projection(corners, targets[outside], None, device_of(points)).projections
    squared = np.square(projections).sum(axis=1)
    touching = squared > TOUCHING**2
    anchors[touching] = projections[touching] / projections[touching, -1:]
    return AnchorPoints(squared, projections[:, -1].copy(), anchors)


def _checked(points: MatrixLike, probes: MatrixLike, kappa: float) -> tuple[Matrix, Matrix]:
    check_margin(kappa)
    corners, targets = as_matrix(points, "points"), as_matrix(probes, "probes").copy()
    if corners.shape[1] != targets.shape[1]:
        got = f"{corners.shape[1]} and {targets.shape[1]}"
        raise InputError(
            "points and probes with equally many columns", got=got, fix="probes of the points' width"
        )
    if not np.all(corners[:, -1] == 1):
        fix = "appending a column of ones"
        raise InputError("points whose last coordinate is 1", got="another value", fix=fix)
    reach = float(np.abs(corners).max())
    if reach > REACH:
        fix = "another unit of length"
        raise InputError(f"points within {REACH:.0e} of the centre's norm", got=f"{reach:.1e}", fix=fix)
    return corners, targets
