"""The door of the package: whatever holds numbers becomes a checked float64 array."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from robustgeom.errors import InputError

__all__ = ["DUST", "REACH", "Matrix", "MatrixLike", "as_matrix", "check_margin", "device_of", "same_width"]

DUST = 1e-12  # relative size of what only rounding leaves over
REACH = 1e6  # in norms of the centre; beyond it rounding spoils the solution

Matrix = NDArray[np.float64]
MatrixLike = NDArray[np.floating] | NDArray[np.integer] | torch.Tensor


def as_matrix(value: MatrixLike, name: str) -> Matrix:
    """Return `value` as a (rows, columns) float64 array; raises `InputError` unless 2-D and finite."""
    raw = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
    try:
        array = np.asarray(raw, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"numbers in {name}", got=str(error), fix="a float array or tensor") from error
    if array.ndim != 2 or len(array) == 0:
        fix = "one row per point, one column per feature"
        raise InputError(f"{name} of shape (rows, columns) with a row", got=f"shape {array.shape}", fix=fix)
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise InputError(
            f"finite numbers in {name}", got=f"{bad} NaN or infinite", fix="finding where they arise"
        )
    return array


def check_margin(kappa: float) -> None:
    """Raise `InputError` where the margin is negative or not a number."""
    if not (np.isfinite(kappa) and kappa >= 0):
        raise InputError("a margin kappa >= 0", got=str(kappa), fix="kappa=0.0")


def same_width(manifolds: Sequence[MatrixLike]) -> list[Matrix]:
    """Return manifolds as float64 arrays; raises `InputError` unless there are two or more of equal width >= 1."""
    arrays = [as_matrix(m, f"manifold {i}") for i, m in enumerate(manifolds)]
    if len(arrays) < 2:
        raise InputError("2 manifolds or more", got=str(len(arrays)), fix="one array per class or exemplar")
    widths = sorted({a.shape[1] for a in arrays})
    if len(widths) > 1 or widths[0] == 0:
        fix = "the same stage for all manifolds"
        raise InputError("equally many features, 1 or more, in all manifolds", got=f"{widths}", fix=fix)
    return arrays


def device_of(value: MatrixLike) -> torch.device:
    """Return the device that a tensor is on; an array's is the CPU."""
    return value.device if isinstance(value, torch.Tensor) else torch.device("cpu")
