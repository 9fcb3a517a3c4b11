"""Per draw of labels and probe: the projection on the cone of all manifolds, its anchors, and what they span."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch

from robustgeom.geometry._arrays import Matrix
from robustgeom.geometry.cone import signed_projection

__all__ = ["TERMS", "Draws", "averaged", "measure", "only_cone", "reduced"]

TERMS = ("within", "center_center", "axis_axis", "center_axis")
_NULL = 1e-10  # of the largest eigenvalue: smaller ones count as none
_NOTHING = 1e-20  # the same, of the largest squared point
_FACE = 1e-9  # slack that rounding explains, in norms of the point and the probe
_NUMBERS = 1 << 22  # in one batch of anchors


@dataclass(frozen=True)
class Draws:
    """Quantities (n_t,) per draw, their terms (n_t, 4), alignments (P, P) and the points' rank ().

    `cone` is the squared norm of the projection, `axis` that of the probe on the span of the anchors' axis parts, and
    `spread` the same quadratic form with the centres in the span.
    """

    cone: Matrix
    axis: Matrix
    spread: Matrix
    terms: Matrix
    active: Matrix
    degenerate: Matrix
    unique: Matrix
    center_cosine: Matrix
    axis_cosine: Matrix
    center_axis_cosine: Matrix
    rank: Matrix


def averaged(parts: list[Draws]) -> Draws:
    """Return the mean over pairs of manifolds, draw by draw."""
    return Draws(**{f.name: np.mean([getattr(p, f.name) for p in parts], axis=0) for f in fields(Draws)})


def reduced(arrays: list[Matrix], probes: Matrix) -> tuple[list[Matrix], Matrix]:
    """Return manifolds and probes in a basis of the span of all points where that is smaller: nothing changes."""
    everything = np.concatenate(arrays)
    if everything.shape[1] <= len(everything):
        return arrays, probes
    basis, triangle = np.linalg.qr(everything.T)
    return np.split(triangle.T, np.cumsum([len(a) for a in arrays])[:-1]), probes @ basis


def only_cone(arrays: list[Matrix], probes: Matrix, labels: Matrix, device: torch.device) -> Matrix:
    """Return the squared norm of the projections (n_t,) alone."""
    signs = np.repeat(labels, [len(a) for a in arrays], axis=1)
    return signed_projection(np.concatenate(arrays), probes, signs, device).squared_distance


def measure(
    arrays: list[Matrix], probes: Matrix, labels: Matrix, anchors: str, device: torch.device
) -> Draws:
    """Project and measure every draw.

    arrays: P manifolds (M_i, N); probes: (n_t, N); labels: (n_t, P) of 1 and -1; anchors: where an idle manifold's is.
    """
    points, counts = np.concatenate(arrays), [len(a) for a in arrays]
    found = signed_projection(points, probes, np.repeat(labels, counts, axis=1), device)
    nearest = probes - found.projections
    parts = np.split(found.multipliers, np.cumsum(counts)[:-1], axis=1)
    totals = np.stack([p.sum(axis=1) for p in parts], axis=1)
    shares = [_shares(*given, nearest, anchors) for given in zip(arrays, parts, labels.T, strict=True)]
    counted = (totals > 0).astype(float) if anchors == "masked" else np.ones_like(totals)
    return Draws(
        cone=found.squared_distance,
        **_spans(arrays, shares, counted, totals * labels, probes),
        **_faces(points, probes, nearest),
        active=(totals > 0).mean(axis=1),
    )


def _shares(points: Matrix, multipliers: Matrix, label: Matrix, nearest: Matrix, anchors: str) -> Matrix:
    """Return one manifold's anchor in each draw as weights (n_t, M) of its points.

    Where the manifold carries nothing of the projection, that is the point with the least slack, or none.
    """
    total = multipliers.sum(axis=1, keepdims=True)
    shares = multipliers / np.where(total > 0, total, 1)
    if anchors == "support":
        idle = np.flatnonzero(total[:, 0] == 0)
        shares[idle, (label[idle, None] * (nearest[idle] @ points.T)).argmax(axis=1)] = 1
    return np.asarray(shares, dtype=np.float64)


def _spans(
    arrays: list[Matrix], shares: list[Matrix], counted: Matrix, forces: Matrix, probes: Matrix
) -> dict[str, Matrix]:
    """Return what the probes have in the span of the anchors' axis parts, how these align, and the terms.

    forces: (n_t, P), the signed sums of multipliers.
    """
    often = np.maximum(counted.sum(axis=0), 1)
    given = zip(arrays, shares, counted.T, often, strict=True)
    centers = np.stack([c @ s @ a / times for a, s, c, times in given])
    middles = np.stack([a.mean(axis=0) for a in arrays])
    size = max(float(np.square(a).sum(axis=1).max()) for a in arrays)
    step = max(_NUMBERS // centers.size, 1)
    found, terms = [], []
    for rows in (slice(start, start + step) for start in range(0, len(probes), step)):
        corners = np.stack([s[rows] @ a for a, s in zip(arrays, shares, strict=True)], axis=1)
        found.append(_of_axes((corners - centers) * counted[rows, :, None], centers, probes[rows], size))
        terms.append(_terms(corners, middles, forces[rows, :, None]))
    axis, spread, alike, across = zip(*found, strict=True)
    return {
        "axis": np.concatenate(axis),
        "spread": np.concatenate(spread),
        "terms": np.concatenate(terms),
        "center_cosine": _cosines(centers @ centers.T, _lengths(centers), _lengths(centers)),
        "axis_cosine": np.sum(alike, axis=0) / len(probes),
        "center_axis_cosine": np.sum(across, axis=0) / len(probes),
    }


def _of_axes(
    axes: Matrix, centers: Matrix, probes: Matrix, size: float
) -> tuple[Matrix, Matrix, Matrix, Matrix]:
    """Return both quadratic forms (b,) of axis parts (b, P, N), and sums of absolute cosines (P, P)."""
    gram, along = axes @ axes.transpose(0, 2, 1), (axes @ probes[:, :, None])[:, :, 0]
    lengths, norms = _lengths(axes), _lengths(centers)
    lengths[lengths <= np.sqrt(_NOTHING * size)] = 0  # of points, what rounding leaves
    alike = np.abs(_cosines(gram, lengths, lengths)).sum(axis=0)
    across = np.abs(_cosines(centers @ axes.transpose(0, 2, 1), norms, lengths)).sum(axis=0)
    return _form(gram, along, size), _form(gram + centers @ centers.T, along, size), alike, across


def _lengths(rows: Matrix) -> Matrix:
    return np.asarray(np.linalg.norm(rows, axis=-1), dtype=np.float64)


def _cosines(inner: Matrix, left: Matrix, right: Matrix) -> Matrix:
    """Return cosines (..., P, P) from inner products and norms; 0 where a norm is 0."""
    sizes = left[..., :, None] * right[..., None, :]
    return np.asarray(np.divide(inner, sizes, out=np.zeros_like(inner), where=sizes > 0), dtype=np.float64)


def _form(gram: Matrix, along: Matrix, size: float) -> Matrix:
    """Return along' gram^+ along (b,) for matrices (b, P, P) and vectors (b, P)."""
    values, vectors = np.linalg.eigh(gram)
    floor = np.maximum(_NULL * values[:, -1:], _NOTHING * size)
    coordinates = (along[:, None] @ vectors)[:, 0]
    kept = values > floor
    return np.asarray((np.square(coordinates) / np.where(kept, values, np.inf)).sum(axis=1))


def _terms(corners: Matrix, middles: Matrix, forces: Matrix) -> Matrix:
    """Split squared projections (b, 4): within manifolds, and between their centres and axes.

    corners: anchors (b, P, N); middles: (P, N), the means of the manifolds' points; forces: (b, P, 1).
    """
    center, axis = forces * middles, forces * (corners - middles)
    within = np.square(center + axis).sum(axis=(1, 2))
    between = [_between(center, center), _between(axis, axis), 2 * _between(center, axis)]
    return np.stack([within, *between], axis=1)


def _between(left: Matrix, right: Matrix) -> Matrix:
    """Return the sum (b,) of inner products between rows of different manifolds of (b, P, N)."""
    return np.asarray((left.sum(axis=1) * right.sum(axis=1)).sum(axis=1) - (left * right).sum(axis=(1, 2)))


def _faces(points: Matrix, probes: Matrix, nearest: Matrix) -> dict[str, Matrix]:
    """Return whether each draw's multipliers are unique, and whether every point binds; with the points' rank."""
    sizes = _lengths(points)
    rays = points / np.where(sizes > 0, sizes, 1)[:, None]  # the rank, like the cone, knows no lengths
    values = np.linalg.eigvalsh(rays @ rays.T if len(rays) <= rays.shape[1] else rays.T @ rays)
    rank = int(np.sum(values > _NULL * values[-1]))
    bound = np.abs(nearest @ rays.T) <= _FACE * _lengths(probes)[:, None]
    unique = np.ones(len(probes))
    if rank < len(points):
        unique = np.array([float(_independent(rays[row & (sizes > 0)], rank)) for row in bound])
    return {"unique": unique, "degenerate": bound.all(axis=1).astype(float), "rank": np.array(float(rank))}


def _independent(rays: Matrix, rank: int) -> bool:
    if len(rays) > rank:
        return False
    return len(rays) == 0 or float(np.linalg.eigvalsh(rays @ rays.T)[0]) > _NULL
