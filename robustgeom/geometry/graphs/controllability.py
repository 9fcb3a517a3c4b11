"""How far inputs to single nodes move a linear system along the graph's edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from robustgeom.geometry.graphs._door import Matrix, as_graph

__all__ = ["average_controllability"]


def average_controllability(weights: ArrayLike) -> Matrix:
    """Return each node's average controllability (n,), 1 or more.

    weights: (n, n). The trace of the controllability Gramian of x(t + 1) = A x(t) + u(t) at that node, with A the
    weights over one plus their spectral norm, which makes it stable (Gu et al. 2015). For symmetric weights that is the
    diagonal of the inverse of 1 - A^2.

    >>> average_controllability(np.array([[0, 1.0], [1, 0]])).round(6).tolist()
    [1.333333, 1.333333]
    """
    w = as_graph(weights)
    rates, modes = np.linalg.eigh(w / (1 + np.linalg.norm(w, 2)))
    found: Matrix = np.square(modes) @ (1 / (1 - np.square(rates)))
    return found
