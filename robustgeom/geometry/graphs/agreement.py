"""How far two partitions of the same nodes agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from robustgeom.errors import InputError
from robustgeom.geometry.graphs._door import Labels, Matrix, as_partition

__all__ = ["mutual_information", "variation_of_information"]


def mutual_information(first: ArrayLike, second: ArrayLike) -> float:
    """Return the mutual information of two partitions over the mean of their entropies, in [0, 1]; 1 where they agree.

    first, second: the community of each node (n,). 1 as well where both have but one community.

    >>> mutual_information([0, 0, 1, 1], [1, 1, 0, 0])
    1.0
    """
    one, other, both = _entropies(first, second)
    return min(max((one + other - both) / ((one + other) / 2), 0.0), 1.0) if one + other > 0 else 1.0


def variation_of_information(first: ArrayLike, second: ArrayLike) -> float:
    """Return what two partitions do not share of their entropies, in nats: 0 where they agree (Meila 2007).

    first, second: the community of each node (n,).

    >>> round(variation_of_information([0, 0, 1, 1], [0, 1, 0, 1]), 6)
    1.386294
    """
    one, other, both = _entropies(first, second)
    return float(max(2 * both - one - other, 0.0))


def _entropies(first: ArrayLike, second: ArrayLike) -> tuple[float, float, float]:
    n = np.size(first)
    if n < 1:
        raise InputError("partitions of one node or more", got="none", fix="communities(weights)")
    a, b = as_partition(first, n), as_partition(second, n)
    joint = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(joint, (a, b), 1 / n)
    return _entropy(joint.sum(axis=1)), _entropy(joint.sum(axis=0)), _entropy(joint.ravel())


def _entropy(shares: Matrix | Labels) -> float:
    some = shares[shares > 0]
    return float(-(some * np.log(some)).sum())
