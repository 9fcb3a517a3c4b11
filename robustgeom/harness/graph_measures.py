"""What is measured of the graph of a stage's units: one entry a measure, over several densities, beside chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from robustgeom.errors import InputError
from robustgeom.geometry.graphs import (
    FunctionalGraph,
    at_density,
    average_controllability,
    clustering,
    communities,
    functional_graph,
    global_efficiency,
    local_efficiency,
    modularity,
    mutual_information,
    participation,
    permuted,
    rewired,
    rich_club,
)
from robustgeom.geometry.table import ALL
from robustgeom.harness.measures import Head, Rows, row_of

__all__ = ["OF_UNITS", "graph", "graph_change"]

OF_UNITS = frozenset({"graph", "graph_change"})
"""Measures of units: they take what units respond, channels averaged over positions, in place of features."""
DENSITIES = (0.05, 0.1, 0.2, 0.3)
NULLS = 5  # at each density
GROUPS = 10  # of images, each left out once for an error
MOST, FEWEST = 500, 8  # units: more would be slow, and fewer make no graph
HUBS = 0.9  # of units have no more edges than the ones that count as hubs
Array = NDArray[np.float64]
Values = dict[str, float]


def graph(
    manifolds: list[Tensor], *, names: Sequence[str], n_t: int, generator: Generator, head: Head
) -> Rows:
    """Return rows of the functional graph of a stage's units (`functional_graph`), of images of all classes together.

    manifolds: P tensors (M_i, units) of what units respond. Measures of edges are means over graphs of the strongest 5,
    10, 20 and 30 % of absolute correlations; `..._chance` is their mean over five rewired graphs at each density, or
    over permuted responses where weights are measured. Errors are jackknife ones, over ten groups of images. Of more
    than 500 units every so many are taken. Raises `InputError` on fewer than eight units that respond.
    """
    del n_t, names
    responses, labels = _responses(manifolds)
    found = {**_of(responses, labels, generator), **_by_chance(responses, generator)}
    found["small_world"] = _ratio(found, "graph_clustering") * _ratio(found, "graph_efficiency")
    found["rich_club"] = _ratio(found, "hub_density")
    errors = _jackknife(responses, labels, lambda x, y: _of(x, y, generator))
    return _rows(head, manifolds, responses.shape[1], found, errors)


def graph_change(
    manifolds: list[Tensor],
    *,
    names: Sequence[str],
    n_t: int,
    generator: Generator,
    head: Head,
    origin: list[Tensor],
) -> Rows:
    """Return rows of what a change of the images does to the graph of a stage's units.

    manifolds, origin: P tensors (M_i, units) of what units respond to the changed and the unchanged images.
    `community_agreement` is the normalised mutual information of both graphs' communities, a mean over densities,
    `edge_change` the root mean square difference of correlations, `strength_change` that of mean absolute ones, changed
    minus unchanged. Errors and refusals are those of `graph`.
    """
    del n_t, names
    changed, labels = _responses(manifolds)
    before, _ = _responses(origin)
    found = _changes(changed, before, generator)
    pairs = np.stack([changed, before], axis=1)
    errors = _jackknife(pairs, labels, lambda x, _: _changes(x[:, 0], x[:, 1], generator))
    return _rows(head, manifolds, changed.shape[1], found, errors)


def _responses(manifolds: list[Tensor]) -> tuple[Array, NDArray[np.int64]]:
    points = torch.cat(manifolds).double().cpu().numpy()
    width = points.shape[1]
    kept = np.unique(np.linspace(0, width - 1, min(width, MOST)).round().astype(int))
    labels = np.repeat(np.arange(len(manifolds)), [len(m) for m in manifolds])
    return points[:, kept], labels


def _built(responses: Array) -> FunctionalGraph:
    found = functional_graph(responses)
    if len(found.units) < FEWEST:
        raise InputError(
            f"{FEWEST} units or more that respond", got=str(len(found.units)), fix="another stage"
        )
    return found


def _of(responses: Array, labels: NDArray[np.int64], generator: Generator) -> Values:
    built = _built(responses)
    weights, each = built.weights, []
    selective = _preferred(responses[:, built.units], labels)
    for density in DENSITIES:
        edges = at_density(weights, density)
        each.append({**_of_edges(edges, generator), "class_modularity": modularity(edges, selective)})
    whole = {
        "graph_strength": _strength(weights),
        "weighted_clustering": float(clustering(weights).mean()),
        "controllability": float(average_controllability(weights).mean()),
    }
    return {**_means(each), **whole}


def _of_edges(edges: Array, generator: Generator) -> Values:
    own = communities(edges, generator=_again(generator))
    club, degree = rich_club(edges), edges.sum(axis=0)
    hubs = int(min(np.quantile(degree, HUBS), len(club)))
    return {
        "graph_modularity": modularity(edges, own),
        "graph_participation": float(participation(edges, own).mean()),
        "graph_efficiency": global_efficiency(edges),
        "local_efficiency": local_efficiency(edges),
        "graph_clustering": float(clustering(edges).mean()),
        "hub_density": float(club[max(hubs - 1, 0)]),
    }


def _by_chance(responses: Array, generator: Generator) -> Values:
    """Return what rewired graphs at each density have, and permuted responses, by the names of `_of`."""
    source = _again(generator)
    weights = _built(responses).weights
    graphs = [edges for density in DENSITIES for edges in [at_density(weights, density)] * NULLS]
    each = [_of_edges(rewired(edges, generator=source), generator) for edges in graphs]
    silent = [_strength(_built(permuted(responses, generator=source)).weights) for _ in range(NULLS)]
    found = {**_means(each), "graph_strength": float(np.mean(silent))}
    return {f"{name}_chance": value for name, value in found.items()}


def _changes(changed: Array, before: Array, generator: Generator) -> Values:
    graphs = _built(changed), _built(before)
    shared = np.intersect1d(graphs[0].units, graphs[1].units)
    one, other = (g.correlations[np.ix_(*[np.isin(g.units, shared)] * 2)] for g in graphs)
    agree = []
    for density in DENSITIES:
        found = [
            communities(at_density(np.abs(c), density), generator=_again(generator)) for c in (one, other)
        ]
        agree.append(mutual_information(*found))
    apart = (one - other)[np.triu_indices(len(shared), 1)]
    return {
        "community_agreement": float(np.mean(agree)),
        "edge_change": float(np.sqrt(np.square(apart).mean())),
        "strength_change": _strength(np.abs(one)) - _strength(np.abs(other)),
    }


def _preferred(responses: Array, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the class whose images each unit (column) responds to most, on average."""
    means = np.stack([responses[labels == label].mean(axis=0) for label in np.unique(labels)])
    found: NDArray[np.int64] = means.argmax(axis=0)
    return found


def _jackknife(
    responses: Array, labels: NDArray[np.int64], measure: Callable[[Array, NDArray[np.int64]], Values]
) -> Values:
    """Return the error of every value: that of means, were they means, over groups of images left out in turn."""
    group = np.arange(len(responses)) % GROUPS
    if len(responses) < 2 * GROUPS:
        return {}
    each = [measure(responses[group != g], labels[group != g]) for g in range(GROUPS)]
    return {name: float(np.std([v[name] for v in each]) * (GROUPS - 1) ** 0.5) for name in each[0]}


def _again(generator: Generator) -> Generator:
    """Return a generator from where this one started: all graphs of one network meet the same draws."""
    return Generator().manual_seed(generator.initial_seed())


def _strength(weights: Array) -> float:
    return float(weights[np.triu_indices(len(weights), 1)].mean())


def _means(each: list[Values]) -> Values:
    return {name: float(np.mean([values[name] for values in each])) for name in each[0]}


def _ratio(found: Values, name: str) -> float:
    chance = found[f"{name}_chance"]
    return found[name] / chance if chance > 0 else float("nan")


def _rows(head: Head, manifolds: list[Tensor], units: int, found: Values, errors: Values) -> Rows:
    sizes = len(manifolds), min(map(len, manifolds)), units
    return [
        row_of(head, ALL, name, value, errors.get(name), *sizes, 0)
        for name, value in found.items()
        if isfinite(value)
    ]
