"""What waves look like: how often, how large and how long they are, and how frames resemble each other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from robustgeom.errors import InputError

__all__ = ["Wave", "WaveStatistics", "wave_statistics", "waves_of"]

ACTIVE = -60.0  # mV
FEWEST = 5  # active cells of all frames: fewer are no wave
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Wave:
    """Cells that are active together from frame `start` to before `end`: `cells` of them, `voxels` over all frames."""

    start: int
    end: int
    cells: int
    voxels: int


@dataclass(frozen=True)
class WaveStatistics:
    """Statistics of one sheet or several, each an average over them.

    `per_minute` waves on the whole sheet; `area` in mm2 and `duration` in s are medians over waves, `interval` the mean
    time in s between two waves at a cell; `active` the share of cells and frames; `correlation` (distances,) of cells
    0, 1, 2, ... grid steps apart along an axis; `next_frame` the correlation of a frame with the next; `dimensions` the
    participation ratio of frames.
    """

    per_minute: float
    area: float
    duration: float
    interval: float
    active: float
    correlation: Array
    next_frame: float
    dimensions: float


def waves_of(voltages: ArrayLike) -> list[Wave]:
    """Return the waves in the voltages (frames, size, size), in mV, of one sheet, by their start.

    A wave is a set of active cells (above -60 mV) that touch in space and time, corners included, of five at least.

    >>> quiet = np.full((4, 6, 6), -70.0)
    >>> quiet[1:3, 2:5, 2:5] = 0.0
    >>> waves_of(quiet)
    [Wave(start=1, end=3, cells=9, voxels=18)]
    """
    v = _checked(voltages)
    label, _ = ndimage.label(v > ACTIVE, np.ones((3, 3, 3)))
    found = []
    for number, place in enumerate(ndimage.find_objects(label), 1):
        inside = label[place] == number
        if (voxels := int(inside.sum())) >= FEWEST:
            found.append(Wave(place[0].start, place[0].stop, int(inside.any(axis=0).sum()), voxels))
    return sorted(found, key=lambda w: (w.start, w.end, w.cells))


def wave_statistics(
    sheets: ArrayLike, *, frames_per_second: float = 1.0, side: float = 2.0
) -> WaveStatistics:
    """Return the statistics of voltages (sheets, frames, size, size) in mV; side: of a sheet, in mm.

    Published numbers are of frames a second apart. Raises `InputError` where nothing is active.

    >>> rng = np.random.default_rng(0)
    >>> wave_statistics(rng.normal(-62, 5, (2, 30, 8, 8))).active > 0.2
    True
    """
    every = np.asarray(sheets, dtype=np.float64)
    each = [_checked(v) for v in every]
    found = [w for v in each for w in waves_of(v)]
    if not found:
        raise InputError("active cells", got="none", fix="a longer movie")
    seconds = every.shape[1] / frames_per_second
    cell = (side / (every.shape[2] - 1)) ** 2
    intervals = [i for v in each for i in _intervals(v)]
    return WaveStatistics(
        per_minute=60 * len(found) / (seconds * len(each)),
        area=float(np.median([w.cells for w in found])) * cell,
        duration=float(np.median([w.end - w.start for w in found])) / frames_per_second,
        interval=float(np.mean(intervals)) / frames_per_second if intervals else float("nan"),
        active=float((every > ACTIVE).mean()),
        correlation=np.mean([_correlation(v) for v in each], axis=0),
        next_frame=float(np.mean([_next_frame(v) for v in each])),
        dimensions=float(np.mean([_dimensions(v) for v in each])),
    )


def _checked(voltages: ArrayLike) -> Array:
    v = np.asarray(voltages, dtype=np.float64)
    if v.ndim != 3 or v.shape[0] < 2 or v.shape[1] != v.shape[2] or not np.isfinite(v).all():
        raise InputError(
            "finite voltages (frames, size, size)", got=f"shape {v.shape}", fix="one sheet's movie"
        )
    return v


def _intervals(v: Array) -> list[int]:
    """Return the frames between the starts of activity at each cell."""
    on = v > ACTIVE
    starts = on & ~np.concatenate([on[:1], on[:-1]])
    return [int(b - a) for cell in starts.reshape(len(v), -1).T for a, b in pairwise(np.flatnonzero(cell))]


def _scored(v: Array) -> Array:
    """Return every cell's course less its mean, over its deviation."""
    centred = v - v.mean(axis=0)
    found: Array = centred / np.maximum(centred.std(axis=0), 1e-12)
    return found


def _correlation(v: Array) -> Array:
    z, size = _scored(v), v.shape[1]
    return np.array(
        [
            ((z[:, d:] * z[:, : size - d]).mean() + (z[:, :, d:] * z[:, :, : size - d]).mean()) / 2
            for d in range(size * 3 // 4)
        ]
    )


def _next_frame(v: Array) -> float:
    z = _scored(v)
    return float((z[1:] * z[:-1]).mean())


def _dimensions(v: Array) -> float:
    """Return (sum of variances)^2 over the sum of their squares, along principal axes of frames."""
    flat = v.reshape(len(v), -1)
    variances = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False) ** 2
    return float(variances.sum() ** 2 / (variances**2).sum())
