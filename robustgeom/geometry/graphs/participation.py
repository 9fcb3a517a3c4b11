"""How evenly a node's edges go to all communities."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from robustgeom.geometry.graphs._door import Matrix, as_graph, as_partition

__all__ = ["participation"]


def participation(weights: ArrayLike, labels: ArrayLike) -> Matrix:
    """Return each node's participation coefficient (n,), in [0, 1): 0 where all its edges lead to one community.

    weights: (n, n); labels: the community of each node (n,). One minus the sum of squared shares of its strength that
    go to each community (Guimera and Amaral 2005); a node without an edge has 0.

    >>> pair = np.array([[0, 1, 1.0, 0], [1, 0, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0]])
    >>> participation(pair, [0, 0, 1, 1]).tolist()
    [0.5, 0.0, 0.5, 0.0]
    """
    w = as_graph(weights)
    own = as_partition(labels, len(w))
    to = w @ np.eye(int(own.max()) + 1)[own]
    strength = w.sum(axis=0)
    shares = np.divide(to, strength[:, None], out=np.zeros_like(to), where=strength[:, None] > 0)
    found: Matrix = np.where(strength > 0, 1 - np.square(shares).sum(axis=1), 0.0)
    return found
