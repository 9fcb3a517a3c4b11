"""Projection of probes on the cone of points: the core that the capacity of several manifolds together rests on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from robustgeom.errors import InputError
from robustgeom.geometry._arrays import Matrix, MatrixLike, as_matrix, device_of
from robustgeom.geometry._nnls import nonnegative_weights

__all__ = ["ConeProjection", "project_on_cone", "signed_projection"]


@dataclass(frozen=True)
class ConeProjection:
    """Solution per probe: `squared_distance` (n_t,), `multipliers` (n_t, m), `projections` (n_t, d)."""

    squared_distance: Matrix
    multipliers: Matrix
    projections: Matrix


def project_on_cone(signed_points: MatrixLike, probes: MatrixLike) -> ConeProjection:
    """Project Gaussian probes on the cone that points span with non-negative multipliers.

    signed_points: (m, d), each point times its label, 1 or -1; probes: (n_t, d); arrays or tensors. The result is numpy
    float64, exact to rounding: projections (n_t, d), their squared norms, which are the squared distances from probe t
    to the nearest v with `point . v <= 0` for all points, and the multipliers >= 0 (n_t, m) with
    `multipliers @ signed_points = projections`. Points on a GPU are worked on there. Points of norm 0 get none.
    Raises `InputError` where widths differ or a number is not finite.
    Source: Chou, Arend, Wakhloo, Kim, Slatton and Chung, "Neural manifold capacity captures representation
    geometry, correlations, and task-efficiency across species and behaviors" (2024).

    >>> found = project_on_cone(np.eye(2), np.array([[3.0, -2.0], [-1.0, -1.0]]))
    >>> found.squared_distance.tolist(), found.projections.tolist()
    ([9.0, 0.0], [[3.0, 0.0], [0.0, 0.0]])
    """
    device = device_of(signed_points)
    points, targets = as_matrix(signed_points, "signed_points"), as_matrix(probes, "probes")
    if not 0 < points.shape[1] == targets.shape[1]:
        expected = "points and probes with equally many columns, 1 or more"
        got = f"{points.shape[1]} and {targets.shape[1]}"
        raise InputError(expected, got=got, fix="probes of the points' width")
    return signed_projection(points, targets, None, device)


def signed_projection(
    points: Matrix, probes: Matrix, signs: Matrix | None, device: torch.device
) -> ConeProjection:
    """Project probe i (n_t, d) on the cone of points (m, d), each times the probe's signs (n_t, m) of 1 and -1.

    Multipliers are those of the signed points.

    >>> found = signed_projection(np.eye(2), np.ones((1, 2)), np.array([[1.0, -1.0]]), torch.device("cpu"))
    >>> found.multipliers.tolist(), found.projections.tolist()
    ([[1.0, 0.0]], [[1.0, 0.0]])
    """
    rays, norms = _directions(points)
    seen = None if signs is None else torch.from_numpy(signs).to(device)
    found = nonnegative_weights(torch.from_numpy(rays).to(device), torch.from_numpy(probes).to(device), seen)
    weights, sums = (part.cpu().numpy() for part in found)
    multipliers = np.where(norms > 0, weights / np.where(norms > 0, norms, 1), 0)
    return ConeProjection(np.square(sums).sum(axis=1), multipliers, sums)


def _directions(points: Matrix) -> tuple[Matrix, Matrix]:
    """Return points at norm 1, or 0, and their norms, also of those whose squares would vanish."""
    sizes = np.abs(points).max(axis=1)
    scaled = points / np.where(sizes > 0, sizes, 1)[:, None]
    norms = np.linalg.norm(scaled, axis=1)
    return scaled / np.where(norms > 0, norms, 1)[:, None], norms * sizes
