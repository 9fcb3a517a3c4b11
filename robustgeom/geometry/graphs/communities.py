"""Communities of a graph, by the Louvain method, on matrices: quick for the dense graphs that correlations are."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike

from robustgeom.geometry._random import draw_order, seeded
from robustgeom.geometry.graphs._door import Labels, Matrix, as_graph
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
        members = np.eye(int(own.max()) + 1)[own]
        joined = _settled(members.T @ gains @ members, np.arange(members.shape[1]), source)
        if joined.max() == own.max():
            return _by_first(own)
        own = joined[own]


def _settled(gains: Matrix, start: Labels, source: torch.Generator) -> Labels:
    """Return communities, from a start, that no node leaves for another; gains (n, n) of sharing one."""
    own = start.copy()
    members = np.eye(int(own.max()) + 1)[own]
    towards = gains @ members  # what a node gains by each community: (n, communities)
    crowd = members.sum(axis=0)
    moving = True
    while moving:
        moving = False
        for node in draw_order(len(own), source):
            here = own[node]
            gain = np.where(crowd > 0, towards[node], -np.inf)
            gain[here] -= gains[node, node]  # of leaving oneself nothing is lost
            best = int(gain.argmax())
            if best != here and gain[best] > gain[here] + _GAIN:
                towards[:, here] -= gains[:, node]
                towards[:, best] += gains[:, node]
                crowd[here] -= 1
                crowd[best] += 1
                own[node], moving = best, True
    found: Labels = np.unique(own, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return found


def _by_first(labels: Labels) -> Labels:
    """Number communities by their first node."""
    _, first, place = np.unique(labels, return_index=True, return_inverse=True)
    found: Labels = np.argsort(np.argsort(first))[place.reshape(-1)].astype(np.int64)
    return found
