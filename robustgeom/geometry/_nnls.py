"""Non-negative least squares for many targets on the same rays, every answer certified.

A few steps of the alternating direction method guess which rays carry weight, batches of exact solves settle it, and
what does not pass the optimality conditions is solved again one by one by an active-set method.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustgeom.errors import InternalError
from robustgeom.geometry._arrays import Matrix

__all__ = ["nonnegative_weights"]

OPTIMAL = 1e-10  # relative violation of the optimality conditions that rounding explains
_DIGIT = 4 * float(np.finfo(np.float64).eps)
_STEPS, _PENALTY, _RELAXED = 16, 1.0, 1.6
_EXCHANGES = 8
_PROGRESS = 1e-13
_NUMBERS = 1 << 21  # in one batch
_CROWD = 20  # rays a dimension beyond which hardly any carries weight, and single solves are quicker
_SPREAD = 4  # by how much the sizes of linear systems solved together may differ


def nonnegative_weights(rays: Tensor, targets: Tensor, signs: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the weights >= 0 of rays whose sum is nearest to each target, and those sums.

    rays: (m, d) of norm 1 or 0; targets: (n, d); signs: (n, m) of 1 and -1, by which target i sees the rays; all
    float64 on one device. Returns (n, m) and (n, d); the weights are those of signed rays.
    """
    weights = torch.zeros(len(targets), len(rays), dtype=rays.dtype, device=rays.device)
    sizes = targets.abs().amax(1, keepdim=True)
    aims = targets / torch.where(sizes > 0, sizes, 1.0)  # squares of small numbers would vanish
    if len(rays) <= _CROWD * rays.shape[1]:
        _in_batches(rays, aims, signs, weights)
    again = (~_optimal(rays, aims, weights, signs)).nonzero().squeeze(1)
    if len(again):
        part = None if signs is None else signs[again]
        weights[again] = _one_by_one(rays, aims[again], part)
    weights *= sizes
    return weights, _signed(weights, signs) @ rays


def _in_batches(rays: Tensor, targets: Tensor, signs: Tensor | None, weights: Tensor) -> None:
    """Fill in weights, of which some may be wrong."""
    gram = rays @ rays.T
    inverse = torch.linalg.inv(gram + _PENALTY * torch.eye(len(rays), dtype=rays.dtype, device=rays.device))
    for rows in torch.split(torch.arange(len(targets), device=rays.device), max(_NUMBERS // len(rays), 1)):
        seen = None if signs is None else signs[rows]
        along = _signed(targets[rows] @ rays.T, seen)
        weights[rows] = _settled(gram, along, _guess(inverse, along, seen), seen)


def _signed(values: Tensor, signs: Tensor | None) -> Tensor:
    return values if signs is None else values * signs


def _guess(inverse: Tensor, along: Tensor, signs: Tensor | None) -> Tensor:
    """Return which rays (n, m) carry weight after a few steps."""
    kept = torch.zeros_like(along)
    dual = torch.zeros_like(along)
    for _ in range(_STEPS):
        pulled = _signed(along + _PENALTY * (kept - dual), signs)
        moved = torch.lerp(kept, _signed(pulled @ inverse, signs), _RELAXED)
        kept = (moved + dual).clamp_min_(0)
        dual = dual + moved - kept
    return kept > 0


def _settled(gram: Tensor, along: Tensor, active: Tensor, signs: Tensor | None) -> Tensor:
    """Solve on the active rays, and exchange those that should not be among them, or should, until none is left."""
    weights, active = torch.zeros_like(along), active.clone()
    left = torch.arange(len(along), device=along.device)
    tolerance = OPTIMAL * along.abs().amax(1, keepdim=True)
    for _ in range(_EXCHANGES):
        seen = None if signs is None else signs[left]
        found = _solved(gram, along[left], active[left], seen)
        pull = along[left] - _signed(_signed(found, seen) @ gram, seen)
        wrong = torch.where(active[left], found < 0, pull > tolerance[left])
        wrong |= ~found.isfinite()
        ready = ~wrong.any(1)
        weights[left[ready]] = found[ready]
        active[left] ^= wrong
        left = left[~ready]
        if not len(left):
            break
    return weights


def _solved(gram: Tensor, along: Tensor, active: Tensor, signs: Tensor | None) -> Tensor:
    """Return the least-squares weights (n, m) on active rays, zero elsewhere, NaN where there are none."""
    count = active.sum(1)
    first = (~active).to(torch.uint8).argsort(dim=1, stable=True)  # active rays, then the others
    found = torch.zeros_like(along)
    order = count.argsort()
    sizes = count[order].tolist()
    start = 0
    while start < len(sizes):
        most = max(_NUMBERS // max(sizes[start] + _SPREAD, 1) ** 2, 1)
        stop = start + 1
        while stop < min(len(sizes), start + most) and sizes[stop] <= sizes[start] + _SPREAD:
            stop += 1
        rows, width = order[start:stop], sizes[stop - 1]
        start = stop
        if width:
            places = first[rows, :width]
            within = torch.arange(width, device=along.device) < count[rows, None]
            flip = None if signs is None else signs[rows].gather(1, places)
            solution = _small(gram, along[rows].gather(1, places), places, within, flip)
            found[rows] = found[rows].scatter(1, places, solution)
    return found


def _small(gram: Tensor, along: Tensor, places: Tensor, within: Tensor, signs: Tensor | None) -> Tensor:
    """Solve systems (b, k) of the rays in `places`, of which those `within` count; NaN where one is singular."""
    matrix = gram[places[:, :, None], places[:, None, :]]
    if signs is not None:
        matrix = matrix * (signs[:, :, None] * signs[:, None, :])
    matrix = torch.where(within[:, :, None] & within[:, None, :], matrix, 0.0)
    matrix.diagonal(dim1=1, dim2=2).add_((~within).to(matrix.dtype))
    factor, failed = torch.linalg.cholesky_ex(matrix)
    right = torch.where(within, along, 0.0)
    solution = torch.cholesky_solve(right[:, :, None], factor)[:, :, 0]
    return torch.where(failed[:, None] > 0, torch.where(within, torch.nan, 0.0), solution)


def _optimal(rays: Tensor, targets: Tensor, weights: Tensor, signs: Tensor | None) -> Tensor:
    """Return for which targets (n,) the residual is in the polar cone and at right angles to the sum.

    Where rays nearly cancel, weights are large, and their sum loses as many digits as they have.
    """
    sums = _signed(weights, signs) @ rays
    residual = targets - sums
    length = targets.norm(dim=1)
    rounding = OPTIMAL * length + _DIGIT * weights.abs().sum(1)
    polar: Tensor = _signed(residual @ rays.T, signs).amax(1) <= rounding
    upright: Tensor = (sums * residual).sum(1).abs() <= rounding * length
    return polar.logical_and(upright).logical_and((weights >= 0).all(1))


def _one_by_one(rays: Tensor, targets: Tensor, signs: Tensor | None) -> Tensor:
    rows = [_alone(rays, target, None if signs is None else signs[i]) for i, target in enumerate(targets)]
    return torch.stack(rows).to(rays.device)


def _alone(rays: Tensor, target: Tensor, signs: Tensor | None) -> Tensor:
    flipped = rays if signs is None else rays * signs[:, None]
    matrix, aim = flipped.cpu().numpy().T, target.cpu().numpy()
    for found in _attempts(matrix, aim):
        weights = torch.from_numpy(found)
        if bool(_optimal(flipped.cpu(), target.cpu()[None], weights[None], None)[0]):
            return weights
    raise InternalError("no anchor point of a probe passes its optimality conditions")


def _attempts(matrix: Matrix, aim: Matrix) -> Iterator[Matrix]:
    """Yield weights by an active-set method, those once more on the columns that it ends with, and by another."""
    weights = _by_active_set(matrix, aim)
    yield weights
    yield _refined(matrix, aim, weights > 0)
    yield _by_bounds(matrix, aim)


def _by_active_set(matrix: Matrix, aim: Matrix) -> Matrix:
    """Solve on all columns, or of a crowd on a few, with those added that the residual still leans on."""
    if matrix.shape[1] <= _CROWD * len(matrix):
        return _nnls(matrix, aim)
    weights, residual = np.zeros(matrix.shape[1]), aim
    tolerance = OPTIMAL / 10 * float(np.linalg.norm(aim))
    while True:
        pull = np.where(weights > 0, 0.0, matrix.T @ residual)
        new = np.argsort(-pull)[: 2 * len(matrix)]
        if not len(new := new[pull[new] > tolerance]):
            return weights
        chosen = np.union1d(new, np.flatnonzero(weights))
        solution = _nnls(matrix[:, chosen], aim)
        left = aim - matrix[:, chosen] @ solution
        if not left @ left < (1 - _PROGRESS) * (residual @ residual):
            return weights
        weights, residual = np.zeros(len(weights)), left
        weights[chosen] = solution


def _refined(matrix: Matrix, aim: Matrix, active: NDArray[np.bool_]) -> Matrix:
    """Solve on active columns, as the method that found them loses digits in its updates."""
    weights = np.zeros(len(active))
    if active.any():
        weights[active] = np.linalg.lstsq(matrix[:, active], aim, rcond=None)[0]
    return weights


def _nnls(matrix: Matrix, aim: Matrix) -> Matrix:
    try:
        return np.asarray(scipy.optimize.nnls(matrix, aim)[0], dtype=np.float64)
    except RuntimeError:  # it gave up after its iteration limit
        return np.zeros(matrix.shape[1])


def _by_bounds(matrix: Matrix, aim: Matrix) -> Matrix:
    limit = 50 * matrix.shape[1]
    solution = scipy.optimize.lsq_linear(
        matrix, aim, bounds=(0, np.inf), method="bvls", tol=1e-14, max_iter=limit
    )
    return np.asarray(np.maximum(solution.x, 0), dtype=np.float64)
