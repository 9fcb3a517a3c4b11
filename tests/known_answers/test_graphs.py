"""Measures of graphs against graphs worked by hand, networkx, and bctpy where it is installed."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_discrete_lyapunov
from sklearn.metrics import mutual_info_score, normalized_mutual_info_score

from robustgeom.errors import InputError
from robustgeom.geometry.graphs import (
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
    variation_of_information,
)

CLOSE = 1e-9


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def random_graph(n=24, share=0.3, seed=0, weighted=True):
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((n, n)) < share, 1) * (rng.random((n, n)) if weighted else 1.0)
    return upper + upper.T


GRAPHS = {
    f"{kind} {n} {share}": random_graph(n, share, seed, kind == "weighted")
    for seed, (kind, n, share) in enumerate(itertools.product(("weighted", "plain"), (8, 30), (0.12, 0.5)))
}
every = pytest.mark.parametrize("name", GRAPHS)


def theirs(w):
    return nx.from_numpy_array(w)


# --- by hand ----------------------------------------------------------------------------------------------------


def two_triangles():
    """Two triangles joined by an edge: nodes 0 to 2 and 3 to 5, edge 2-3."""
    w = np.zeros((6, 6))
    for a, b in [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5), (2, 3)]:
        w[a, b] = w[b, a] = 1
    return w


def test_two_triangles_by_hand():
    w, halves = two_triangles(), [0, 0, 0, 1, 1, 1]
    assert modularity(w, halves) == pytest.approx(2 * (3 / 7 - (7 / 14) ** 2), abs=CLOSE)
    assert communities(w).tolist() == halves
    # Pairs: 7 at distance 1, 4 at 2, 4 at 3.
    assert global_efficiency(w) == pytest.approx((7 + 4 / 2 + 4 / 3) / 15, abs=CLOSE)
    # Four nodes see a joined pair; two see one joined pair of three.
    assert local_efficiency(w) == pytest.approx((4 * 1 + 2 * (1 / 3)) / 6, abs=CLOSE)
    np.testing.assert_allclose(clustering(w), [1, 1, 1 / 3, 1 / 3, 1, 1], atol=CLOSE)
    np.testing.assert_allclose(participation(w, halves), [0, 0, 4 / 9, 4 / 9, 0, 0], atol=CLOSE)
    np.testing.assert_allclose(rich_club(w), [7 / 15, 7 / 15, 1], atol=CLOSE)


def test_an_edge_and_a_chain_by_hand():
    w = np.array([[0, 2.0], [2, 0]])
    # A = 2/3: the Gramian's trace is 1 + (4/9) + (4/9)^2 + ...
    np.testing.assert_allclose(average_controllability(w), [9 / 5, 9 / 5], atol=CLOSE)
    chain = np.array([[0, 0.5, 0], [0.5, 0, 0.25], [0, 0.25, 0]])
    assert global_efficiency(chain, weighted=True) == pytest.approx((1 / 2 + 1 / 4 + 1 / 6) / 3, abs=CLOSE)
    assert modularity(chain, [0, 0, 1]) == pytest.approx(
        2 / 3 - (1.25 / 1.5) ** 2 - (0.25 / 1.5) ** 2, abs=CLOSE
    )


def test_partitions_by_hand():
    assert mutual_information([0, 0, 1, 1], [5, 5, 5, 5]) == 0
    assert mutual_information([3, 3], [1, 1]) == 1
    assert variation_of_information([0, 1, 2, 3], [0, 0, 1, 1]) == pytest.approx(np.log(2), abs=CLOSE)


# --- networkx and others ----------------------------------------------------------------------------------------


@every
def test_measures_are_those_of_networkx(name):
    w = GRAPHS[name]
    graph, edges = theirs(w), theirs((w > 0).astype(float))
    labels = np.arange(len(w)) % 3
    groups = [set(np.flatnonzero(labels == i).tolist()) for i in range(3)]
    for resolution in (0.5, 1.0, 2.0):
        expected = nx.community.modularity(graph, groups, resolution=resolution)
        assert modularity(w, labels, resolution=resolution) == pytest.approx(expected, abs=CLOSE)
    assert global_efficiency(w) == pytest.approx(nx.global_efficiency(edges), abs=CLOSE)
    assert local_efficiency(w) == pytest.approx(nx.local_efficiency(edges), abs=CLOSE)
    found = nx.clustering(graph, weight="weight")
    np.testing.assert_allclose(clustering(w), [found[i] for i in range(len(w))], atol=CLOSE)
    clubs = nx.rich_club_coefficient(edges, normalized=False)
    ours = rich_club(w)
    # They end where no edge is left, we where no pair is.
    np.testing.assert_allclose(ours[: len(clubs)], [clubs[k] for k in sorted(clubs)][: len(ours)], atol=CLOSE)
    assert not ours[len(clubs) :].any()


@every
def test_weighted_paths_are_those_of_dijkstra(name):
    w = GRAPHS[name]
    graph = nx.from_numpy_array(np.divide(1, w, out=np.zeros_like(w), where=w > 0))
    lengths = dict(nx.all_pairs_dijkstra_path_length(graph))
    near = [1 / far for start, row in lengths.items() for end, far in row.items() if start != end]
    assert global_efficiency(w, weighted=True) == pytest.approx(
        sum(near) / (len(w) * (len(w) - 1)), abs=CLOSE
    )


@every
def test_controllability_is_the_gramians_trace(name):
    w = GRAPHS[name]
    a = w / (1 + np.linalg.norm(w, 2))
    expected = []
    for node in range(len(w)):
        b = np.zeros((len(w), 1))
        b[node] = 1
        expected.append(np.trace(solve_discrete_lyapunov(a, b @ b.T)))
    np.testing.assert_allclose(average_controllability(w), expected, rtol=CLOSE)


@pytest.mark.parametrize("seed", range(6))
def test_communities_are_as_modular_as_those_of_networkx(seed):
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 4, 60)
    likely = np.where(blocks[:, None] == blocks, 0.5, 0.08)
    upper = np.triu(rng.random((60, 60)) < likely, 1) * rng.random((60, 60))
    w = upper + upper.T
    graph = theirs(w)
    best = max(
        nx.community.modularity(graph, nx.community.louvain_communities(graph, seed=s)) for s in range(5)
    )
    found = communities(w, generator=seeded(seed))
    assert modularity(w, found) >= best - 0.02
    assert mutual_information(found, blocks) > 0.7
    own = modularity(w, found)
    # No single move to another community raises it.
    for node in range(60):
        for other in np.unique(found):
            moved = found.copy()
            moved[node] = other
            assert modularity(w, moved) <= own + 1e-9
    assert np.array_equal(found, communities(w, generator=seeded(seed)))


@pytest.mark.parametrize("seed", range(4))
def test_agreement_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 5, 40), rng.integers(0, 3, 40)
    assert mutual_information(a, b) == pytest.approx(normalized_mutual_info_score(a, b), abs=CLOSE)
    shared = mutual_info_score(a, b)
    alone = [mutual_info_score(v, v) for v in (a, b)]
    assert variation_of_information(a, b) == pytest.approx(sum(alone) - 2 * shared, abs=CLOSE)


@every
def test_participation_is_its_sum_written_out(name):
    w, labels = GRAPHS[name], np.arange(len(GRAPHS[name])) % 4
    for node, found in enumerate(participation(w, labels)):
        strength = w[node].sum()
        shares = [w[node, labels == c].sum() / strength if strength else 0 for c in range(4)]
        assert found == pytest.approx(1 - sum(s * s for s in shares) if strength else 0, abs=CLOSE)


@pytest.mark.slow
@every
def test_measures_are_those_of_bctpy(name):
    bct = pytest.importorskip("bct")
    w = GRAPHS[name]
    edges = (w > 0).astype(float)
    labels = np.arange(len(w)) % 3 + 1
    scaled = w / w.max()
    np.testing.assert_allclose(clustering(w), bct.clustering_coef_wu(scaled), atol=CLOSE)
    with np.errstate(invalid="ignore"):  # nodes without an edge, which they then set to 0 as we do
        expected = bct.participation_coef(w, labels)
    np.testing.assert_allclose(participation(w, labels), expected, atol=CLOSE)
    assert global_efficiency(w) == pytest.approx(bct.efficiency_bin(edges), abs=CLOSE)
    assert global_efficiency(w, weighted=True) == pytest.approx(bct.efficiency_wei(w), abs=CLOSE)
    assert local_efficiency(w) == pytest.approx(bct.efficiency_bin(edges, local=True).mean(), abs=CLOSE)


# --- building and chance ----------------------------------------------------------------------------------------


def test_correlations_are_numpys_and_silent_units_are_left_out():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 7)) @ rng.normal(size=(7, 7))
    x[:, 3] = 4.0
    found = functional_graph(x)
    kept = [0, 1, 2, 4, 5, 6]
    assert found.units.tolist() == kept
    expected = np.corrcoef(x[:, kept].T)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(found.correlations, expected, atol=CLOSE)
    assert (found.correlations == found.correlations.T).all()
    assert (found.weights >= 0).all()


def test_units_that_only_tell_the_class_are_silent_without_it():
    groups = np.repeat([0, 1, 2], 20)
    x = np.random.default_rng(0).normal(size=(60, 4))
    x[:, 1] = np.array([0.1, 7.3, 2.9])[groups]
    assert functional_graph(x).units.tolist() == [0, 1, 2, 3]
    assert functional_graph(x, groups=groups).units.tolist() == [0, 2, 3]


def test_what_is_left_after_class_means_is_correlated():
    rng = np.random.default_rng(1)
    groups = np.repeat([0, 1, 2], 40)
    noise = rng.normal(size=(120, 4))
    signal = np.array([-10.0, 0, 10])[groups][:, None] * np.ones(4)
    assert functional_graph(noise + signal).weights.max() > 0.98
    found = functional_graph(noise + signal, groups=groups).correlations
    rest = np.concatenate([noise[groups == g] - noise[groups == g].mean(0) for g in range(3)])
    expected = np.corrcoef(rest.T) - np.eye(4)
    np.testing.assert_allclose(found, expected, atol=CLOSE)


@settings(deadline=None, max_examples=40)
@given(st.integers(3, 20), st.floats(0.01, 1.0), st.integers(0, 10**6))
def test_a_density_keeps_so_many_of_the_strongest(n, density, seed):
    w = random_graph(n, 0.8, seed)
    kept = at_density(w, density)
    count, pairs = int(kept.sum()) // 2, n * (n - 1) // 2
    assert count == min(max(round(density * pairs), 1), np.count_nonzero(np.triu(w)))
    assert set(np.unique(kept)) <= {0.0, 1.0}
    left = w[(kept == 0) & (w > 0)]
    if count and left.size:
        assert w[kept > 0].min() >= left.max()


@settings(deadline=None, max_examples=40)
@given(st.integers(4, 30), st.floats(0.1, 0.9), st.integers(0, 10**6), st.booleans())
def test_rewiring_keeps_degrees_and_weights(n, share, seed, weighted):
    w = random_graph(n, share, seed, weighted)
    found = rewired(w, generator=seeded(seed))
    assert ((found > 0).sum(0) == (w > 0).sum(0)).all()
    np.testing.assert_array_equal(np.sort(found[found > 0]), np.sort(w[w > 0]))
    assert (found == found.T).all()
    assert not found.diagonal().any()
    assert np.array_equal(found, rewired(w, generator=seeded(seed)))


def test_rewiring_forgets_the_graph_and_reaches_all_graphs_alike():
    w = np.zeros((40, 40))
    w[:20, :20] = w[20:, 20:] = 1
    np.fill_diagonal(w, 0)
    halves = np.arange(40) // 20
    found = [modularity(rewired(w, generator=seeded(s)), halves) for s in range(20)]
    assert modularity(w, halves) == pytest.approx(0.5)
    assert abs(np.mean(found)) < 0.03
    # A ring of six: sixty rings and ten pairs of triangles have these degrees; each as often as the others.
    ring = np.roll(np.eye(6), 1, 0) + np.roll(np.eye(6), -1, 0)
    made = [nx.is_connected(theirs(rewired(ring, generator=seeded(s)))) for s in range(1500)]
    assert np.mean(made) == pytest.approx(60 / 70, abs=0.03)


@settings(deadline=None, max_examples=20)
@given(st.integers(3, 40), st.integers(1, 8), st.integers(0, 10**6))
def test_permuting_keeps_each_units_responses(images, units, seed):
    x = np.random.default_rng(seed).normal(size=(images, units))
    found = permuted(x, generator=seeded(seed))
    np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(x, axis=0))


def test_permuting_leaves_correlations_of_chance_alone():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(400, 1)) + 0.1 * rng.normal(size=(400, 30))
    assert functional_graph(x).weights[0, 1] > 0.9
    found = functional_graph(permuted(x)).correlations[np.triu_indices(30, 1)]
    assert found.std() == pytest.approx(400**-0.5, rel=0.1)


BAD = {
    "a matrix of another shape": np.zeros((2, 3)),
    "one direction": np.array([[0, 1.0], [0, 0]]),
    "an edge to itself": np.array([[1.0, 1], [1, 0]]),
    "a negative weight": np.array([[0, -1.0], [-1, 0]]),
    "NaN": np.array([[0, np.nan], [np.nan, 0]]),
}
TAKES = {
    "modularity": lambda w: modularity(w, [0, 1]),
    "communities": communities,
    "global_efficiency": global_efficiency,
    "local_efficiency": local_efficiency,
    "clustering": clustering,
    "rich_club": rich_club,
    "participation": lambda w: participation(w, [0, 1]),
    "average_controllability": average_controllability,
    "rewired": rewired,
    "at_density": lambda w: at_density(w, 0.5),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", TAKES)
def test_what_is_no_graph_is_refused(name, bad):
    with pytest.raises(InputError, match="expected"):
        TAKES[name](BAD[bad])


def test_settings_that_mean_nothing_are_refused():
    w = two_triangles()
    for wrong in (
        lambda: modularity(w, [0, 1]),
        lambda: modularity(np.zeros((3, 3)), [0, 1, 1]),
        lambda: at_density(w, 0.0),
        lambda: rewired(w, rounds=0),
        lambda: functional_graph(np.ones((5, 3))),
        lambda: functional_graph(np.eye(2)),
        lambda: functional_graph(np.eye(4), groups=[0, 1]),
        lambda: mutual_information([], []),
        lambda: mutual_information([0, 1], [0, 1, 1]),
    ):
        with pytest.raises(InputError, match="expected"):
            wrong()
