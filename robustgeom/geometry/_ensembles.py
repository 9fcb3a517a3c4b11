"""What a readout is asked for, and from where: label ensembles, origins and probes, checked."""

from __future__ import annotations

import numpy as np
import torch

from robustgeom.errors import InputError, unknown
from robustgeom.geometry._arrays import DUST, Matrix, MatrixLike, as_matrix
from robustgeom.geometry._random import draw_normal

__all__ = ["ENSEMBLES", "ORIGINS", "label_draws", "moved", "probe_draws"]

ENSEMBLES = ("uniform", "one-vs-rest", "pairwise")
ORIGINS = ("none", "global", "affine")
CENTERED = 1e-6  # in norms of the longest point: a mean so short is what single precision leaves


def moved(arrays: list[Matrix], centering: str) -> list[Matrix]:
    """Return the manifolds as they are, relative to the mean of all points, or that with a constant coordinate."""
    if centering not in ORIGINS:
        raise unknown("centering", centering, ORIGINS)
    everything = np.concatenate(arrays)
    if centering == "none":
        found = arrays
    else:
        mean = everything.mean(axis=0)
        found = [a - mean for a in arrays]
    largest = max(float(np.linalg.norm(a, axis=1).max()) for a in found)
    if largest <= DUST * float(np.abs(everything).max()):
        fix = "another stage" if centering == "none" else 'another stage, or centering="none"'
        raise InputError("points that differ from the origin", got="none", fix=fix)
    found = [_clean(a, largest) for a in found]
    return (
        [_raised(a, float(np.linalg.norm(mean)), largest) for a in found] if centering == "affine" else found
    )


def _raised(points: Matrix, height: float, largest: float) -> Matrix:
    """Append a constant coordinate: what an offset acts on."""
    if height <= CENTERED * largest:
        fix = 'the features before they were centred, or a column of ones and centering="none"'
        raise InputError("a mean that differs from the origin for an offset", got="centred features", fix=fix)
    return np.column_stack([points, np.full(len(points), height)])


def _clean(points: Matrix, largest: float) -> Matrix:
    """Put points on the origin that only rounding keeps from it: a cone takes any ray for whole."""
    kept = np.linalg.norm(points, axis=1, keepdims=True) > DUST * largest
    return np.asarray(np.where(kept, points, 0.0), dtype=np.float64)


def label_draws(labels: str | MatrixLike, count: int, n_t: int, source: torch.Generator) -> Matrix:
    """Return n_t label vectors (n_t, count) of 1 and -1."""
    if n_t < 2:
        raise InputError("n_t >= 2 probes", got=str(n_t), fix="n_t=200")
    if not isinstance(labels, str):
        return _given(labels, count, n_t)
    if labels not in ENSEMBLES:
        raise unknown("label ensemble", labels, ENSEMBLES)
    if labels == "pairwise":
        return np.tile([1.0, -1.0], (n_t, 1))
    if labels == "one-vs-rest":
        own = np.arange(n_t) % count if n_t >= count else np.arange(n_t) * count // n_t  # not the first alone
        return 2 * np.eye(count)[own] - 1
    drawn = torch.randint(0, 2, (n_t, count), generator=source, device=source.device)
    return np.asarray(2.0 * drawn.cpu().numpy() - 1)


def _given(labels: MatrixLike, count: int, n_t: int) -> Matrix:
    raw = labels.detach().cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    array = as_matrix(np.atleast_2d(raw), "labels")
    rows = np.tile(array, (n_t, 1)) if len(array) == 1 else array
    if rows.shape != (n_t, count):
        fix = "one label per manifold, for all probes or for each"
        raise InputError(f"labels of shape ({count},) or ({n_t}, {count})", got=f"{raw.shape}", fix=fix)
    if not np.isin(rows, (-1, 1)).all():
        raise InputError("labels of 1 and -1", got="others", fix="2 * (labels > 0) - 1")
    if np.all(rows == rows[:, :1]):
        raise InputError("labels of both signs", got="all equal", fix="a readout that separates something")
    return rows


def probe_draws(
    probes: MatrixLike | None, n_t: int, width: int, source: torch.Generator, centering: str
) -> Matrix:
    """Return Gaussian probes (n_t, width), or those given."""
    if probes is None:
        return draw_normal(n_t, width, source)
    array = as_matrix(probes, "probes")
    if array.shape[1] != width:
        extra = ", the last for the constant coordinate" if centering == "affine" else ""
        got = f"shape {array.shape}"
        raise InputError(f"probes of {width} features{extra}", got=got, fix="as many columns")
    return array
