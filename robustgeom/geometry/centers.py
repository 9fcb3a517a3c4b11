"""The low-rank structure that manifold centres share, which the mean-field theory asks to project out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy

from robustgeom.errors import InputError
from robustgeom.geometry._arrays import DUST, Matrix, MatrixLike, as_matrix

__all__ = ["CenterBasis", "center_basis", "center_statistics", "correlation_cost"]

FEWEST = 7  # with fewer manifolds every direction removed empties the residuals
ENERGY, SPARE = 0.95, 10  # as many directions as hold this share of energy, and so many more, are tried
PATIENCE, EARLIEST = 3, 5  # stop once the correlation rose so often in a row, at this many directions or more
HEALTHY = 0.02  # a basis that leaves less of some centre describes that manifold, not what all share
FIRST, TO_THE_END = 60, 300  # iterations to tell which k and start is best, and to end there
LOWER = 1e-6  # relative gain that makes a later start better than an earlier one


@dataclass(frozen=True)
class CenterBasis:
    """Directions shared by the centres, `basis` (features, k), and how well they explain the correlations.

    `correlation` is the mean absolute cosine between the centred centres, `residual_correlation` the same
    after projecting `basis` out, `residual_norm_ratio` the smallest share of a centre's norm that is left.
    """

    basis: Matrix
    k: int
    residual_correlation: float
    residual_norm_ratio: float
    correlation: float


def center_basis(centers: MatrixLike, *, starts: int = 4, seed: int = 0) -> CenterBasis:
    """Find the k directions whose removal leaves the centres least correlated; k may be 0.

    centers: (P, features), one row per manifold; their mean is removed first. For each k the sum of squared
    cosines is minimised from the top singular vectors, from the previous solution with one more, and from
    `starts` random ones drawn from `seed`. The lowest is kept unless it leaves less than 2 % of some centre.
    The same input always gives the same answer; below 7 centres it is k = 0.
    Raises `InputError` with fewer than 2 centres, or where a centre lies on the mean of all centres.
    Source: Cohen, Chung, Lee and Sompolinsky, "Separability and geometry of object manifolds" (2020).

    >>> rng = np.random.default_rng(0)
    >>> shared = 5 * rng.normal(size=(20, 1)) * rng.normal(size=50)
    >>> found = center_basis(shared + rng.normal(size=(20, 50)))
    >>> found.k > 0, found.residual_correlation < found.correlation / 2
    (True, True)
    """
    centered = _centered(centers)
    _, sizes, axes = np.linalg.svd(centered, full_matrices=False)
    axes = axes[sizes > DUST * sizes[0]]
    coordinates = centered @ axes.T
    best = center_statistics(centers, np.zeros((centered.shape[1], 0)))
    if len(centered) < FEWEST:
        return best
    for basis in _search(coordinates, starts, np.random.default_rng(seed)):
        found = _statistics(coordinates, basis)
        if found.residual_norm_ratio >= HEALTHY and found.residual_correlation < best.residual_correlation:
            best = found
    if best.k == 0:
        return best
    ended = _descend(coordinates, best.basis[None], steps=TO_THE_END)[0][1]
    if _statistics(coordinates, ended).residual_norm_ratio < HEALTHY:
        ended = best.basis
    return center_statistics(centers, axes.T @ ended)


def center_statistics(centers: MatrixLike, basis: MatrixLike) -> CenterBasis:
    """Describe the centres (P, features) before and after projecting out `basis` (features, k), orthonormal.

    Raises `InputError` with fewer than 2 centres, or where a centre lies on the mean of all centres.

    >>> found = center_statistics(np.vstack([np.eye(2), -np.eye(2)]), np.zeros((2, 0)))
    >>> round(found.correlation, 3), found.residual_norm_ratio
    (0.333, 1.0)
    """
    return _statistics(_centered(centers), np.asarray(basis, dtype=np.float64))


def correlation_cost(coordinates: Matrix, basis: Matrix) -> tuple[float, Matrix]:
    """Return half the sum of squared cosines between residual centres (diagonal included), and its gradient.

    coordinates: (P, r), one centred centre per row; basis: (r, k), orthonormal; the gradient has its shape.

    >>> cost, gradient = correlation_cost(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([[0.0], [1.0]]))
    >>> cost, gradient.shape
    (2.0, (2, 1))
    """
    costs, gradients = _costs(coordinates, basis[None])
    return float(costs[0]), gradients[0]


def _costs(coordinates: Matrix, bases: Matrix) -> tuple[Matrix, Matrix]:
    """Return the costs (s,) and gradients (s, r, k) of many bases (s, r, k) at once."""
    along = coordinates @ bases
    inner = coordinates @ coordinates.T - along @ along.transpose(0, 2, 1)
    floor = DUST * np.square(coordinates).sum(axis=1)
    norms = np.maximum(np.einsum("sii->si", inner), floor)
    scaled = inner / (norms[:, :, None] * norms[:, None, :])
    pull = np.sum(np.square(inner) / norms[:, None, :], axis=2) / np.square(norms)
    gradients = coordinates.T @ (2 * pull[:, :, None] * along - 2 * scaled @ along)
    return np.sum(inner * scaled, axis=(1, 2)) / 2, gradients


def _centered(centers: MatrixLike) -> Matrix:
    raw = as_matrix(centers, "centers")
    if len(raw) < 2:
        raise InputError("2 centres or more", got=str(len(raw)), fix="more manifolds")
    centered = raw - raw.mean(axis=0)
    norms = np.linalg.norm(centered, axis=1)
    if norms.min() <= DUST * np.linalg.norm(raw, axis=1).max():
        got = f"manifold {int(norms.argmin())} centred on it"
        raise InputError(
            "centres that differ from their common mean", got=got, fix="leaving that manifold out"
        )
    return np.asarray(centered, dtype=np.float64)


def _statistics(centered: Matrix, basis: Matrix) -> CenterBasis:
    residual = centered - centered @ basis @ basis.T
    ratio = np.linalg.norm(residual, axis=1) / np.linalg.norm(centered, axis=1)
    left = _mean_cosine(residual)
    return CenterBasis(basis, basis.shape[1], left, float(ratio.min()), _mean_cosine(centered))


def _mean_cosine(rows: Matrix) -> float:
    """Mean absolute cosine over pairs of different rows; a row of zeros has cosine 0 with every other."""
    norms = np.linalg.norm(rows, axis=1)
    cosines = np.abs(rows @ rows.T) / np.maximum(np.outer(norms, norms), np.finfo(float).tiny)
    np.fill_diagonal(cosines, 0)
    return float(cosines.sum()) / (len(rows) * (len(rows) - 1))


def _search(coordinates: Matrix, starts: int, rng: np.random.Generator) -> Iterator[Matrix]:
    """Yield the best basis (r, k) found for k = 1, 2, ..., until removing more has stopped to help."""
    rank = coordinates.shape[1]
    best, history = np.zeros((rank, 0)), []
    for k in range(1, min(_most(coordinates), rank - 1) + 1):
        best = _lowest(
            coordinates,
            _descend(coordinates, np.stack(list(_starts(coordinates, best, starts, rng))), steps=FIRST),
        )
        yield best
        history.append(_statistics(coordinates, best).residual_correlation)
        if k >= EARLIEST and bool(np.all(np.diff(history[-PATIENCE - 1 :]) > 0)):
            return


def _most(coordinates: Matrix) -> int:
    energy = np.square(np.linalg.svd(coordinates, compute_uv=False))
    share = np.cumsum(energy) / energy.sum()
    return max(int(np.sum(share < ENERGY)), 1) + SPARE


def _starts(coordinates: Matrix, previous: Matrix, count: int, rng: np.random.Generator) -> Iterator[Matrix]:
    k = previous.shape[1] + 1
    yield np.linalg.svd(coordinates)[2][:k].T
    residual = coordinates - coordinates @ previous @ previous.T
    extras = [np.linalg.svd(residual)[2][0]]
    extras += [rng.normal(size=len(coordinates)) @ coordinates for _ in range(count)]
    for extra in extras:
        yield np.linalg.qr(np.column_stack([previous, extra]))[0]


def _descend(coordinates: Matrix, starts: Matrix, *, steps: int) -> list[tuple[float, Matrix]]:
    """Minimise the cost from all starts (s, r, k) at once; every iterate is brought back by a QR retraction.

    The starts do not know of each other: their sum is least where each is.
    """

    def slope(flat: Matrix) -> tuple[float, Matrix]:
        bases, triangles = np.linalg.qr(flat.reshape(starts.shape))
        costs, gradients = _costs(coordinates, bases)
        # Only moves out of the subspace change the cost.
        across = gradients - bases @ (bases.transpose(0, 2, 1) @ gradients)
        turned = np.linalg.solve(triangles, across.transpose(0, 2, 1))
        return float(costs.sum()), turned.transpose(0, 2, 1).ravel()

    options = {"maxiter": steps, "ftol": 1e-10, "gtol": 1e-6}
    solution = scipy.optimize.minimize(slope, starts.ravel(), jac=True, method="L-BFGS-B", options=options)
    bases = np.linalg.qr(solution.x.reshape(starts.shape))[0]
    return list(zip(_costs(coordinates, bases)[0].tolist(), bases, strict=True))


def _lowest(coordinates: Matrix, found: Iterable[tuple[float, Matrix]]) -> Matrix:
    """The basis of lowest cost among those that leave something of every centre, else the lowest of all."""
    costs_and_bases = list(found)
    healthy = [f for f in costs_and_bases if _statistics(coordinates, f[1]).residual_norm_ratio >= HEALTHY]
    best_cost, best = (healthy or costs_and_bases)[0]
    for cost, basis in healthy or costs_and_bases:
        if cost < best_cost * (1 - LOWER):
            best_cost, best = cost, basis
    return best
