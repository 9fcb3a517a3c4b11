"""Whether nodes of many edges are joined to each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from robustgeom.geometry.graphs._door import Matrix, as_graph

__all__ = ["rich_club"]


def rich_club(weights: ArrayLike) -> Matrix:
    """Return, for k = 0, 1, 2, ..., the share of pairs of nodes with more than k edges that are joined, in [0, 1].

    weights: (n, n), of which edges count, not weights. It ends where fewer than two nodes are left (Colizza et al.
    2006). What it says is how much more than in rewired graphs, whose nodes have as many edges.

    >>> star = np.array([[0, 1, 1.0, 1], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
    >>> rich_club(star).tolist()
    [0.5]
    """
    edges = as_graph(weights) > 0
    degree = edges.sum(axis=0)
    rows, columns = np.nonzero(np.triu(edges, 1))
    weaker = np.minimum(degree[rows], degree[columns])
    found = []
    for k in range(int(degree.max()) + 1):
        nodes = int((degree > k).sum())
        if nodes < 2:
            break
        found.append(2 * int((weaker > k).sum()) / (nodes * (nodes - 1)))
    return np.array(found)
