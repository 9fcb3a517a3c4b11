"""The strongest edges of a graph, as many as a density asks for."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from robustgeom.errors import InputError
from robustgeom.geometry.graphs._door import Matrix, as_graph

__all__ = ["at_density"]


def at_density(weights: ArrayLike, density: float) -> Matrix:
    """Return the graph of the strongest edges alone, each of weight 1: that share of all pairs, rounded, one at least.

    weights: (n, n). Edges of weight 0 are none, however few that leaves; of equal weights the first pair is kept.
    Raises `InputError` unless 0 < density <= 1.

    >>> w = np.array([[0, 3, 1.0], [3, 0, 2], [1, 2, 0]])
    >>> at_density(w, 0.5)
    array([[0., 1., 0.],
           [1., 0., 1.],
           [0., 1., 0.]])
    """
    w = as_graph(weights)
    if not 0 < density <= 1:
        raise InputError("0 < density <= 1", got=f"{density:g}", fix="density=0.15")
    rows, columns = np.triu_indices(len(w), 1)
    strength = w[rows, columns]
    count = max(round(density * len(rows)), 1)
    best = np.argsort(-strength, kind="stable")[:count]
    best = best[strength[best] > 0]
    kept = np.zeros_like(w)
    kept[rows[best], columns[best]] = kept[columns[best], rows[best]] = 1.0
    return kept
