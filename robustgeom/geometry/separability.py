"""How well a line tells two clouds of paired points apart, cross-validated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from robustgeom.errors import InputError
from robustgeom.geometry._arrays import DUST, Matrix, MatrixLike, as_matrix
from robustgeom.geometry._random import draw_order, seeded
from robustgeom.geometry._spectra import as_centered, coordinates

__all__ = ["LinearSeparability", "as_paired_clouds", "linear_separability"]

FEWEST = 8  # pairs


@dataclass(frozen=True)
class LinearSeparability:
    """Held-out accuracy in [0, 1], 0.5 for clouds that overlap fully, and d' along the discriminant axis.

    `d_prime` is the distance of the two clouds' means in units of their standard deviation along the axis,
    positive where the axis holds on points it was not fitted on; inf (as its error) where no width is left along it.
    Standard errors are over the `pairs`; they leave out that another sample gives another axis, which makes
    them up to a third too small for clouds that overlap fully.
    """

    accuracy: float
    accuracy_se: float
    d_prime: float
    d_prime_se: float
    pairs: int


def linear_separability(
    A: MatrixLike,
    B: MatrixLike,
    *,
    folds: int = 5,
    repeats: int = 5,
    generator: torch.Generator | None = None,
) -> LinearSeparability:
    """Measure how well a linear discriminant tells cloud A from cloud B on pairs it was not fitted on.

    A, B: (pairs, features), arrays or tensors, row i of both belonging together, such as the clean and the
    attacked activations of one image: the two are never split between training and test. The discriminant
    uses the pooled covariance, shrunk towards a multiple of the identity by a closed formula, so nothing is
    tuned. Pairs are dealt into `folds` anew for each of `repeats`, drawn from `generator` (default: a fresh
    torch.Generator seeded with 0). Equal clouds give accuracy 0.5 and d' 0: a tie is half a hit.
    Raises `InputError` where shapes differ, a number is not finite, there are fewer than 8 pairs, folds is
    not in [2, pairs], repeats < 1, or neither cloud has any spread.
    Source: Fisher's linear discriminant with the shrinkage of Ledoit and Wolf, "A well-conditioned estimator
    for large-dimensional covariance matrices" (2004).

    >>> A = np.random.default_rng(0).normal(size=(100, 5))
    >>> found = linear_separability(A, A + [2, 0, 0, 0, 0])
    >>> abs(found.accuracy - 0.84) < 0.05, abs(found.d_prime - 2) < 0.3
    (True, True)
    """
    clouds = as_paired_clouds({"A": A, "B": B})
    count = len(clouds["A"])
    _check_plan(count, folds, repeats)
    both = coordinates(as_centered(np.concatenate(list(clouds.values())), "A and B"))
    first, second = both[:count], both[count:]
    _check_spread(first, second)
    source = seeded(generator)
    orders = [draw_order(count, source) for _ in range(repeats)]
    scores = np.array([_held_out_scores(first, second, np.array_split(o, folds)) for o in orders])
    hits = np.mean((1 + np.sign(scores) * [[-1], [1]]) / 2, axis=1)
    d_prime, d_prime_se = _d_prime(scores)
    error = float(np.sqrt(hits.var(axis=1, ddof=1).mean() / count))  # dealing anew adds no pairs
    return LinearSeparability(float(hits.mean()), error, d_prime, d_prime_se, count)


def as_paired_clouds(clouds: dict[str, MatrixLike]) -> dict[str, Matrix]:
    """Return named clouds (pairs, features) as arrays of one shape; raises `InputError` otherwise."""
    arrays = {name: as_matrix(cloud, name) for name, cloud in clouds.items()}
    shapes = {name: a.shape for name, a in arrays.items()}
    if len(set(shapes.values())) > 1:
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError("clouds of the same shape", got=got, fix="row i of all from the same image")
    return arrays


def _check_plan(count: int, folds: int, repeats: int) -> None:
    if count < FEWEST:
        raise InputError(f"{FEWEST} pairs or more", got=str(count), fix="more images")
    if not 2 <= folds <= count:
        raise InputError(f"folds in [2, {count}]", got=str(folds), fix="folds=5")
    if repeats < 1:
        raise InputError("repeats >= 1", got=str(repeats), fix="repeats=5")


def _check_spread(first: Matrix, second: Matrix) -> None:
    within = max(float(np.ptp(first, axis=0).max()), float(np.ptp(second, axis=0).max()))
    if within <= DUST * max(float(np.abs(first).max()), float(np.abs(second).max())):
        raise InputError("points that differ within a cloud", got="equal ones", fix="more images")


def _held_out_scores(first: Matrix, second: Matrix, folds: list[NDArray[np.int64]]) -> Matrix:
    """Scores (2, pairs) of points by the discriminants of the other folds, in units of its own deviation."""
    scores = np.empty((2, len(first)))
    for fold in folds:
        axis, offset = _discriminant(np.delete(first, fold, axis=0), np.delete(second, fold, axis=0))
        scores[0, fold] = first[fold] @ axis - offset
        scores[1, fold] = second[fold] @ axis - offset
    return scores


def _discriminant(first: Matrix, second: Matrix) -> tuple[Matrix, float]:
    centers = first.mean(axis=0), second.mean(axis=0)
    apart = centers[1] - centers[0]
    if np.abs(apart).max() <= DUST * max(np.abs(first).max(), np.abs(second).max()):
        return np.zeros_like(apart), 0.0  # rounding is no difference
    covariance = _shrunk_covariance(np.concatenate([first - centers[0], second - centers[1]]))
    axis = np.linalg.solve(covariance, apart)
    axis /= np.sqrt(axis @ covariance @ axis)
    return axis, float(axis @ (centers[0] + centers[1])) / 2


def _shrunk_covariance(residuals: Matrix) -> Matrix:
    count, features = residuals.shape
    covariance = residuals.T @ residuals / count
    variance = float(np.trace(covariance)) / features
    away = float(np.square(covariance - variance * np.eye(features)).sum())
    fourth = float(np.square(np.square(residuals).sum(axis=1)).mean())
    noise = (fourth - float(np.square(covariance).sum())) / count
    share = min(noise / away, 1.0) if away > 0 else 1.0
    share = max(share, DUST)  # never singular
    return np.asarray((1 - share) * covariance + share * variance * np.eye(features), dtype=np.float64)


def _d_prime(scores: Matrix) -> tuple[float, float]:
    """d' over repeats of scores (repeats, 2, pairs), and its standard error by leaving out a pair each."""
    count = scores.shape[2]
    total = float(_ratio(scores.mean(axis=2), scores.var(axis=2, ddof=1)).mean())
    means = (scores.sum(axis=2, keepdims=True) - scores) / (count - 1)
    off = np.square(scores - scores.mean(axis=2, keepdims=True))
    variances = (off.sum(axis=2, keepdims=True) - off * count / (count - 1)) / (count - 2)
    without = _ratio(np.moveaxis(means, 1, 2), np.moveaxis(variances, 1, 2))
    if not (np.isfinite(total) and np.isfinite(without).all()):
        return total, np.inf
    return total, float(np.sqrt((count - 1) * without.var(axis=1).mean()))


def _ratio(means: Matrix, variances: Matrix) -> Matrix:
    """Distance of two means (..., 2) over their common deviation; 0 where they are equal."""
    apart = means[..., 1] - means[..., 0]
    width = np.sqrt(np.maximum(variances.mean(axis=-1), 0))
    wide = width > DUST * np.abs(apart)
    finite = apart / np.where(wide, width, 1)
    return np.where(wide | (apart == 0), finite, np.copysign(np.inf, apart))
