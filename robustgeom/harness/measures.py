"""What is measured of manifolds, by name: one entry and one function that returns rows a measure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import isfinite, isnan
from statistics import mean, stdev
from typing import Any, TypedDict

import torch
from torch import Generator, Tensor

from robustgeom.errors import InputError
from robustgeom.geometry import (
    ManifoldGeometry,
    capacity_rows,
    explained_variance_dimension,
    linear_identification,
    linear_separability,
    manifold_geometry,
    mean_field_capacity,
    mle_dimension,
    participation_ratio,
    point_cloud_alignment,
    simulated_capacity,
    spectral_alignment,
    spectrum_exponent,
    two_nn_dimension,
)
from robustgeom.geometry.separability import FEWEST
from robustgeom.geometry.table import ALL
from robustgeom.registry import Registry

__all__ = [
    "GEOMETRY",
    "Head",
    "Rows",
    "capacity",
    "clouds",
    "correlated",
    "glue",
    "identification",
    "intrinsic",
    "overlap",
    "prediction",
    "row_of",
    "simulated",
    "spectrum",
]

GEOMETRY = Registry(
    "geometry",
    {
        name: f"robustgeom.harness.measures:{name}"
        for name in (
            "capacity",
            "glue",
            "correlated",
            "simulated",
            "spectrum",
            "intrinsic",
            "prediction",
            "clouds",
            "overlap",
            "identification",
        )
    }
    | {name: f"robustgeom.harness.graph_measures:{name}" for name in ("graph", "graph_change")},
)
"""From names to functions like `capacity` below."""
_SHARE = 0.6  # of the samples that the predicted error is for, as in the source's figures
_RIDGE = 1e-5  # of the stage's whole variance


class Head(TypedDict):
    """The columns that all rows of one stage and condition share."""

    model: str
    seed: int
    stage: str
    condition: str


Rows = list[dict[str, Any]]


def capacity(
    manifolds: list[Tensor], *, names: Sequence[str], n_t: int, generator: Generator, head: Head
) -> Rows:
    """Return rows of the analyzer table: mean-field capacity, radius and dimension, without units.

    manifolds: P tensors (M_i, N) in float64, called `names`. Raises `InputError` as `mean_field_capacity` does.

    >>> pair = [torch.eye(3).double()[:2], -torch.eye(3).double()[:2]]
    >>> head = Head(model="m", seed=0, stage="input", condition="clean")
    >>> rows = capacity(pair, names=["a", "b"], n_t=20, generator=Generator().manual_seed(0), head=head)
    >>> [row["measure"] for row in rows if row["manifold"] == "all"]
    ['capacity', 'radius', 'dimension']
    """
    found = mean_field_capacity(manifolds, n_t=n_t, generator=generator)
    return capacity_rows(found, names=names, **head)


def glue(
    manifolds: list[Tensor], *, names: Sequence[str], n_t: int, generator: Generator, head: Head
) -> Rows:
    """Return rows of GLUE capacity and what lies behind it, one manifold against the rest, for an affine readout.

    Also each manifold's own capacity and the cosines between centres, as manifold "a | b".
    """
    found = manifold_geometry(
        manifolds, labels="one-vs-rest", centering="affine", n_t=n_t, generator=generator
    )
    values, errors = found.one_vs_rest()
    rows = _all(manifolds, head, n_t, _together(found))
    rows += [
        row_of(head, name, "one_vs_rest_capacity", value, error, found.P, M, found.N, n_t)
        for name, value, error, M in zip(names, values.tolist(), errors.tolist(), found.M, strict=True)
        if isfinite(value)
    ]
    return rows + [
        row_of(head, f"{names[i]} | {names[j]}", "center_cosine", float(found.center_cosine[i, j]), None, 2,
             min(found.M[i], found.M[j]), found.N, n_t)
        for i, j in combinations(range(found.P), 2)
    ]  # fmt: skip


def correlated(
    manifolds: list[Tensor], *, names: Sequence[str], n_t: int, generator: Generator, head: Head
) -> Rows:
    """Return rows of the capacity of correlated manifolds: random labels, and a readout through the origin."""
    del names
    found = manifold_geometry(manifolds, n_t=n_t, generator=generator)
    terms = [(f"term_{name}", value, None) for name, value in found.terms.items()]
    whole = [
        ("correlated_capacity", found.capacity, found.capacity_se),
        ("correlated_floor", found.floor, None),
    ]
    return _all(manifolds, head, n_t, [*whole, *terms])


def simulated(
    manifolds: list[Tensor], *, names: Sequence[str], n_t: int, generator: Generator, head: Head
) -> Rows:
    """Return rows of the capacity found by trying readouts on random projections; the check on theories."""
    del names, n_t
    found = simulated_capacity(manifolds, generator=generator)
    if isnan(found.capacity):
        low, high = found.bounds
        wanted = "a capacity that the features can show"
        raise InputError(wanted, got=f"one between {low:.3g} and {high:.3g}", fix="a wider stage")
    return _all(manifolds, head, found.repeats, [("simulated_capacity", found.capacity, found.capacity_se)])


def spectrum(
    manifolds: list[Tensor], *, names: Sequence[str], n_t: int, generator: Generator, head: Head
) -> Rows:
    """Return rows of linear dimensions of all points together, and of how their spectrum falls off."""
    del names, n_t, generator
    points = torch.cat(manifolds)
    found: list[tuple[str, float, float | None]] = [
        ("participation_ratio", participation_ratio(points), None),
        ("explained_variance_dimension", float(explained_variance_dimension(points)), None),
    ]
    try:
        slope = spectrum_exponent(points)
        found.append(("spectrum_exponent", slope.exponent, slope.standard_error))
    except InputError:  # a stage of a few features has no tail to fit
        pass
    return _all(manifolds, head, 0, found)


def intrinsic(
    manifolds: list[Tensor], *, names: Sequence[str], n_t: int, generator: Generator, head: Head
) -> Rows:
    """Return rows of local dimensions of all points together; up to 20 neighbours, fewer than a manifold has points."""
    del names, n_t, generator
    points = torch.cat(manifolds)
    nearest = two_nn_dimension(points)
    # Neighbours in one manifold: beyond it a jump in distance reads as a low dimension.
    within = max(min(20, min(map(len, manifolds)) - 1), 3)
    wide = mle_dimension(points, neighbours=min(within, nearest.points - 1))
    return _all(
        manifolds,
        head,
        0,
        [
            ("two_nn_dimension", nearest.dimension, nearest.standard_error),
            ("mle_dimension", wide.dimension, wide.standard_error),
        ],
    )


def prediction(
    manifolds: list[Tensor], *, names: Sequence[str], n_t: int, generator: Generator, head: Head
) -> Rows:
    """Return rows of the error that theory predicts for ridge regression from the stage to the manifolds' labels."""
    del names, n_t, generator
    points = torch.cat(manifolds)
    # In units of its spread, so that one ridge suits all stages.
    points = points / (points - points.mean(0)).square().sum(1).mean().sqrt()
    labels = torch.cat([torch.full((len(m),), i) for i, m in enumerate(manifolds)])
    targets = torch.eye(len(manifolds), dtype=torch.float64)[labels]
    found = spectral_alignment(points, targets, train_sizes=[round(_SHARE * len(points))], ridge=_RIDGE)
    measured = {
        "prediction_error": found.error,
        "error_radius": found.error_radius,
        "error_dimension": found.error_dimension,
    }
    return _all(manifolds, head, 0, [(name, float(value[0]), None) for name, value in measured.items()])


def clouds(
    manifolds: list[Tensor], *, names: Sequence[str], n_t: int, generator: Generator, head: Head
) -> Rows:
    """Return rows of how the manifolds' centres and principal axes align, as point clouds."""
    del names, n_t
    found = point_cloud_alignment(manifolds, generator=generator)
    parts = ("center", "axis", "center_axis")
    return _all(
        manifolds, head, 0, [(f"cloud_{p}_alignment", getattr(found, f"mean_{p}"), None) for p in parts]
    )


def overlap(
    manifolds: list[Tensor],
    *,
    names: Sequence[str],
    n_t: int,
    generator: Generator,
    head: Head,
    origin: list[Tensor],
) -> Rows:
    """Return rows of how far each image's changed versions lie over its unchanged ones (Dapello et al. 2021).

    origin: P tensors (M_i, N), the same versions unchanged, under the same noise draws. `separability` is the held-out
    accuracy of a line between the two clouds (`linear_separability`), `overlap` is 2 (1 - separability), about 1 where
    the clouds lie over each other, and `shift` the distance of their means in standard deviations along that line,
    left out where nothing is wide. The errors of all together are over images. Raises `InputError` on fewer than 8
    versions an image.
    """
    del n_t
    if (least := min(map(len, manifolds))) < FEWEST:
        raise InputError(f"{FEWEST} versions of an image or more", got=str(least), fix="more points")
    lines = [linear_separability(a, b, generator=generator) for a, b in zip(origin, manifolds, strict=True)]
    measured = {
        "separability": [line.accuracy for line in lines],
        "overlap": [2 * (1 - line.accuracy) for line in lines],
        "shift": [line.d_prime for line in lines],
    }
    sizes = len(names), manifolds[0].shape[1]
    rows = [
        row_of(head, name, measure, value, None, sizes[0], len(points), sizes[1], 0)
        for measure, values in measured.items()
        for name, points, value in zip(names, manifolds, values, strict=True)
        if isfinite(value)
    ]
    together: list[tuple[str, float, float | None]] = [
        (measure, mean(values), stdev(values) / len(values) ** 0.5)
        for measure, values in measured.items()
        if all(map(isfinite, values))
    ]
    return rows + _all(manifolds, head, 0, together)


def identification(
    manifolds: list[Tensor], *, names: Sequence[str], n_t: int, generator: Generator, head: Head
) -> Rows:
    """Return rows of the held-out share of points that a linear read-out assigns to their own manifold."""
    del n_t, generator
    found = linear_identification(manifolds)
    sizes = len(names), manifolds[0].shape[1]
    rows = [
        row_of(head, name, "identification", value, None, sizes[0], len(points), sizes[1], 0)
        for name, points, value in zip(names, manifolds, found.each.tolist(), strict=True)
    ]
    return rows + _all(manifolds, head, 0, [("identification", found.accuracy, found.accuracy_se)])


def _together(found: ManifoldGeometry) -> list[tuple[str, float, float | None]]:
    measured = [
        ("glue_capacity", found.capacity, found.capacity_se),
        ("effective_dimension", found.dimension, found.dimension_se),
        ("effective_radius", found.radius, found.radius_se),
        ("utility", found.utility, found.utility_se),
        ("center_alignment", found.center_alignment, None),
        ("axis_alignment", found.axis_alignment, None),
        ("center_axis_alignment", found.center_axis_alignment, None),
        ("glue_floor", found.floor, None),
        ("shuffled_capacity", found.shuffled, None),
        ("degenerate_draws", found.degenerate, None),
        ("unique_draws", found.unique, None),
    ]
    # A radius without bounds, and what follows from no probe outside, are left out.
    return [m for m in measured if isfinite(m[1])]


def _all(
    manifolds: list[Tensor], head: Head, n_t: int, measured: list[tuple[str, float, float | None]]
) -> Rows:
    least, width = min(len(m) for m in manifolds), manifolds[0].shape[1]
    return [row_of(head, ALL, *m, len(manifolds), least, width, n_t) for m in measured]


def row_of(
    head: Head, manifold: str, measure: str, value: float, se: float | None, P: int, M: int, N: int, n_t: int
) -> dict[str, Any]:  # fmt: skip
    """Return a row of the analyzer table: of P manifolds, M points or more each, in N features."""
    known = se if se is not None and isfinite(se) else None
    entry = {"manifold": manifold, "measure": measure, "value": value, "se": known}
    return {**head, **entry, "P": P, "M": M, "N": N, "n_t": n_t}
