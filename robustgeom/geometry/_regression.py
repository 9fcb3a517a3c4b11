"""What the predicted and the measured error of a ridge regression share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robustgeom.errors import InputError
from robustgeom.geometry._arrays import DUST, Matrix, MatrixLike, as_matrix
from robustgeom.geometry._spectra import check_unit

__all__ = ["check_ridge", "checked_sizes", "default_train_sizes", "paired", "principal_modes"]


def paired(X: MatrixLike, Y: MatrixLike, center: bool) -> tuple[Matrix, Matrix]:
    """Return both as arrays of equally many rows, centred on request; raises `InputError` otherwise."""
    arrays = as_matrix(X, "X"), as_matrix(Y, "Y")
    if len(arrays[0]) != len(arrays[1]):
        got = f"{len(arrays[0])} and {len(arrays[1])}"
        raise InputError("X and Y with equally many rows", got=got, fix="the same samples in both")
    inputs, targets = (a - a.mean(axis=0) if center else a for a in arrays)
    for name, raw, used in (("X", arrays[0], inputs), ("Y", arrays[1], targets)):
        if np.abs(used).max(initial=0) <= DUST * np.abs(raw).max(initial=0):
            raise InputError(
                f"rows that differ in {name}", got="constant ones", fix="another stage or target"
            )
    check_unit(inputs, "X")
    check_unit(targets, "Y")
    return inputs, targets


def checked_sizes(train_sizes: Sequence[int] | None, samples: int) -> NDArray[np.int64]:
    """Return the training sizes, or the default ones; raises `InputError` outside 1..samples-1."""
    if train_sizes is None:
        return default_train_sizes(samples)
    sizes = np.asarray(train_sizes)
    if sizes.ndim != 1 or sizes.dtype.kind not in "iu" or not len(sizes):
        raise InputError("a list of whole training sizes", got=str(train_sizes), fix="train_sizes=[20, 50]")
    if sizes.min() < 1 or sizes.max() >= samples:
        fix = f"fewer than {samples}"
        raise InputError(f"training sizes in [1, {samples - 1}]", got=str(sizes.tolist()), fix=fix)
    return sizes.astype(np.int64)


def default_train_sizes(samples: int) -> NDArray[np.int64]:
    """Return the training sizes of the source: 5 log-spaced in [5, P - 2] and the tenths of P = `samples`.

    Raises `InputError` with fewer than 10 samples. Source: Canatar et al. (2023).

    >>> default_train_sizes(100).tolist()
    [5, 10, 11, 20, 22, 30, 40, 47, 50, 60, 70, 80, 90, 98]
    """
    if samples < 10:
        raise InputError("10 samples or more", got=str(samples), fix="train_sizes=[...]")
    spaced = np.geomspace(5, samples - 2, 5)
    tenths = np.arange(1, 10) * samples / 10
    return np.unique(np.round(np.concatenate([spaced, tenths])).astype(np.int64))


def check_ridge(ridge: float) -> None:
    """Raise `InputError` unless the ridge is a positive number."""
    if not (np.isfinite(ridge) and ridge > 0):
        raise InputError("a ridge > 0", got=str(ridge), fix="ridge=1e-14")


def principal_modes(inputs: Matrix) -> tuple[Matrix, Matrix]:
    """Eigenvalues (r,) of X X^T / P above rounding, descending, and orthonormal modes (P, r)."""
    samples, features = inputs.shape
    wide = samples <= features
    gram = inputs @ inputs.T if wide else inputs.T @ inputs
    spectrum, axes = np.linalg.eigh(gram / samples)
    kept = np.flatnonzero(spectrum > DUST * spectrum[-1])[::-1]
    spectrum, axes = spectrum[kept], axes[:, kept]
    return spectrum, axes if wide else inputs @ axes / np.sqrt(samples * spectrum)
