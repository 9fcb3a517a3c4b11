"""How well one linear read-out tells which manifold a point is of, held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robustgeom.errors import InputError
from robustgeom.geometry._arrays import Matrix, MatrixLike, as_matrix

__all__ = ["LinearIdentification", "linear_identification"]

HELD_OUT = 6  # every sixth point


@dataclass(frozen=True)
class LinearIdentification:
    """Shares of held-out points assigned to their own manifold: of each manifold (P,), and of all together.

    `accuracy_se` is over manifolds. Chance is 1 / P.
    """

    each: Matrix
    accuracy: float
    accuracy_se: float


def linear_identification(manifolds: Sequence[MatrixLike], *, ridge: float = 1e-3) -> LinearIdentification:
    """Measure how many points a linear read-out assigns to the manifold that they are of.

    manifolds: P arrays or tensors (M_i, N). Every sixth point is held out, the read-out is fitted to the rest: ridge
    regression to one output a manifold with an intercept, its penalty `ridge` times the mean variance of a feature, in
    closed form. The largest output names the manifold. Where a manifold is the many versions of one image, this is
    the task of Ligeralde et al. 2023 (arXiv:2312.02791) that asks which image it was. Raises `InputError` on fewer than
    two manifolds, manifolds of fewer than six points or different widths, numbers that are not finite, and ridge <= 0.

    >>> rng = np.random.default_rng(0)
    >>> found = linear_identification([rng.normal(size=(12, 9)) + centre for centre in 9 * np.eye(9)[:3]])
    >>> found.accuracy
    1.0
    """
    points = [as_matrix(m, f"manifold {i}") for i, m in enumerate(manifolds)]
    if len(points) < 2 or min(map(len, points)) < HELD_OUT or len({p.shape[1] for p in points}) > 1:
        got = f"{len(points)} of {', '.join(str(p.shape) for p in points[:3])}"
        raise InputError("two manifolds or more, of six points or more, as wide", got=got, fix="more points")
    if not ridge > 0:
        raise InputError("ridge > 0", got=f"{ridge:g}", fix="ridge=1e-3")
    x, labels = np.concatenate(points), np.repeat(np.arange(len(points)), [len(p) for p in points])
    held = np.concatenate([np.arange(len(p)) % HELD_OUT == HELD_OUT - 1 for p in points])
    said = _outputs(x[~held], np.eye(len(points))[labels[~held]], x[held], ridge).argmax(1)
    right = said == labels[held]
    each = np.array([right[labels[held] == i].mean() for i in range(len(points))])
    return LinearIdentification(each, float(right.mean()), float(each.std(ddof=1) / len(each) ** 0.5))


def _outputs(x: Matrix, targets: Matrix, asked: Matrix, ridge: float) -> Matrix:
    """Return what ridge regression from x (n, N) to targets (n, P) says of other points (m, N)."""
    mean, offset = x.mean(0), targets.mean(0)
    centred = x - mean
    penalty = ridge * max(float(centred.var(axis=0).mean()), np.finfo(np.float64).tiny) * len(x)
    # Over points, not features: the same answer, and stages may be wider than there are points.
    dual = np.linalg.solve(centred @ centred.T + penalty * np.eye(len(x)), targets - offset)
    found: Matrix = (asked - mean) @ (centred.T @ dual) + offset
    return found
