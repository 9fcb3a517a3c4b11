"""Simulated manifold capacity: random labels and projections, and an exact test of linear separability."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import scipy
import torch
from numpy.typing import ArrayLike, NDArray

from robustgeom.errors import InputError, InternalError
from robustgeom.geometry._arrays import DUST, Matrix, MatrixLike, as_matrix, same_width
from robustgeom.geometry._random import draw_normal, draw_order, seeded

__all__ = ["Labels", "SimulatedCapacity", "separable", "simulated_capacity"]

Labels = Literal["balanced", "one-vs-rest"]

TOUCHING = 1e-9  # hulls nearer than this, in units of the points' spread, share a point
ROUNDING = 1e-13  # what rounding can add to a side of a plane, for unit rows and a unit normal
SECONDS = 60.0  # a linear program that takes longer has failed


@dataclass(frozen=True)
class SimulatedCapacity:
    """Capacity P / Nc of P manifolds by trial, without unit, and the trials that it rests on.

    `critical_dimension` Nc is the number of features in which half of all labelings are separable;
    `capacity_se` is the standard error from the finite number of trials, not of points; it is infinite where
    the trials that succeed in all N features are too few to tell. `bounds` are P over the two numbers of
    features next to Nc. Where more than half fail in all N features, capacity and Nc are NaN and bounds
    (0, P / N); where more than half succeed in 1 feature, NaN and (P, inf). `separable_fraction` (tried,)
    belongs to `dimensions` (tried,), which runs over all that matter and ends with N. `M` counts points, one
    number for each manifold.
    """

    capacity: float
    capacity_se: float
    critical_dimension: float
    bounds: tuple[float, float]
    dimensions: NDArray[np.int64]
    separable_fraction: Matrix
    labels: Labels
    repeats: int
    M: tuple[int, ...]
    N: int

    @property
    def P(self) -> int:  # noqa: N802
        """Number of manifolds."""
        return len(self.M)


def simulated_capacity(
    manifolds: Sequence[MatrixLike],
    *,
    labels: Labels = "balanced",
    repeats: int = 100,
    generator: torch.Generator | None = None,
) -> SimulatedCapacity:
    """Measure by trial how many manifolds per feature a linear readout with a bias separates.

    manifolds: P arrays or tensors (M_i, N), one point per row; everything is computed in float64. Each of
    `repeats` trials labels all manifolds, "balanced" (P // 2 at random against the rest) or "one-vs-rest"
    (trial k: manifold k mod P), draws a Gaussian projection (N, N), and finds the smallest n for which
    the first n projected features separate all points; the scale of a projection's columns plays no part.
    Random numbers come from `generator` (default: a fresh torch.Generator seeded with 0).
    At P below 40 it sits some 10% above the theory, which is for many manifolds with dense labels; one
    against the rest is easier than that, and not to be compared with it.
    Raises `InputError` with fewer than 2 manifolds, numbers that are not finite, differing N, other labels,
    or repeats < 2.
    Source: Chung, Lee and Sompolinsky (2018); Cohen et al. (2020).

    >>> points = np.random.default_rng(0).normal(size=(20, 1, 30))
    >>> found = simulated_capacity(list(points))
    >>> bool(abs(found.critical_dimension - (20 / 2 - 1)) < 1), float(found.separable_fraction[-1])
    (True, 1.0)
    """
    arrays = same_width(manifolds)
    _check(labels, repeats)
    source = seeded(generator)
    counts, features = [len(a) for a in arrays], arrays[0].shape[1]
    points = _rotated(np.concatenate(arrays))
    needed = np.array(list(_needed(points, counts, labels, repeats, source)))
    dimensions, fractions = _curve(needed, features)
    critical, error = _crossing(dimensions, fractions), _critical_se(dimensions, fractions, repeats)
    resolved = 1 <= critical < np.inf
    return SimulatedCapacity(
        capacity=len(counts) / critical if resolved else np.nan,
        capacity_se=len(counts) * error / critical**2 if resolved else np.nan,
        critical_dimension=critical if resolved else np.nan,
        bounds=_bounds(len(counts), critical, features),
        dimensions=dimensions,
        separable_fraction=fractions,
        labels=labels,
        repeats=repeats,
        M=tuple(counts),
        N=features,
    )


def separable(points: MatrixLike, labels: ArrayLike) -> bool:
    """Return whether a plane, with a bias, has all points of either label strictly on its own side.

    points: (points, features), in any unit; labels: (points,), above 0 for one side, both sides present.
    Either answer is certified, by such a plane or by a point that both convex hulls share, to 1e-9 of the
    points' spread in every direction: hulls that only touch are not separable.
    Raises `InputError` unless points are finite and labels fit, `InternalError` without a certificate.

    >>> corners = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    >>> separable(corners, [1, -1, -1, -1]), separable(corners, [1, 1, -1, -1])
    (True, False)
    """
    array = as_matrix(points, "points")
    sides = as_matrix(np.asarray(labels).reshape(-1, 1), "labels")[:, 0] > 0
    if len(sides) != len(array):
        raise InputError(f"{len(array)} labels", got=str(len(sides)), fix="one label for each point")
    if sides.all() or not sides.any():
        raise InputError("labels of both sides", got="one side only", fix="+1 and -1, or True and False")
    spread = _whitened(array)
    if spread.shape[1] >= len(array) - 1:
        return True  # affinely independent points: every labeling is
    rows = np.column_stack([spread, np.ones(len(array))]) * np.where(sides, 1.0, -1.0)[:, None]
    return _one_sided(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _check(labels: str, repeats: int) -> None:
    if labels not in ("balanced", "one-vs-rest"):
        raise InputError('labels "balanced" or "one-vs-rest"', got=repr(labels), fix='labels="balanced"')
    if repeats < 2:
        raise InputError("repeats >= 2", got=str(repeats), fix="repeats=100")


def _rotated(points: Matrix) -> Matrix:
    """Centre the points and turn them, where features outnumber them, into as many coordinates."""
    centered = _centered(points)
    return np.linalg.qr(centered.T).R.T if centered.shape[1] > len(centered) else centered


def _centered(points: Matrix) -> Matrix:
    scaled = points / max(float(np.abs(points).max(initial=0)), np.finfo(float).tiny)
    return np.asarray(scaled - scaled.mean(axis=0), dtype=np.float64)


def _needed(
    points: Matrix, counts: list[int], labels: Labels, repeats: int, source: torch.Generator
) -> Iterator[float]:
    """Yield for each trial the smallest separating number of features, infinite where there is none."""
    most = points.shape[1]
    guess = min(max(len(counts) // 2, 1), most)
    for k in range(repeats):
        sides = np.repeat(_labeling(len(counts), labels, k, source), counts)
        projection = draw_normal(most, most, source)
        found = _smallest(partial(_separates, points, projection, sides), guess, most)
        guess = int(found) if found <= most else most
        yield found


def _separates(points: Matrix, projection: Matrix, sides: NDArray[np.bool_], n: int) -> bool:
    return separable(points @ projection[:, :n], sides)


def _labeling(count: int, labels: Labels, trial: int, source: torch.Generator) -> NDArray[np.bool_]:
    sides = np.zeros(count, dtype=np.bool_)
    if labels == "balanced":
        sides[draw_order(count, source)[: count // 2]] = True
    else:
        sides[trial % count] = True
    return sides


def _smallest(holds: Callable[[int], bool], guess: int, most: int) -> float:
    """Smallest n in 1..most that holds, as all larger ones do, searched outwards from a guess; else inf."""
    low, high, n, step = 0, most + 1, guess, 1
    while high - low > 1:
        low, high = (low, n) if holds(n) else (n, high)
        if low > 0 and high <= most:
            n = (low + high) // 2
        else:
            n = max(high - step, 1) if high <= most else min(low + step, most)
        step *= 2
    return high if high <= most else np.inf


def _curve(needed: Matrix, features: int) -> tuple[NDArray[np.int64], Matrix]:
    """Fractions of trials separable at each number of features that matters, and at all of them."""
    finite = needed[np.isfinite(needed)].astype(np.int64)
    reach = np.arange(finite.min() - 1, finite.max() + 1) if len(finite) else finite
    dimensions = np.union1d(reach, features)
    return dimensions, np.mean(needed <= dimensions[:, None], axis=1)


def _crossing(dimensions: NDArray[np.int64], fractions: Matrix, level: float = 0.5) -> float:
    """Where the fraction first reaches a level, by a straight line between neighbours; inf if nowhere."""
    above = int(np.argmax(fractions >= level))
    if fractions[above] < level:
        return np.inf
    pair = slice(above - 1, above + 1)
    return float(np.interp(level, fractions[pair], dimensions[pair]))


def _critical_se(dimensions: NDArray[np.int64], fractions: Matrix, repeats: int) -> float:
    """Half the way along the curve that one binomial standard error up and down from 1/2 makes."""
    error = 0.5 / np.sqrt(repeats)
    return (_crossing(dimensions, fractions, 0.5 + error) - _crossing(dimensions, fractions, 0.5 - error)) / 2


def _bounds(count: int, critical: float, features: int) -> tuple[float, float]:
    if critical == np.inf:
        return 0.0, count / features
    below = np.ceil(critical) - 1
    return count / float(np.ceil(critical)), count / float(below) if below > 0 else np.inf


def _whitened(points: Matrix) -> Matrix:
    """Centred points (m, rank) in coordinates of equal variance: separability is the same in all of them."""
    left, values, _ = np.linalg.svd(_centered(points), full_matrices=False)
    return np.asarray(left[:, values > DUST * values.max(initial=0)] * np.sqrt(len(points)))


def _one_sided(rows: Matrix) -> bool:
    """Whether some direction has a positive product with all unit rows: the alternative of Gordan."""
    for method in (_nearest, _widest):
        decision = _decided(rows, *method(rows))
        if decision is not None:
            return decision
    raise InternalError("neither a separating plane nor a shared point of the hulls could be certified")


def _decided(rows: Matrix, direction: Matrix, weights: Matrix) -> bool | None:
    """What a direction, or non-negative weights of the rows, prove; None where they prove nothing."""
    if _is_normal(rows, direction):
        return True
    total = float(weights.sum())
    if total > 0 and float(np.linalg.norm(weights @ rows)) <= TOUCHING * total:
        return False
    support = rows[weights > 0]  # a small sum is known poorly; its rows alone give the normal precisely
    precise = np.asarray(np.linalg.lstsq(support, np.ones(len(support)))[0], dtype=np.float64)
    return True if _is_normal(rows, precise) else None


def _is_normal(rows: Matrix, direction: Matrix) -> bool:
    return float((rows @ direction).min()) > ROUNDING * float(np.linalg.norm(direction))


def _nearest(rows: Matrix) -> tuple[Matrix, Matrix]:
    """Combination of the rows nearest to zero, up to scale, and its weights."""
    lifted = np.vstack([rows.T, np.ones(len(rows))])
    try:
        weights = np.asarray(scipy.optimize.nnls(lifted, np.eye(len(lifted))[-1], maxiter=10 * len(rows))[0])
    except RuntimeError:  # it gave up after its iteration limit
        weights = np.zeros(len(rows))
    return weights @ rows, weights


def _widest(rows: Matrix) -> tuple[Matrix, Matrix]:
    """Direction of the widest margin and its multipliers, for where the nearest combination proves nothing."""
    count, width = rows.shape
    solution = scipy.optimize.linprog(
        np.append(np.zeros(width), -1.0),
        A_ub=np.column_stack([-rows, np.ones(count)]),
        b_ub=np.zeros(count),
        bounds=[(-1, 1)] * width + [(None, 1)],
        method="highs",
        options={"time_limit": SECONDS},
    )
    if solution.x is None:
        return np.zeros(width), np.zeros(count)
    return solution.x[:-1], np.maximum(-solution.ineqlin.marginals, 0)
