"""How often a node's neighbours are neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from robustgeom.geometry.graphs._door import Matrix, as_graph

__all__ = ["clustering"]


def clustering(weights: ArrayLike) -> Matrix:
    """Return each node's clustering coefficient (n,), in [0, 1].

    weights: (n, n). The sum over pairs of neighbours of the geometric mean of the triangle's three weights, in units of
    the graph's largest weight, over the number of pairs (Onnela et al. 2005); with weights of 0 and 1, the share of
    pairs of neighbours that are neighbours. A node of fewer than two neighbours has 0.

    >>> clustering(np.array([[0, 1, 1.0, 1], [1, 0, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]])).round(4).tolist()
    [0.3333, 1.0, 1.0, 0.0]
    """
    w = as_graph(weights)
    degree = np.count_nonzero(w, axis=0)
    roots = np.cbrt(w / w.max()) if w.any() else w
    triangles = np.einsum("ij,ji->i", roots @ roots, roots)
    pairs = degree * (degree - 1)
    found: Matrix = np.divide(triangles, pairs, out=np.zeros(len(w)), where=pairs > 0)
    return found
