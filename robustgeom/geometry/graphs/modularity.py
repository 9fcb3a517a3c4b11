"""How much denser a partition's communities are than chance would make them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from robustgeom.errors import InputError
from robustgeom.geometry.graphs._door import Matrix, as_graph, as_partition

__all__ = ["excess", "modularity"]


def modularity(weights: ArrayLike, labels: ArrayLike, *, resolution: float = 1.0) -> float:
    """Return Newman's modularity of a partition, without unit, at most 1 and 0 for chance.

    weights: (n, n); labels: the community of each node (n,). The share of all weight that lies within communities, less
    `resolution` times what nodes of their strengths would have there if edges fell at random (Newman 2006). Raises
    `InputError` where there is no edge.

    >>> pair = np.array([[0, 1, 0, 0.0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
    >>> modularity(pair, [0, 0, 1, 1])
    0.5
    """
    w = as_graph(weights)
    own = as_partition(labels, len(w))
    same = own[:, None] == own
    return float(excess(w, resolution)[same].sum())


def excess(weights: Matrix, resolution: float) -> Matrix:
    """Return each pair's share of the weight, less what chance gives it; raises `InputError` where there is no edge.

    >>> excess(np.array([[0.0, 1.0], [1.0, 0.0]]), 1.0)
    array([[-0.25,  0.25],
           [ 0.25, -0.25]])
    """
    strength = weights.sum(axis=0)
    total = strength.sum()
    if total <= 0:
        raise InputError("a graph with an edge", got="none", fix="a higher density")
    found: Matrix = weights / total - resolution * np.outer(strength, strength) / total**2
    return found
