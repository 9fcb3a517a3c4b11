"""What every measure of a graph does first: refuse what is no graph, or no partition of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustgeom.errors import InputError
from robustgeom.geometry._arrays import Matrix

__all__ = ["Labels", "Matrix", "as_graph", "as_partition"]

Labels = NDArray[np.int64]


def as_graph(weights: ArrayLike) -> Matrix:
    """Return weights (n, n) as a float64 array.

    Raises `InputError` unless they are symmetric to the last digit, at least 0, finite, and 0 on the diagonal.
    """
    found = np.asarray(weights, dtype=np.float64)
    if found.ndim != 2 or found.shape[0] != found.shape[1] or len(found) < 2:
        raise InputError(
            "weights (n, n) between two nodes or more", got=f"shape {found.shape}", fix="a matrix"
        )
    if not np.isfinite(found).all() or (found < 0).any():
        raise InputError(
            "finite weights of 0 or more", got=f"{found.min():.3g} at least", fix="absolute values"
        )
    if (found != found.T).any():
        raise InputError("symmetric weights", got="others", fix="(w + w.T) / 2")
    if found.diagonal().any():
        raise InputError(
            "no edge from a node to itself", got="a diagonal above 0", fix="np.fill_diagonal(w, 0)"
        )
    return found


def as_partition(labels: ArrayLike, nodes: int) -> Labels:
    """Return the community of each node (n,) as 0, 1, 2, ...; raises `InputError` unless there is one a node."""
    found = np.asarray(labels)
    if found.shape != (nodes,):
        raise InputError(
            f"one community for each of {nodes} nodes", got=f"shape {found.shape}", fix="communities"
        )
    numbered: Labels = np.unique(found, return_inverse=True)[1].astype(np.int64).reshape(-1)
    return numbered
