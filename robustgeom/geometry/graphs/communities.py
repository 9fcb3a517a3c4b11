"""Communities of a graph, by the Louvain method, on matrices: quick for the dense graphs that correlations are."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike

from robustgeom.geometry._random import draw_order, seeded
from robustgeom.geometry.graphs._door import Labels, Matrix, as_graph, as_partition
from robustgeom.geometry.graphs.modularity import excess

__all__ = ["communities"]

_GAIN = 1e-12  # of modularity: what rounding makes


def communities(
    weights: ArrayLike, *, resolution: float = 1.0, generator: torch.Generator | None = None
) -> Labels:
    """Return the community of each node (n,), 0, 1, 2, ..., of a partition.

    weights: (n, n). Nodes move, in random order, to the neighbouring community that raises modularity most, until none
    does; then communities move likewise, and nodes again, until nothing does (Blondel et al. 2008): no move of a node
    to another of the communities raises modularity. The order is drawn from `generator` (default: a fresh one seeded
    with 0). Raises `InputError` where there is no edge.

    >>> pair = np.array([[0, 1, 0, 0.0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
    >>> communities(pair).tolist()
    [0, 0, 1, 1]
    """
    gains, source = excess(as_graph(weights), resolution), seeded(generator)
    own = np.arange(len(gains))
    while True:
        own = _settled(gains, own, source)
        joined = _settled(_summed(_summed(gains, own).T, own), np.arange(own.max() + 1), source)
        if joined.max() == own.max():
            return _by_first(own)
        own = joined[own]


def _summed(rows: Matrix, own: Labels) -> Matrix:
    """Return the sum of each community's rows, (n, m) to (communities, m); products of one-hot matrices take longer."""
    order = np.argsort(own, kind="stable")
    found: Matrix = np.add.reduceat(
        rows[order], np.searchsorted(own[order], np.arange(own.max() + 1)), axis=0
    )
    return found


def _settled(gains: Matrix, start: Labels, source: torch.Generator) -> Labels:
    """Return communities, from a start, that no node leaves for another; gains (n, n) of sharing one."""
    own, moving = start.copy(), True
    others = gains - np.diag(gains.diagonal())  # what a node is worth to itself goes with it
    while moving:
        own = as_partition(own, len(own))
        moving = _sweep(others, own, source)
    return as_partition(own, len(own))


def _sweep(gains: Matrix, own: Labels, source: torch.Generator) -> bool:
    """Let every node move once; changes `own`, whose numbers are 0, 1, 2, ..., and returns whether any did."""
    worth = _summed(gains, own)  # of each community to each node: (communities, n)
    crowd = np.bincount(own)
    moved = False
    for node in draw_order(len(own), source).tolist():
        here, gain = own[node], worth[:, node]
        best = int(gain.argmax())
        if best == here:
            continue
        if crowd[best] == 0:  # what is empty may be worth 0, and all others less
            best = int(np.where(crowd > 0, gain, -np.inf).argmax())
        if gain[best] > gain[here] + _GAIN:
            worth[here] -= gains[node]
            worth[best] += gains[node]
            crowd[here] -= 1
            crowd[best] += 1
            own[node], moved = best, True
    return moved


def _by_first(labels: Labels) -> Labels:
    """Number communities by their first node."""
    _, first, place = np.unique(labels, return_index=True, return_inverse=True)
    found: Labels = np.argsort(np.argsort(first))[place.reshape(-1)].astype(np.int64)
    return found
