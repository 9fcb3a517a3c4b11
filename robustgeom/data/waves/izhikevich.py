"""Retinal waves by spiking cells on a square: neighbours excite, all beyond inhibit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustgeom.errors import InputError
from robustgeom.seeds import seed_of

__all__ = ["CellSheet", "cell_sheet", "random_sheet", "spikes"]

Array = NDArray[np.float64]
SIDE = 32.0
NEAR, FAR, SPIKE = 2.0, 6.0, 30.0


@dataclass(frozen=True)
class CellSheet:
    """Cells at `positions` (n, 2) in [0, 32), with the couplings `gain` (n, n) from column to row.

    `reset` (n,) in mV is where a cell's voltage goes after a spike, `leak` (n,) what its recovery gains then.
    """

    positions: Array
    gain: Array
    reset: Array
    leak: Array


def cell_sheet(positions: ArrayLike, spread: ArrayLike) -> CellSheet:
    """Return a sheet of Izhikevich's cells (2003) as arXiv:2312.02791 couples them.

    positions: (n, 2) in [0, 32); spread: (n,) in [0, 1], from cells that spike once (0) to those that burst (1). Cells
    closer than 2 excite each other by 5, those further than 6 inhibit by 2 exp(-distance / 10). Raises `InputError` on
    positions outside the square.

    >>> cell_sheet([[0, 0], [1, 0], [20, 0]], [0, 0.5, 1]).gain.round(2).tolist()
    [[0.0, 5.0, -0.27], [5.0, 0.0, -0.3], [-0.27, -0.3, 0.0]]
    """
    at, r = np.asarray(positions, dtype=np.float64), np.asarray(spread, dtype=np.float64)
    inside = at.ndim == 2 and at.shape[1:] == (2,) and len(at) > 0 and bool(((at >= 0) & (at < SIDE)).all())
    if not inside or r.shape != at.shape[:1]:
        got = f"positions {at.shape} and spread {r.shape}"
        raise InputError("positions (n, 2) in [0, 32) and a spread of each", got=got, fix="one row a cell")
    distance = np.linalg.norm(at[:, None] - at[None], axis=2)
    gain = np.where(distance < NEAR, 5.0, 0.0) + np.where(distance > FAR, -2 * np.exp(-distance / 10), 0.0)
    np.fill_diagonal(gain, 0.0)
    return CellSheet(at, gain, -65 + 15 * r**2, 8 - 6 * np.exp(-distance[-1] / 10))


def spikes(sheet: CellSheet, inputs: ArrayLike) -> tuple[NDArray[np.bool_], Array, Array]:
    """Return which cells spike at each step (steps, n), and the last voltages and recoveries (n,).

    inputs: (steps, n), what each cell receives from outside; 3 times standard normal draws make waves. Two half steps
    of the voltage go with one of the recovery.

    >>> raster, _, _ = spikes(cell_sheet([[0, 0], [1, 0]], [0, 0]), np.full((50, 2), 20.0))
    >>> bool(raster.any()), raster.shape
    (True, (50, 2))
    """
    given = np.asarray(inputs, dtype=np.float64)
    v = np.full(len(sheet.reset), -65.0)
    u = 0.2 * v
    raster = np.zeros(given.shape, dtype=bool)
    for step, outside in enumerate(given):
        fired = raster[step] = v >= SPIKE
        v = np.where(fired, sheet.reset, v)
        u = u + np.where(fired, sheet.leak, 0.0)
        current = outside + sheet.gain[:, fired].sum(axis=1)
        for _ in range(2):
            v = v + 0.5 * (0.04 * v**2 + 5 * v + 140 - u + current)
        u = u + 0.02 * (0.2 * v - u)
    return raster, v, u


def random_sheet(cells: int = 3200, *, seed: int = 0) -> tuple[CellSheet, np.random.Generator]:
    """Return a sheet of cells at random places, and the generator that its inputs go on from.

    >>> random_sheet(50)[0].positions.shape
    (50, 2)
    """
    generator = np.random.default_rng(seed_of(seed, "cell sheet"))
    return cell_sheet(generator.random((cells, 2)) * SIDE, generator.random(cells)), generator
