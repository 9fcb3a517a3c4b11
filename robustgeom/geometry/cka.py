"""Centred kernel alignment with linear kernels: how alike two sets of activations of the same samples are."""

from __future__ import annotations

import numpy as np

from robustgeom.errors import InputError
from robustgeom.geometry._arrays import DUST, Matrix, MatrixLike
from robustgeom.geometry._spectra import as_centered

__all__ = ["linear_cka", "unbiased_linear_cka"]


def linear_cka(X: MatrixLike, Y: MatrixLike) -> float:
    """Return the cosine between the centred Gram matrices of two sets of activations.

    X: (n, features), Y: (n, other features), row i of both the same sample; arrays or tensors. The result
    has no unit and is in [0, 1]; with fewer samples than features it is high for unrelated activations too,
    see `unbiased_linear_cka`. Raises `InputError` where row counts differ, a number is not finite, or all
    rows of one are equal.
    Source: Kornblith, Norouzi, Lee and Hinton, "Similarity of neural network representations revisited" (2019).

    >>> X = np.random.default_rng(0).normal(size=(20, 5))
    >>> round(linear_cka(X, 3 * X[:, ::-1] + 1), 12)
    1.0
    """
    first, second = _grams(X, Y, 2)
    return float((first * second).sum() / np.linalg.norm(first) / np.linalg.norm(second))


def unbiased_linear_cka(X: MatrixLike, Y: MatrixLike) -> float:
    """Return linear CKA from unbiased estimates of the three inner products, near 0 for unrelated activations.

    X: (n, features), Y: (n, other features), n >= 4, row i of both the same sample; arrays or tensors. The
    result has no unit, is at most 1 up to sampling and may be slightly negative.
    Raises `InputError` where row counts differ, n < 4, a number is not finite, all rows of one are equal, or
    one has no structure beyond chance, so that its own estimate is not positive.
    Source: Song et al., "Feature selection via dependence maximization" (2012); Nguyen, Raghu and Kornblith,
    "Do wide and deep networks learn the same things?" (2021).

    >>> X, Y = np.random.default_rng(0).normal(size=(2, 30, 500))
    >>> linear_cka(X, Y) > 0.9, abs(unbiased_linear_cka(X, Y)) < 0.1
    (True, True)
    """
    first, second = (_hollow(gram) for gram in _grams(X, Y, 4))
    own = _unbiased(first, first), _unbiased(second, second)
    for name, value, gram in (("X", own[0], first), ("Y", own[1], second)):
        if value <= DUST * float(np.square(gram).sum()):
            fix = "more samples, or linear_cka"
            raise InputError(f"structure beyond chance in {name}", got="none", fix=fix)
    return _unbiased(first, second) / float(np.sqrt(own[0] * own[1]))


def _grams(X: MatrixLike, Y: MatrixLike, fewest: int) -> tuple[Matrix, Matrix]:
    first, second = as_centered(X, "X"), as_centered(Y, "Y")
    if len(first) != len(second) or len(first) < fewest:
        got = f"{len(first)} and {len(second)}"
        raise InputError(f"equally many rows, {fewest} or more", got=got, fix="the same samples in both")
    first, second = first / np.abs(first).max(), second / np.abs(second).max()  # the unit cancels
    return first @ first.T, second @ second.T


def _hollow(gram: Matrix) -> Matrix:
    emptied = gram.copy()
    np.fill_diagonal(emptied, 0)
    return emptied


def _unbiased(first: Matrix, second: Matrix) -> float:
    """Unbiased estimate of the kernels' dependence, up to a factor; both have an empty diagonal."""
    count = len(first)
    cross = float((first * second).sum())
    means = float(first.sum()) * float(second.sum()) / ((count - 1) * (count - 2))
    return cross + means - 2 / (count - 2) * float(first.sum(axis=0) @ second.sum(axis=0))
