"""Where gradient descent takes a gated linear network in infinite time: convex programs (needs cvxpy)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustgeom.errors import InputError, unknown

__all__ = ["NORMS", "InfiniteTimeLimit", "gln_norm", "infinite_time_limit", "normalised_margin"]

Array = NDArray[np.float64]
NORMS = ("gln", "l2", "shallow")


@dataclass(frozen=True)
class InfiniteTimeLimit:
    """The least-norm weights that put every sample on the right side by 1.

    `weights` (units, contexts, features) are the products of a unit's read-out weight and its context's weights;
    `objective` is the norm that was minimised, `norm` which one. `accurate` says whether the solver met its tolerance.
    """

    weights: Array
    objective: float
    norm: str
    accurate: bool = True

    def decision(self, contexts: ArrayLike, inputs: ArrayLike) -> Array:
        """Return f (n,) of inputs (n, features) in contexts (n, units)."""
        c, x = np.asarray(contexts, dtype=np.int64), np.asarray(inputs, dtype=np.float64)
        chosen = self.weights[np.arange(self.weights.shape[0]), c]
        found: Array = np.einsum("nuf,nf->n", chosen, x)
        return found


def infinite_time_limit(
    contexts: ArrayLike,
    inputs: ArrayLike,
    signs: ArrayLike,
    *,
    norm: str = "gln",
    count: int | None = None,
    closed: bool = False,
) -> InfiniteTimeLimit:
    """Return the weights that gradient descent on an exponential-tailed loss tends to, in direction (arXiv:2202.02649).

    contexts: (n, units) of whole numbers; inputs: (n, features) with whatever constant the network appends; signs: (n,)
    of +1 and -1; count: how many contexts a unit has (default: the largest seen, plus one). norm "gln" is that of a
    two-layer network, sum over units of the root of the summed squares of all its contexts' weights; "l2" the squared
    l2 norm of the effective weights, summed over all combinations of contexts, which only weight tying distinguishes
    from independent machines; "shallow", for one unit, the sum of squares: a support vector machine a context. With
    `closed`, units pass nothing in context 0, as those of a ReLU network with frozen gates: its weights are zeros.
    Raises `InputError` on shapes that do not fit, on samples that no such network separates, and where cvxpy is
    missing.

    >>> X = np.array([[1.0, 2.0], [1.0, -2.0], [1.0, 3.0]])
    >>> found = infinite_time_limit([[0], [0], [1]], X, [1, -1, 1], norm="shallow")
    >>> round(found.objective, 6), np.round(found.weights[0], 6).tolist()
    (0.35, [[-0.0, 0.5], [0.1, 0.3]])
    """
    c, x, y = _checked(contexts, inputs, signs, norm)
    C = int(c.max()) + 1 if count is None else count
    if not isinstance(C, int) or c.max() >= C:
        raise InputError(f"more contexts than {c.max()}", got=f"count={count}", fix=f"count={c.max() + 1}")
    if closed and (C < 2 or norm != "gln"):
        got = f"closed=True, {C} contexts, norm={norm!r}"
        raise InputError('two contexts or more and norm "gln"', got=got, fix="closed=False")
    basis = np.linalg.svd(x, full_matrices=False)[2]  # weights beyond what samples span only add norm
    reduced = x @ basis.T
    cp = _cvxpy()
    open_ = np.eye(C)[:, int(closed) :]
    zeta = [cp.Variable((open_.shape[1], reduced.shape[1])) for _ in range(c.shape[1])]
    f = sum(cp.sum(cp.multiply(reduced, open_[c[:, h]] @ zeta[h]), axis=1) for h in range(c.shape[1]))
    problem = cp.Problem(cp.Minimize(_objective(cp, zeta, C, norm)), [cp.multiply(y, f) >= 1])
    try:
        problem.solve(solver=cp.CLARABEL)
    except cp.SolverError as error:
        raise InputError("a program that can be solved", got=str(error), fix="other samples") from error
    if problem.status not in ("optimal", "optimal_inaccurate"):
        got = f"a program that is {problem.status}"
        raise InputError("samples that the network can separate", got=got, fix="more units or contexts")
    weights = np.stack([open_ @ np.asarray(z.value) for z in zeta]) @ basis
    # What all combinations repeat is left out of the program: it is beyond what a solver can scale.
    repeats = float(C) ** (c.shape[1] - 2) if norm == "l2" else 1.0
    return InfiniteTimeLimit(weights, repeats * float(problem.value), norm, problem.status == "optimal")


def gln_norm(weights: ArrayLike) -> float:
    """Return the sum over units of the root of the summed squares of weights (units, contexts, features).

    >>> gln_norm([[[3.0, 0.0], [0.0, 4.0]], [[1.0, 0.0], [0.0, 0.0]]])
    6.0
    """
    return float(np.sqrt(np.square(np.asarray(weights, dtype=np.float64)).sum(axis=(1, 2))).sum())


def normalised_margin(weights: ArrayLike, contexts: ArrayLike, inputs: ArrayLike, signs: ArrayLike) -> float:
    """Return the least y f over the norm `gln_norm` of the weights: at most 1 over the limit's objective.

    >>> normalised_margin([[[1.0]]], [[0]], [[2.0]], [1])
    2.0
    """
    array = np.asarray(weights, dtype=np.float64)
    f = InfiniteTimeLimit(array, 0.0, "gln").decision(contexts, inputs)
    return float((np.asarray(signs) * f).min()) / gln_norm(array)


def _objective(cp: Any, zeta: list[Any], contexts: int, norm: str) -> Any:
    if norm == "gln":
        return sum(cp.norm(z, "fro") for z in zeta)
    if norm == "shallow":
        return cp.sum_squares(zeta[0])
    # Of all contexts**units combinations: what units do by themselves, and what they do together.
    sums = [cp.sum(z, axis=0) for z in zeta]
    alone = sum(
        cp.sum_squares(z - np.full((contexts, 1), 1 / contexts) @ cp.reshape(s, (1, z.shape[1]), order="C"))
        for z, s in zip(zeta, sums, strict=True)
    )
    return contexts * alone + cp.sum_squares(sum(sums))


def _checked(
    contexts: ArrayLike, inputs: ArrayLike, signs: ArrayLike, norm: str
) -> tuple[NDArray[np.int64], Array, Array]:
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    try:
        c, x, y = (np.asarray(v, dtype=np.float64) for v in (contexts, inputs, signs))
    except (TypeError, ValueError) as error:
        raise InputError("numbers", got=str(error), fix="arrays of one row a sample") from error
    if c.ndim != 2 or x.ndim != 2 or y.shape != (len(x),) or len(c) != len(x) or 0 in (*c.shape, *x.shape):
        got = f"{c.shape}, {x.shape} and {y.shape}"
        raise InputError(
            "contexts (n, units), inputs (n, features), signs (n,)", got=got, fix="one row a sample"
        )
    if (
        not (np.isfinite(x).all() and np.isfinite(c).all())
        or not set(y.tolist()) <= {1.0, -1.0}
        or (c < 0).any()
        or (c % 1 != 0).any()
    ):
        raise InputError(
            "finite inputs, signs of +1 and -1, contexts from 0", got="others", fix="signs = 2 * label - 1"
        )
    if norm == "shallow" and c.shape[1] != 1:
        raise InputError("one unit for a shallow network", got=str(c.shape[1]), fix='norm="gln"')
    return c.astype(np.int64), x, y


def _cvxpy() -> Any:
    try:
        import cvxpy  # a second, and an extra
    except ImportError as error:
        raise InputError("cvxpy", got="none installed", fix="pip install 'robustgeom[convex]'") from error
    return cvxpy
