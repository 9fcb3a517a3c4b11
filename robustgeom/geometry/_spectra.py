"""Centring and second moments that several measures share."""

from __future__ import annotations

import numpy as np

from robustgeom.errors import InputError
from robustgeom.geometry._arrays import DUST, Matrix, MatrixLike, as_matrix

__all__ = ["as_centered", "check_unit", "coordinates", "eigenvalues", "participation"]

SMALLEST, LARGEST = 1e-60, 1e60  # beyond them fourth powers vanish or overflow


def as_centered(value: MatrixLike, name: str) -> Matrix:
    """Return `value` (rows, columns) without its mean row; raises `InputError` where all rows are equal."""
    raw = as_matrix(value, name)
    if raw.shape[1] == 0:
        raise InputError(f"a feature or more in {name}", got="none", fix="shape (rows, columns)")
    centered = raw - raw.mean(axis=0)
    if np.abs(centered).max() <= DUST * np.abs(raw).max():
        fix = "another stage, or more rows"
        raise InputError(f"rows that differ in {name}", got=f"{len(raw)} equal rows", fix=fix)
    check_unit(centered, name)
    return np.asarray(centered, dtype=np.float64)


def check_unit(centered: Matrix, name: str) -> None:
    """Raise `InputError` where the largest number is so small or large that its powers are lost."""
    largest = float(np.abs(centered).max())
    if not SMALLEST <= largest <= LARGEST:
        fix = "another unit"
        raise InputError(f"{name} of a size in [{SMALLEST}, {LARGEST}]", got=f"{largest:.1e}", fix=fix)


def eigenvalues(rows: Matrix) -> Matrix:
    """Eigenvalues of the rows' mean outer product, descending, min(rows, columns) of them, none negative."""
    gram = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
    found = np.linalg.eigvalsh(gram / len(rows))[::-1]
    return np.asarray(np.maximum(found, 0), dtype=np.float64)


def participation(values: Matrix) -> float:
    """Squared sum over sum of squares: how many entries carry the total."""
    scaled = values / values.max()
    return float(scaled.sum() ** 2 / np.square(scaled).sum())


def coordinates(rows: Matrix) -> Matrix:
    """Rows in an orthonormal basis of their span: all distances and inner products, fewest columns."""
    left, sizes, _ = np.linalg.svd(rows, full_matrices=False)
    kept = sizes > DUST * sizes[0]
    return np.asarray(left[:, kept] * sizes[kept], dtype=np.float64)
