"""Rows of the analyzer table for mean-field capacity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from robustgeom.errors import InputError
from robustgeom.geometry.capacity import MeanFieldCapacity

__all__ = ["ALL", "capacity_rows"]

ALL = "all"


def capacity_rows(
    result: MeanFieldCapacity, *, model: str, seed: int, stage: str, condition: str, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the table's rows: capacity, radius and dimension of each named manifold and of "all" together.

    names: P different manifold names, none of them "all". The "all" rows hold the harmonic mean of the
    capacities, the mean radius and the mean dimension, and as M the smallest manifold's count. No units.
    Raises `InputError` where the names do not fit.

    >>> import numpy as np
    >>> from robustgeom.geometry.capacity import mean_field_capacity
    >>> found = mean_field_capacity([np.eye(3)[:2], -np.eye(3)[:2]], n_t=20)
    >>> rows = capacity_rows(found, model="m", seed=0, stage="input", condition="clean", names=["cat", "dog"])
    >>> len(rows), rows[-1]["manifold"], rows[-1]["measure"]
    (9, 'all', 'dimension')
    """
    if len(set(names)) != result.P or len(names) != result.P or ALL in names:
        got = f"{len(names)} names: {', '.join(names)}"
        raise InputError(f"{result.P} different names, none of them {ALL!r}", got=got, fix="one per manifold")
    head = {"model": model, "seed": seed, "stage": stage, "condition": condition}
    size = {"P": result.P, "N": result.N, "n_t": result.n_t}
    rows: list[dict[str, Any]] = []
    for (name, count), measured in zip(_manifolds(result, names), _measured(result), strict=True):
        for measure, (value, error) in measured.items():
            entry = {"manifold": name, "measure": measure, "value": value, "se": error, "M": count}
            rows.append(head | entry | size)
    return rows


def _manifolds(result: MeanFieldCapacity, names: Sequence[str]) -> Iterator[tuple[str, int]]:
    yield from zip(names, result.M, strict=True)
    yield ALL, min(result.M)


def _measured(result: MeanFieldCapacity) -> Iterator[dict[str, tuple[float, float]]]:
    for i in range(result.P):
        yield {
            "capacity": (float(result.capacity[i]), float(result.capacity_se[i])),
            "radius": (float(result.radius[i]), float(result.radius_se[i])),
            "dimension": (float(result.dimension[i]), float(result.dimension_se[i])),
        }
    yield {
        "capacity": (result.mean_capacity, result.mean_capacity_se),
        "radius": (result.mean_radius, result.mean_radius_se),
        "dimension": (result.mean_dimension, result.mean_dimension_se),
    }
