"""Measured error of ridge regression from activations to targets, over random training sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from robustgeom.errors import InputError
from robustgeom.geometry._arrays import Matrix, MatrixLike
from robustgeom.geometry._random import draw_order, seeded
from robustgeom.geometry._regression import check_ridge, checked_sizes, paired, principal_modes

__all__ = ["EmpiricalRidgeCurve", "empirical_ridge_curve"]

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class EmpiricalRidgeCurve:
    """Mean squared errors (s, splits, C) per training size, split and target.

    All are in units of the targets' total power over the P samples (their variance, if centred), so that the
    sum over targets is one number per fit: `errors` over all P samples, which is what `spectral_alignment`
    predicts, `held_out_errors` over those not trained on, and `training_errors`. `train_sizes` is (s,).
    """

    train_sizes: Indices
    errors: Matrix
    held_out_errors: Matrix
    training_errors: Matrix

    @property
    def error(self) -> Matrix:
        """Error over all samples, summed over targets and averaged over splits, (s,)."""
        return np.asarray(self.errors.sum(axis=2).mean(axis=1), dtype=np.float64)

    @property
    def held_out_error(self) -> Matrix:
        """Error over the samples not trained on, summed over targets and averaged over splits, (s,)."""
        return np.asarray(self.held_out_errors.sum(axis=2).mean(axis=1), dtype=np.float64)

    @property
    def training_error(self) -> Matrix:
        """Error over the training samples, summed over targets and averaged over splits, (s,)."""
        return np.asarray(self.training_errors.sum(axis=2).mean(axis=1), dtype=np.float64)


def empirical_ridge_curve(
    X: MatrixLike,
    Y: MatrixLike,
    *,
    train_sizes: Sequence[int] | None = None,
    splits: int = 3,
    indices: Sequence[Sequence[ArrayLike]] | None = None,
    ridge: float = 1e-14,
    center: bool = True,
    generator: torch.Generator | None = None,
) -> EmpiricalRidgeCurve:
    """Fit ridge regression from X to Y on random training sets of each size and measure its errors.

    X: activations (P, N); Y: targets (P, C); train_sizes, ridge (penalty per training sample, in squared
    units of X) and center as in `spectral_alignment`; means are those of all P samples. Each size gets
    `splits` random training sets from `generator` (default: a fresh torch.Generator seeded with 0).
    `indices` replaces sizes and splits: for each size equally many arrays of row numbers, all of that size.
    Raises `InputError` as `spectral_alignment` does, for splits < 1, and for indices of uneven counts,
    outside 0..P-1 or repeated.
    Source: Canatar, Feather, Wakhloo and Chung, "A spectral theory of neural prediction and alignment" (2023).

    >>> X = np.random.default_rng(0).normal(size=(60, 40))
    >>> found = empirical_ridge_curve(X, X[:, :2], train_sizes=[10, 30])
    >>> found.errors.shape, bool(np.all(found.error < found.held_out_error))
    ((2, 3, 2), True)
    """
    inputs, targets = paired(X, Y, center)
    check_ridge(ridge)
    if indices is None:
        sizes = checked_sizes(train_sizes, len(inputs))
        indices = _draw(len(inputs), sizes, splits, seeded(generator))
    chosen = _checked(indices, len(inputs))
    spectrum, modes = principal_modes(inputs)
    reduced = modes * np.sqrt(
        len(inputs) * spectrum
    )  # the same inner products, and no more columns than rows
    total = float(np.square(targets).mean(axis=0).sum())
    measured = np.array([[_fit(reduced, targets, rows, ridge) for rows in same] for same in chosen]) / total
    return EmpiricalRidgeCurve(np.array([len(s[0]) for s in chosen]), *np.moveaxis(measured, 2, 0))


def _draw(samples: int, sizes: Indices, splits: int, source: torch.Generator) -> list[list[Indices]]:
    if splits < 1:
        raise InputError("splits >= 1", got=str(splits), fix="splits=3")
    return [[draw_order(samples, source)[:size] for _ in range(splits)] for size in sizes]


def _checked(indices: Sequence[Sequence[ArrayLike]], samples: int) -> list[list[Indices]]:
    chosen = [[np.asarray(rows, dtype=np.int64) for rows in same] for same in indices]
    fix = "for each size equally many arrays of row numbers"
    if len({len(same) for same in chosen}) != 1 or not chosen[0]:
        raise InputError("equally many training sets per size", got=f"{[len(s) for s in chosen]}", fix=fix)
    for same in chosen:
        checked_sizes([len(same[0])], samples)
        for rows in same:
            inside = rows.ndim == 1 and len(np.unique(rows)) == len(same[0]) == len(rows)
            if not inside or rows.min() < 0 or rows.max() >= samples:
                raise InputError(f"{len(same[0])} different rows below {samples}", got="others", fix=fix)
    return chosen


def _fit(inputs: Matrix, targets: Matrix, rows: Indices, ridge: float) -> tuple[Matrix, Matrix, Matrix]:
    """Mean squared errors (C,) over all samples, the held-out ones and the training ones."""
    left, sizes, right = np.linalg.svd(inputs[rows], full_matrices=False)
    shrunk = sizes / (np.square(sizes) + len(rows) * ridge)
    coefficients = right.T @ (shrunk[:, None] * (left.T @ targets[rows]))
    squared = np.square(targets - inputs @ coefficients)
    held_out = np.ones(len(inputs), dtype=bool)
    held_out[rows] = False
    return squared.mean(axis=0), squared[held_out].mean(axis=0), squared[rows].mean(axis=0)
