"""Means that several measures share."""

from __future__ import annotations

import numpy as np

from robustgeom.geometry._arrays import Matrix

__all__ = ["mean_and_se", "off_diagonal_mean"]


def mean_and_se(values: Matrix) -> tuple[float, float]:
    """Return the mean of values (n,) and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def off_diagonal_mean(matrix: Matrix) -> float:
    """Return the mean over pairs of different rows and columns of a matrix (P, P)."""
    count = len(matrix)
    return float(matrix.sum() - np.trace(matrix)) / (count * (count - 1))
