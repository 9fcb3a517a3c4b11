"""How near nodes are to each other along edges: over the graph, and among each node's neighbours."""

from __future__ import annotations

import numpy as np
import scipy
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from robustgeom.geometry.graphs._door import Matrix, as_graph

__all__ = ["global_efficiency", "local_efficiency"]

_AT_ONCE = 50  # neighbourhoods: one product of matrices for all is quicker than many small ones


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
    if weighted:
        return float(_by_weight(w).sum()) / (n * (n - 1))
    edges = torch.from_numpy(w > 0)[None]
    return float(_nearness(edges, torch.ones(1, n, dtype=torch.bool))) / (n * (n - 1))


def local_efficiency(weights: ArrayLike) -> float:
    """Return the mean over nodes of the global efficiency among their neighbours, in [0, 1]; edges count, not weights.

    weights: (n, n). A node of fewer than two neighbours counts 0.

    >>> local_efficiency(1 - np.eye(4))
    1.0
    """
    edges = torch.from_numpy(as_graph(weights) > 0)
    degree = edges.sum(0)
    found = torch.zeros(len(edges), dtype=torch.float64)
    for nodes in torch.split(degree.argsort(), _AT_ONCE):  # of about as many neighbours: little is filled up
        k = int(degree[nodes].max())
        if k > 1:
            near = edges[nodes].double().topk(k).indices
            real = torch.gather(edges[nodes], 1, near)
            inside = edges[near[:, :, None], near[:, None]] & real[:, :, None] & real[:, None]
            pairs = degree[nodes] * (degree[nodes] - 1)
            found[nodes] = _nearness(inside, real) / pairs.clamp(min=1)
    return float(found.mean())


def _nearness(edges: Tensor, real: Tensor) -> Tensor:
    """Return the sum over ordered pairs of one over the number of edges between them, 0 where nothing leads: (b,).

    edges: b graphs (b, k, k), symmetric booleans; real: (b, k), False for nodes that only fill up.
    """
    step = (edges | torch.diag_embed(real)).float()
    alone, count, far = real.sum(1), step.sum((1, 2)), 1
    total = (count - alone).double()
    reached = step
    while True:
        reached = (torch.bmm(reached, step) > 0).float()
        more = reached.sum((1, 2))
        if torch.equal(more, count):
            return total
        far += 1
        total += (more - count).double() / far
        count = more


def _by_weight(weights: Matrix) -> Matrix:
    with np.errstate(divide="ignore"):
        length = np.where(weights > 0, 1 / weights, np.inf)
    far = scipy.sparse.csgraph.floyd_warshall(length, directed=False)
    np.fill_diagonal(far, np.inf)
    found: Matrix = 1 / far
    return found
