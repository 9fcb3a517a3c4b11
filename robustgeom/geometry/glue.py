"""Geometry linked to untangling efficiency: capacity of all manifolds together, and the geometry behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Generator

from robustgeom.errors import InputError, unknown
from robustgeom.geometry._arrays import Matrix, MatrixLike, check_margin, device_of, same_width
from robustgeom.geometry._averages import mean_and_se, off_diagonal_mean
from robustgeom.geometry._draws import TERMS, Draws, averaged, measure, only_cone, reduced
from robustgeom.geometry._ensembles import label_draws, moved, probe_draws
from robustgeom.geometry._random import draw_order, seeded

__all__ = ["ManifoldGeometry", "manifold_geometry"]

ANCHORS = ("support", "masked", "zero")
_RESOLVED = 1e-8  # share of the squared probe along the axes that rounding does not explain
_SHUFFLED = 4  # of so many draws one is enough for a value that others are held against


@dataclass(frozen=True)
class ManifoldGeometry:
    """Capacity, dimension, radius and utility of P manifolds together, without units, with standard errors.

    `capacity = utility * (1 + radius**-2) / dimension`. They are made of each draw's a, b and c: `cone`, `axis` and
    `spread` (n_t,); `labels` (n_t, P) are the draws' labels (for pairs (n_t, 2)). `terms` split 1/capacity into within,
    center_center, axis_axis and center_axis. Cosines are (P, P): between anchor centres, signed, and the means of
    absolute cosines between axis parts, and from a centre (row) to axes. `floor` is the capacity of points that no
    readout separates, P over their rank; `shuffled` that of the same points dealt to manifolds at random, from the
    first quarter of the draws. Shares in [0, 1]: `active`, of manifolds that carry part of a projection; `degenerate`,
    of draws in which every point binds; `unique`, of draws whose multipliers are unique: below 1, dimension, radius
    and utility hang on the solver. The radius is infinite where manifolds outnumber the directions of axes and centres.
    Standard errors come from the finite number of draws alone; with `anchors="zero"` those of radius and utility are
    too small by half or so, because they leave out the anchor centres' own error.
    """

    capacity: float
    dimension: float
    radius: float
    utility: float
    capacity_se: float
    dimension_se: float
    radius_se: float
    utility_se: float
    terms: dict[str, float]
    cone: Matrix
    axis: Matrix
    spread: Matrix
    labels: Matrix
    center_cosine: Matrix
    axis_cosine: Matrix
    center_axis_cosine: Matrix
    floor: float
    shuffled: float
    active: float
    degenerate: float
    unique: float
    n_t: int
    M: tuple[int, ...]
    N: int
    kappa: float
    ensemble: str
    centering: str
    anchors: str

    @property
    def P(self) -> int:  # noqa: N802
        """Number of manifolds."""
        return len(self.M)

    @property
    def center_alignment(self) -> float:
        """Mean absolute cosine between the anchor centres of different manifolds."""
        return off_diagonal_mean(np.abs(self.center_cosine))

    @property
    def axis_alignment(self) -> float:
        """Mean absolute cosine between the anchors' axis parts of different manifolds."""
        return off_diagonal_mean(self.axis_cosine)

    @property
    def center_axis_alignment(self) -> float:
        """Mean absolute cosine between a manifold's anchor centre and the axis parts of another."""
        return off_diagonal_mean(self.center_axis_cosine)

    def one_vs_rest(self) -> tuple[Matrix, Matrix]:
        """Return the capacity (P,) of each manifold against all others, and standard errors; NaN below two draws."""
        if self.labels.shape[1] != self.P:  # those of pairs
            return np.full(self.P, np.nan), np.full(self.P, np.nan)
        positive = self.labels > 0
        single = positive.sum(axis=1) == 1
        alone = [self.cone[single & own] for own in positive.T]
        found = [_capacity(a, self.P) if len(a) > 1 else (np.nan, np.nan) for a in alone]
        values, errors = np.array(found).T
        return values, errors


def manifold_geometry(
    manifolds: Sequence[MatrixLike],
    *,
    labels: str | MatrixLike = "uniform",
    centering: str = "none",
    anchors: str = "support",
    kappa: float = 0.0,
    n_t: int = 200,
    probes: MatrixLike | None = None,
    generator: Generator | None = None,
) -> ManifoldGeometry:
    """Measure how many manifolds per feature a linear readout could separate, correlations included, and why.

    manifolds: P arrays or tensors (M_i, N), one point per row; everything is computed in float64, on the GPU of the
    first one if it is on one. labels: "uniform" signs (the capacity is then that of correlated manifolds),
    "one-vs-rest" (draw k has manifold k mod P positive; where n_t < P, n_t evenly spaced manifolds have a turn),
    "pairwise" (each pair by itself, averaged), or signs (P,) or
    (n_t, P). centering: the readout passes through the origin ("none") or the mean of all points ("global"), or has an
    offset ("affine": a constant coordinate as high as that mean is long). anchors: where an idle manifold's anchor is:
    at its point with the least slack ("support"), nowhere ("masked"), or at the origin ("zero"). kappa: margin in the
    features' units. n_t Gaussian probes are drawn after the labels from `generator` (default: a fresh torch.Generator
    seeded with 0), or `probes` (n_t, N) given; with "affine" they have one column more.
    Raises `InputError` with fewer than 2 manifolds, numbers that are not finite, differing N, only points at the
    origin, an offset for features centred before, labels all equal, n_t < 2, or a margin where points are linearly
    dependent; `UnknownNameError` for a name of labels, centering or anchors that is not among these.
    Source: Chou, Arend, Wakhloo, Kim, Slatton and Chung (2024); Wakhloo, Sussman and Chung (2023).

    >>> rng = np.random.default_rng(0)
    >>> found = manifold_geometry([rng.normal(size=(1, 40)) for _ in range(12)], n_t=400)
    >>> abs(found.capacity - 2) < 4 * found.capacity_se
    True
    """
    check_margin(kappa)
    if anchors not in ANCHORS:
        raise unknown("anchor convention", anchors, ANCHORS)
    raw, device = same_width(manifolds), device_of(manifolds[0])
    arrays = moved(raw, centering)
    source = seeded(generator)
    count = n_t if probes is None else len(probes)
    drawn = label_draws(labels, len(arrays), count, source)
    targets = probe_draws(probes, count, arrays[0].shape[1], source, centering)
    pairs = isinstance(labels, str) and labels == "pairwise"
    groups = [list(g) for g in combinations(range(len(arrays)), 2)] if pairs else [list(range(len(arrays)))]
    parts = [_measured([arrays[i] for i in g], targets, drawn, kappa, anchors, device) for g in groups]
    draws = averaged(parts)
    dealt = _dealt(arrays, source)
    few = max(count // _SHUFFLED, min(count, len(arrays)), 2)
    shuffled = [_cone([dealt[i] for i in g], targets[:few], drawn[:few], kappa, device) for g in groups]
    return ManifoldGeometry(
        **_summary(draws, drawn.shape[1]),
        **(_pair_cosines(parts, groups, len(arrays)) if pairs else _cosines(draws)),
        labels=drawn,
        shuffled=_capacity(np.mean(shuffled, axis=0), drawn.shape[1])[0],
        n_t=count,
        M=tuple(len(a) for a in arrays),
        N=raw[0].shape[1],
        kappa=kappa,
        ensemble=labels if isinstance(labels, str) else "given",
        centering=centering,
        anchors=anchors,
    )


def _measured(
    arrays: list[Matrix], probes: Matrix, labels: Matrix, kappa: float, anchors: str, device: torch.device
) -> Draws:
    return measure(*_met(arrays, probes, labels, kappa), labels, anchors, device)


def _met(arrays: list[Matrix], probes: Matrix, labels: Matrix, kappa: float) -> tuple[list[Matrix], Matrix]:
    """Return the manifolds in their span, and what is projected on their cone: the probes, shifted by a margin."""
    points, targets = reduced(arrays, probes)
    return points, targets + _shift(points, labels, kappa)


def _shift(arrays: list[Matrix], labels: Matrix, kappa: float) -> Matrix:
    """Return what a margin adds to the probes (n_t, N): the shortest w with `label * point . w = kappa` everywhere."""
    points = np.concatenate(arrays)
    if kappa == 0:
        return np.zeros((len(labels), points.shape[1]))
    wanted = kappa * np.repeat(labels, [len(a) for a in arrays], axis=1)
    shift = np.linalg.lstsq(points, wanted.T, rcond=None)[0].T
    if np.abs(shift @ points.T - wanted).max() > 1e-8 * kappa:
        fix = "kappa=0.0, or no more points than features"
        raise InputError("linearly independent points for a margin", got="others", fix=fix)
    return np.asarray(shift)


def _cone(arrays: list[Matrix], probes: Matrix, labels: Matrix, kappa: float, device: torch.device) -> Matrix:
    return only_cone(*_met(arrays, probes, labels, kappa), labels, device)


def _dealt(arrays: list[Matrix], source: Generator) -> list[Matrix]:
    """Deal all points to manifolds of the same sizes at random."""
    everything, sizes = np.concatenate(arrays), [len(a) for a in arrays]
    return np.split(everything[draw_order(len(everything), source)], np.cumsum(sizes)[:-1])


def _summary(draws: Draws, count: int) -> dict[str, Any]:
    a, b, c = draws.cone, draws.axis, draws.spread
    capacity, capacity_se = _capacity(a, count)
    dimension, dimension_se = mean_and_se(b / count)
    radius, radius_se = _radius(b, c)
    utility, utility_se = _utility(a, c)
    return {
        "capacity": capacity,
        "dimension": dimension,
        "radius": radius,
        "utility": utility,
        "capacity_se": capacity_se,
        "dimension_se": dimension_se,
        "radius_se": radius_se,
        "utility_se": utility_se,
        "terms": dict(zip(TERMS, (draws.terms.mean(axis=0) / count).tolist(), strict=True)),
        "cone": a,
        "axis": b,
        "spread": c,
        "floor": count / float(draws.rank),
        **{name: float(getattr(draws, name).mean()) for name in ("active", "degenerate", "unique")},
    }


def _capacity(cone: Matrix, count: int) -> tuple[float, float]:
    mean, error = mean_and_se(cone / count)
    return (1 / mean, error / mean**2) if mean > 0 else (float("inf"), float("nan"))


def _radius(axis: Matrix, spread: Matrix) -> tuple[float, float]:
    """Return sqrt(E[c] / E[b - c]) and its standard error; 0 where there is no axis part."""
    rest, whole = float((axis - spread).mean()), float(axis.mean())
    if rest <= _RESOLVED * whole:  # axes and centres have so many directions that the centres change nothing
        return (0.0, 0.0) if whole <= 0 else (float("inf"), float("nan"))
    radius = float(np.sqrt(spread.mean() / rest))
    if radius == 0:
        return 0.0, 0.0
    return radius, mean_and_se((spread - radius**2 * (axis - spread)) / rest)[1] / (2 * radius)


def _utility(cone: Matrix, spread: Matrix) -> tuple[float, float]:
    """Return E[c] / E[a] and its standard error; NaN where every probe is inside."""
    mean = float(cone.mean())
    if mean <= 0:
        return float("nan"), float("nan")
    utility = float(spread.mean()) / mean
    return utility, mean_and_se((spread - utility * cone) / mean)[1]


def _cosines(draws: Draws) -> dict[str, Any]:
    return {name: getattr(draws, name) for name in ("center_cosine", "axis_cosine", "center_axis_cosine")}


def _pair_cosines(parts: list[Draws], groups: list[list[int]], count: int) -> dict[str, Any]:
    found = {name: np.eye(count) for name in _cosines(parts[0])}
    for part, group in zip(parts, groups, strict=True):
        for name, values in _cosines(part).items():
            found[name][np.ix_(group, group)] = values
    return found
