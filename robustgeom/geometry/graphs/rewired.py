"""What chance makes of a graph whose nodes keep their numbers of edges, and whose edges keep their weights."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from robustgeom.errors import InputError
from robustgeom.geometry._random import draw_order, seeded
from robustgeom.geometry.graphs._door import Labels, Matrix, as_graph

__all__ = ["rewired"]

_ROUNDS = 30  # in each of which every edge is offered one swap


def rewired(weights: ArrayLike, *, generator: torch.Generator | None = None, rounds: int = _ROUNDS) -> Matrix:
    """Return a random graph (n, n) with as many edges at each node, and the same weights on other edges.

    weights: (n, n). Pairs of edges swap ends wherever that makes no edge twice and none from a node to itself (Maslov
    and Sneppen 2002); then the weights are dealt out anew. Each of `rounds` offers every edge one swap. Drawn from
    `generator` (default: a fresh one seeded with 0). Raises `InputError` on rounds < 1.

    >>> ring = np.roll(np.eye(8), 1, 0) + np.roll(np.eye(8), -1, 0)
    >>> rewired(ring).sum(0).tolist()
    [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    """
    w = as_graph(weights)
    if rounds < 1:
        raise InputError("rounds >= 1", got=str(rounds), fix="rounds=30")
    source = seeded(generator)
    ends = np.argwhere(np.triu(w) > 0)
    dealt = w[ends[:, 0], ends[:, 1]]
    joined = w > 0
    for _ in range(rounds):
        _swap(ends, joined, source)
    found = np.zeros_like(w)
    dealt = dealt[draw_order(len(dealt), source)]
    found[ends[:, 0], ends[:, 1]] = found[ends[:, 1], ends[:, 0]] = dealt
    return found


def _swap(ends: Labels, joined: NDArray[np.bool_], source: torch.Generator) -> None:
    """Offer every edge, in random pairs, to swap an end with its partner; changes both arrays."""
    half = len(ends) // 2
    order = draw_order(len(ends), source)
    first, second = order[:half], order[half : 2 * half]
    turned = draw_order(2 * half, source)[:half] < half  # which end of the second edge is swapped
    a, b = ends[first].T
    c, d = np.where(turned[:, None], ends[second][:, ::-1], ends[second]).T
    # A swap is left out where an edge of it, old or new, is one of another's: so, and only so, every round is as likely
    # backwards, and all graphs are reached alike.
    n = len(joined)
    keys = [np.minimum(u, v) * n + np.maximum(u, v) for u, v in ((a, b), (c, d), (a, d), (c, b))]
    alone = (np.bincount(np.concatenate(keys), minlength=n * n)[np.stack(keys)] == 1).all(axis=0)
    fits = (a != d) & (c != b) & ~joined[a, d] & ~joined[c, b] & alone
    a, b, c, d = (v[fits] for v in (a, b, c, d))
    for u, v, there in ((a, b, False), (c, d, False), (a, d, True), (c, b, True)):
        joined[u, v] = joined[v, u] = there
    ends[first[fits]], ends[second[fits]] = np.stack([a, d], 1), np.stack([c, b], 1)
