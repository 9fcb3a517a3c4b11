"""What is measured of manifolds, by name: one entry and one function that returns rows a measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from torch import Generator, Tensor

from robustgeom.geometry import capacity_rows, mean_field_capacity
from robustgeom.registry import Registry

__all__ = ["GEOMETRY", "Head", "capacity"]

GEOMETRY = Registry("geometry", {"capacity": "robustgeom.harness.measures:capacity"})
"""From names to functions like `capacity` below."""


class Head(TypedDict):
    """The columns that all rows of one stage and condition share."""

    model: str
    seed: int
    stage: str
    condition: str


def capacity(
    manifolds: list[Tensor], *, names: Sequence[str], n_t: int, generator: Generator, head: Head
) -> list[dict[str, Any]]:
    """Return rows of the analyzer table: mean-field capacity, radius and dimension, without units.

    manifolds: P tensors (M_i, N) in float64, called `names`. Raises `InputError` as `mean_field_capacity` does.

    >>> import torch
    >>> pair = [torch.eye(3).double()[:2], -torch.eye(3).double()[:2]]
    >>> head = Head(model="m", seed=0, stage="input", condition="clean")
    >>> rows = capacity(pair, names=["a", "b"], n_t=20, generator=Generator().manual_seed(0), head=head)
    >>> [row["measure"] for row in rows if row["manifold"] == "all"]
    ['capacity', 'radius', 'dimension']
    """
    found = mean_field_capacity(manifolds, n_t=n_t, generator=generator)
    return capacity_rows(found, names=names, **head)
