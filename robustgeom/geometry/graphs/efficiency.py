"""How near nodes are to each other along edges: over the graph, and among each node's neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse.csgraph import floyd_warshall

from robustgeom.geometry.graphs._door import Matrix, as_graph

__all__ = ["global_efficiency", "local_efficiency"]


def global_efficiency(weights: ArrayLike, *, weighted: bool = False) -> float:
    """Return the mean over pairs of one over the length of the shortest path, in [0, 1] where edges are at most 1.

    weights: (n, n). A path's length is its number of edges, or, `weighted`, the sum of one over their weights; where
    there is none a pair counts 0 (Latora and Marchiori 2001).

    >>> line = np.array([[0, 1, 0.0], [1, 0, 1], [0, 1, 0]])
    >>> round(global_efficiency(line), 6)
    0.833333
    """
    w = as_graph(weights)
    n = len(w)
    return float(_nearness(w).sum() if not weighted else _by_weight(w).sum()) / (n * (n - 1))


def local_efficiency(weights: ArrayLike) -> float:
    """Return the mean over nodes of the global efficiency among their neighbours, in [0, 1]; edges count, not weights.

    weights: (n, n). A node of fewer than two neighbours counts 0.

    >>> local_efficiency(1 - np.eye(4))
    1.0
    """
    edges = as_graph(weights) > 0
    found = []
    for row in edges:
        near = np.flatnonzero(row)
        k = len(near)
        found.append(
            _nearness(edges[np.ix_(near, near)].astype(np.float64)).sum() / (k * (k - 1)) if k > 1 else 0.0
        )
    return float(np.mean(found))


def _nearness(weights: Matrix) -> Matrix:
    """Return one over the number of edges between all pairs, 0 where nothing leads from one to the other."""
    edges = (weights > 0).astype(np.float32)
    n, far = len(edges), 1
    found = np.zeros((n, n))
    reached = np.eye(n, dtype=bool)
    front = edges > 0
    while (new := front & ~reached).any():
        found[new] = 1 / far
        reached |= new
        if reached.all():
            break
        front = (new.astype(np.float32) @ edges) > 0
        far += 1
    return found


def _by_weight(weights: Matrix) -> Matrix:
    with np.errstate(divide="ignore"):
        length = np.where(weights > 0, 1 / weights, np.inf)
    far = floyd_warshall(length, directed=False)
    np.fill_diagonal(far, np.inf)
    found: Matrix = 1 / far
    return found
