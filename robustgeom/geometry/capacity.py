"""Replica mean-field manifold capacity, radius and dimension of point manifolds with correlated centres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from robustgeom.errors import InputError
from robustgeom.geometry._arrays import (
    DUST,
    REACH,
    Matrix,
    MatrixLike,
    as_matrix,
    check_margin,
    device_of,
    same_width,
)
from robustgeom.geometry._averages import mean_and_se
from robustgeom.geometry._random import draw_normal, seeded
from robustgeom.geometry.anchors import AnchorPoints, anchor_points
from robustgeom.geometry.centers import center_basis as find_center_basis
from robustgeom.geometry.centers import center_statistics

__all__ = ["MeanFieldCapacity", "mean_field_capacity", "reduced_points"]

ROOT = 1e-12  # what the reference adds under the root of an anchor's squared norm
ORTHONORMAL = 1e-8
FIELDS = ("capacity", "radius", "dimension", "dimension_paper")


@dataclass(frozen=True)
class MeanFieldCapacity:
    """Capacity, radius (in norms of the residual centre) and dimension of P manifolds; all without unit.

    `dimension` is D (mean cosine of probe and anchor)^2, as the reference code has it; `dimension_paper` is
    the mean squared probe along the centred anchor. Arrays are (P,), one number per manifold; `*_se` are
    standard errors from the finite number of probes `n_t` alone; `squared_distance` (P, n_t) is what each probe
    contributes to 1/capacity. `M` counts points, `N` features, `K`
    directions projected out; `center_correlation` is the mean absolute cosine between centres before that,
    `residual_norm_ratio` the smallest share of a centre's norm left after it (near 0: distrust the radius).
    """

    capacity: Matrix
    radius: Matrix
    dimension: Matrix
    dimension_paper: Matrix
    capacity_se: Matrix
    radius_se: Matrix
    dimension_se: Matrix
    dimension_paper_se: Matrix
    squared_distance: Matrix
    n_t: int
    M: tuple[int, ...]
    N: int
    K: int
    kappa: float
    center_correlation: float
    residual_norm_ratio: float

    @property
    def P(self) -> int:  # noqa: N802
        """Number of manifolds."""
        return len(self.M)

    @property
    def floor(self) -> float:
        """Capacity that independent Gaussian clouds of as many points would have: 2 over the mean of M."""
        return 2 / float(np.mean(self.M))

    @property
    def mean_capacity(self) -> float:
        """Harmonic mean of the manifolds' capacities."""
        return 1 / float(np.mean(1 / self.capacity))

    @property
    def mean_capacity_se(self) -> float:
        """Standard error of the harmonic mean."""
        return self.mean_capacity**2 * _se_of_mean(self.capacity_se / self.capacity**2)

    @property
    def mean_radius(self) -> float:
        """Mean of the manifolds' radii, in norms of the residual centre."""
        return float(self.radius.mean())

    @property
    def mean_radius_se(self) -> float:
        """Standard error of the mean radius."""
        return _se_of_mean(self.radius_se)

    @property
    def mean_dimension(self) -> float:
        """Mean of the manifolds' dimensions in the reference's form."""
        return float(self.dimension.mean())

    @property
    def mean_dimension_se(self) -> float:
        """Standard error of the mean dimension."""
        return _se_of_mean(self.dimension_se)


def mean_field_capacity(
    manifolds: Sequence[MatrixLike],
    *,
    kappa: float = 0.0,
    n_t: int = 300,
    probes: Sequence[MatrixLike] | None = None,
    center_basis: MatrixLike | None = None,
    generator: torch.Generator | None = None,
) -> MeanFieldCapacity:
    """Measure how many manifolds per feature a linear readout could separate, and their radius and dimension.

    manifolds: P arrays or tensors (M_i, N), one point per row; everything is computed in float64, the
    projections on the GPU of the first one if it is on one.
    kappa: margin in norms of the residual centre; n_t: Gaussian probes per manifold, drawn from `generator`
    (default: a fresh torch.Generator seeded with 0). `probes`, P arrays (n_t, d + 1) with the centre
    coordinate last, replace them; d is min(M_i, N), see `reduced_points`. `center_basis` (N, k), orthonormal,
    is projected out in place of the one that the centre step finds; k may be 0.
    Raises `InputError` with fewer than 2 manifolds, numbers that are not finite, differing N, a manifold
    whose centre vanishes, a basis that is not orthonormal, n_t < 2, or probes of another shape.
    Source: Chung, Lee and Sompolinsky (2018); Cohen et al. (2020); Stephenson et al. (2019).

    >>> rng = np.random.default_rng(0)
    >>> found = mean_field_capacity([rng.normal(size=(1, 60)) for _ in range(6)], n_t=500)
    >>> abs(found.mean_capacity - 2) < 4 * found.mean_capacity_se, found.mean_radius, found.K
    (True, 0.0, 0)
    """
    check_margin(kappa)
    arrays = same_width(manifolds)
    centers = np.array([a.mean(axis=0) for a in arrays])
    basis = (
        find_center_basis(centers).basis if center_basis is None else _basis(center_basis, centers.shape[1])
    )
    statistics = center_statistics(centers, basis)
    reduced = _reduce_all(arrays, centers, basis)
    drawn = _draw(reduced, n_t, generator) if probes is None else _probes(probes, reduced)
    place, pairs = device_of(manifolds[0]), zip(reduced, drawn, strict=True)
    rows = [_measure(points, t, kappa, i, place) for i, (points, t) in enumerate(pairs)]
    values, errors = np.array([row[:2] for row in rows]).transpose(1, 2, 0)
    return MeanFieldCapacity(
        **dict(zip(FIELDS, values, strict=True)),
        **{f"{name}_se": error for name, error in zip(FIELDS, errors, strict=True)},
        squared_distance=np.array([row[2] for row in rows]),
        n_t=len(drawn[0]),
        M=tuple(len(a) for a in arrays),
        N=centers.shape[1],
        K=statistics.k,
        kappa=kappa,
        center_correlation=statistics.correlation,
        residual_norm_ratio=statistics.residual_norm_ratio,
    )


def reduced_points(manifolds: Sequence[MatrixLike], center_basis: MatrixLike) -> list[Matrix]:
    """Return what the probes see: P arrays (M_i, d + 1), d = min(M_i, N), in norms of the residual centre.

    manifolds: P arrays or tensors (M_i, N); center_basis: (N, k), orthonormal, k may be 0. The mean of all
    points and the basis are removed, each manifold is centred, divided by its centre's norm, rotated into d
    dimensions and given a last coordinate 1. Raises `InputError` as `mean_field_capacity` does.

    >>> pair = np.array([[2.0, 1.0], [2.0, -1.0]])
    >>> np.abs(reduced_points([pair, -pair], np.zeros((2, 0)))[0]).tolist()
    [[0.0, 0.5, 1.0], [0.0, 0.5, 1.0]]
    """
    arrays = same_width(manifolds)
    centers = np.array([a.mean(axis=0) for a in arrays])
    return _reduce_all(arrays, centers, _basis(center_basis, centers.shape[1]))


def _basis(basis: MatrixLike, features: int) -> Matrix:
    array = as_matrix(basis, "center_basis")
    if len(array) != features:
        raise InputError(f"a center_basis of {features} rows", got=str(len(array)), fix="shape (features, k)")
    gram = array.T @ array
    if np.abs(gram - np.eye(len(gram))).max(initial=0) > ORTHONORMAL:
        raise InputError("orthonormal columns in center_basis", got="others", fix="numpy.linalg.qr(basis)[0]")
    return array


def _reduce_all(arrays: list[Matrix], centers: Matrix, basis: Matrix) -> list[Matrix]:
    counts = [len(a) for a in arrays]
    origin = np.average(centers, axis=0, weights=counts)  # the mean of all points, not of all centres
    dust = DUST * max(float(np.linalg.norm(a, axis=1).max()) for a in arrays)
    return [_reduce(a - origin, basis, dust, i) for i, a in enumerate(arrays)]


def _reduce(points: Matrix, basis: Matrix, dust: float, index: int) -> Matrix:
    residual = points - points @ basis @ basis.T
    center = residual.mean(axis=0)
    shape = residual - center
    norm, extent = float(np.linalg.norm(center)), float(np.linalg.norm(shape, axis=1).max())
    if norm <= max(dust, extent / REACH):
        fix = "leaving it out, or another center_basis"
        raise InputError("a centre that differs from the mean", got=f"manifold {index} without one", fix=fix)
    if extent <= dust:
        shape = np.zeros_like(shape)  # identical points: the differences left are rounding
    count, features = shape.shape
    if features > count:
        shape = np.linalg.qr(shape.T).R.T
    return np.column_stack([shape / norm, np.ones(count)])


def _draw(reduced: list[Matrix], n_t: int, generator: torch.Generator | None) -> list[Matrix]:
    if n_t < 2:
        raise InputError("n_t >= 2 probes per manifold", got=str(n_t), fix="n_t=300")
    source = seeded(generator)
    return [draw_normal(n_t, points.shape[1], source) for points in reduced]


def _probes(probes: Sequence[MatrixLike], reduced: list[Matrix]) -> list[Matrix]:
    arrays = [as_matrix(p, f"probes of manifold {i}") for i, p in enumerate(probes)]
    count = len(arrays[0]) if arrays else 0
    wanted = [(max(count, 2), points.shape[1]) for points in reduced]
    got = [a.shape for a in arrays]
    if got != wanted:
        raise InputError(f"probes of shapes {wanted}", got=str(got), fix="(n_t, d + 1) for each manifold")
    return arrays


def _measure(
    points: Matrix, probes: Matrix, kappa: float, index: int, device: torch.device
) -> tuple[list[float], list[float], Matrix]:
    """Capacity, radius and both dimensions of one manifold, their standard errors, and squared distances."""
    found = anchor_points(torch.from_numpy(points).to(device), probes, kappa=kappa)
    if not found.squared_distance.any():
        got = f"all {len(probes)} inside for manifold {index}"
        raise InputError("a probe outside the admissible cone", got=got, fix="a larger n_t")
    measures = (_capacity(found), _radius(found), _dimension(found, probes), _dimension_paper(found, probes))
    values, errors = zip(*measures, strict=True)
    return list(values), list(errors), found.squared_distance


def _capacity(found: AnchorPoints) -> tuple[float, float]:
    inverse, error = mean_and_se(found.squared_distance)
    return 1 / inverse, error / inverse**2


def _radius(found: AnchorPoints) -> tuple[float, float]:
    spread = found.anchors[:, :-1] - found.anchors[:, :-1].mean(axis=0)
    squared, error = mean_and_se(np.square(spread).sum(axis=1))
    radius = float(np.sqrt(squared))
    return radius, error / (2 * radius) if radius > 0 else 0.0


def _dimension(found: AnchorPoints, probes: Matrix) -> tuple[float, float]:
    t, s = probes[:, :-1], found.anchors[:, :-1]
    norms = np.linalg.norm(t, axis=1) * np.sqrt(np.square(s).sum(axis=1) + ROOT)
    cosine, error = mean_and_se((t * s).sum(axis=1) / norms)
    return t.shape[1] * cosine**2, t.shape[1] * 2 * abs(cosine) * error


def _dimension_paper(found: AnchorPoints, probes: Matrix) -> tuple[float, float]:
    t = probes[:, :-1]
    spread = found.anchors[:, :-1] - found.anchors[:, :-1].mean(axis=0)
    norms = np.sqrt(np.square(spread).sum(axis=1, keepdims=True) + DUST**2)
    unit = spread / norms
    along = (t * unit).sum(axis=1, keepdims=True)
    squared = np.square(along[:, 0])
    # The mean anchor is estimated too: its error moves every direction, to first order by this slope.
    slope = -2 * (along * (t - along * unit) / norms).mean(axis=0) if spread.any() else np.zeros(t.shape[1])
    return float(squared.mean()), mean_and_se(squared + spread @ slope)[1]


def _se_of_mean(errors: Matrix) -> float:
    return float(np.linalg.norm(errors)) / len(errors)
