"""Manifold geometry: what its quantities are, what leaves them unchanged, standard errors, refusals."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustgeom.errors import InputError
from robustgeom.geometry import manifold_geometry

NUMBERS = ("capacity", "dimension", "radius", "utility")
CLOUDS = st.tuples(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 6), st.integers(3, 40))
PROPERTY = settings(derandomize=True, deadline=None, max_examples=30)


def clouds(seed=0, counts=(5,) * 5, features=40, spread=0.6, offset=0.5):
    rng = np.random.default_rng(seed)
    shared = offset * rng.normal(size=features)
    return [shared + rng.normal(size=features) + spread * rng.normal(size=(m, features)) for m in counts]


def posed(seed, count, size, features, n_t=8):
    """Clouds with probes and uniform labels of their own."""
    rng = np.random.default_rng(seed + 1)
    labels = rng.choice([-1.0, 1.0], size=(n_t, count))
    labels[0, :2] = 1, -1
    probes = rng.normal(size=(n_t, features))
    return clouds(seed, (size,) * count, features), {"labels": labels, "probes": probes}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def turned(features, wide, seed=0):
    """Orthonormal rows (features, wide): an isometry."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(wide, features)))[0].T


def assert_same(found, other, rel=1e-9, names=NUMBERS):
    np.testing.assert_allclose(found.cone, other.cone, rtol=rel, atol=1e-9)
    for name in names:
        assert getattr(found, name) == pytest.approx(getattr(other, name), rel=rel, abs=1e-9), name


@pytest.mark.parametrize("offset", [0.0, 4.0])
def test_linearly_independent_points_have_capacity_two_correlated_or_not(offset):
    points = np.random.default_rng(0).normal(size=(20, 50)) + offset
    found = manifold_geometry(list(points[:, None]), n_t=1500)
    assert abs(found.capacity - 2) < 4 * found.capacity_se < 0.3
    assert (found.dimension, found.radius, found.axis_alignment) == (0, 0, 0)
    assert found.utility == pytest.approx(0, abs=1e-12)


def test_orthogonal_points_have_capacity_two_over_their_number_in_a_manifold():
    """Orthogonal points of any length: of each, half of the probes count, with a mean square of one half."""
    points = np.diag([1.0, 2.0, 3.0, 4.0])
    found = manifold_geometry([points[:2], points[2:]], labels=np.array([1, -1]), n_t=4000)
    assert abs(found.capacity - 1) < 4 * found.capacity_se < 0.1


@PROPERTY
@given(CLOUDS)
def test_no_projection_is_longer_than_that_on_the_span(case):
    manifolds, draws = posed(*case)
    found = manifold_geometry(manifolds, **draws)
    _, values, basis = np.linalg.svd(np.concatenate(manifolds), full_matrices=False)
    span = basis[values > 1e-9 * values[0]]
    whole = np.square(draws["probes"] @ span.T).sum(axis=1)
    assert (found.cone <= whole * (1 + 1e-9)).all()
    assert found.floor == case[1] / len(span)
    assert found.degenerate == pytest.approx(np.isclose(found.cone, whole, rtol=1e-9).mean())


@PROPERTY
@given(CLOUDS)
def test_lengths_of_single_points_do_not_matter_to_capacity_and_floor(case):
    manifolds, draws = posed(*case)
    factors = np.random.default_rng(2)
    scaled = [m * 10 ** factors.uniform(-4, 4, size=(len(m), 1)) for m in manifolds]
    found, other = (manifold_geometry(m, **draws) for m in (manifolds, scaled))
    np.testing.assert_allclose(other.cone, found.cone, rtol=1e-7, atol=1e-7)
    assert (other.floor, other.degenerate, other.unique) == (found.floor, found.degenerate, found.unique)


@PROPERTY
@given(CLOUDS, st.floats(1e-4, 1e4), st.integers(0, 9))
def test_one_scale_and_an_isometry_change_nothing(case, scale, extra):
    seed, count, _, features = case
    manifolds, draws = posed(seed, count, max(features // (2 * count), 1), features)
    isometry = turned(features, features + extra)
    moved = [scale * m @ isometry for m in manifolds]
    found = manifold_geometry(manifolds, **draws)
    other = manifold_geometry(moved, labels=draws["labels"], probes=draws["probes"] @ isometry)
    assert_same(found, other, rel=1e-6)
    np.testing.assert_allclose(other.center_cosine, found.center_cosine, atol=1e-9)
    np.testing.assert_allclose(other.axis_cosine, found.axis_cosine, atol=1e-6)


@pytest.mark.parametrize("centering", ["none", "global", "affine"])
def test_a_rotation_changes_nothing_from_any_origin(centering):
    manifolds, features = clouds(), 40
    extra = int(centering == "affine")
    probes = np.random.default_rng(1).normal(size=(50, features + extra))
    rotation = turned(features, features)
    both = probes.copy()
    both[:, :features] = probes[:, :features] @ rotation
    found = manifold_geometry(manifolds, probes=probes, centering=centering)
    assert_same(found, manifold_geometry([m @ rotation for m in manifolds], probes=both, centering=centering))


def test_affine_is_a_constant_coordinate_as_high_as_the_mean_is_long():
    manifolds = clouds(counts=(3, 6, 4))
    probes = np.random.default_rng(1).normal(size=(30, 41))
    mean = np.concatenate(manifolds).mean(axis=0)
    by_hand = [np.hstack([m - mean, np.full((len(m), 1), np.linalg.norm(mean))]) for m in manifolds]
    found = manifold_geometry(manifolds, probes=probes, centering="affine")
    assert_same(found, manifold_geometry(by_hand, probes=probes), rel=1e-12)
    assert (found.N, found.centering) == (40, "affine")


def test_centred_features_do_not_depend_on_where_they_were():
    manifolds = clouds()
    found = manifold_geometry(manifolds, centering="global", n_t=50)
    assert_same(found, manifold_geometry([m + 7 for m in manifolds], centering="global", n_t=50), rel=1e-7)


@PROPERTY
@given(CLOUDS)
def test_points_inside_a_hull_change_nothing(case):
    manifolds, draws = posed(*case)
    rng = np.random.default_rng(3)
    fuller = [np.vstack([m, rng.dirichlet(np.ones(len(m)), size=4) @ m]) for m in manifolds]
    found, other = (manifold_geometry(m, **draws) for m in (manifolds, fuller))
    np.testing.assert_allclose(other.cone, found.cone, rtol=1e-8, atol=1e-8)
    assert other.floor == found.floor


def test_points_inside_a_hull_change_no_geometry_but_the_weights_of_centres():
    manifolds, draws = posed(4, 4, 5, 40, n_t=40)
    fuller = [np.vstack([m, m.mean(axis=0)]) for m in manifolds]
    found, other = (manifold_geometry(m, **draws) for m in (manifolds, fuller))
    assert_same(found, other, rel=1e-7)
    assert other.terms == pytest.approx(found.terms, rel=1e-7)


@PROPERTY
@given(CLOUDS)
def test_more_points_never_raise_capacity(case):
    manifolds, draws = posed(*case)
    rng = np.random.default_rng(4)
    larger = [np.vstack([m, m.mean(axis=0) + rng.normal(size=(2, m.shape[1]))]) for m in manifolds]
    found, other = (manifold_geometry(m, **draws) for m in (manifolds, larger))
    assert (other.cone >= found.cone * (1 - 1e-9) - 1e-12).all()


@pytest.mark.parametrize("anchors", ["support", "masked", "zero"])
def test_flipping_labels_and_probes_together_changes_nothing(anchors):
    manifolds, draws = posed(1, 5, 4, 40, n_t=40)
    flipped = {name: -values for name, values in draws.items()}
    found, other = (manifold_geometry(manifolds, anchors=anchors, **d) for d in (draws, flipped))
    assert_same(found, other, rel=1e-10)
    assert other.terms == pytest.approx(found.terms, rel=1e-10)


@pytest.mark.parametrize("labels", ["uniform", "one-vs-rest", "pairwise", np.array([1, 1, -1, -1, 1])])
@pytest.mark.parametrize("anchors", ["support", "masked", "zero"])
@pytest.mark.parametrize("centering", ["none", "affine"])
def test_the_identity_holds_and_terms_add_up(labels, anchors, centering):
    found = manifold_geometry(clouds(), labels=labels, anchors=anchors, centering=centering, n_t=50)
    assert found.utility * (1 + found.radius**-2) / found.dimension == pytest.approx(
        found.capacity, rel=1e-12
    )
    assert sum(found.terms.values()) == pytest.approx(1 / found.capacity, rel=1e-9)
    count = found.labels.shape[1]
    assert found.capacity == pytest.approx(count / found.cone.mean(), rel=1e-12)
    assert found.dimension == pytest.approx(found.axis.mean() / count, rel=1e-12)
    assert (found.spread <= found.axis * (1 + 1e-9)).all()
    assert (found.spread >= 0).all()


def test_a_margin_adds_up_too_and_lowers_capacity():
    found = manifold_geometry(clouds(), kappa=0.5, n_t=50)
    plain = manifold_geometry(clouds(), n_t=50)
    assert sum(found.terms.values()) == pytest.approx(1 / found.capacity, rel=1e-9)
    assert found.capacity < 0.95 * plain.capacity
    assert found.shuffled < plain.shuffled
    doubled = manifold_geometry([2 * m for m in clouds()], kappa=1.0, n_t=50)
    assert_same(found, doubled, rel=1e-8)


def test_points_with_a_margin_have_the_capacity_of_the_closed_form():
    """Orthogonal points as long as 2, margin 1: half of it in norms of a point."""
    found = manifold_geometry(list(2 * np.eye(12)[:, None]), kappa=1.0, n_t=1500)
    assert abs(found.capacity - 0.961205) < 4 * found.capacity_se < 0.1


def jackknife(statistic, *samples):
    count = len(samples[0])
    left = np.array([statistic(*(np.delete(s, i) for s in samples)) for i in range(count)])
    return np.sqrt((count - 1) * left.var())


@pytest.mark.parametrize("labels", ["uniform", "one-vs-rest", "pairwise"])
def test_standard_errors_are_those_of_a_jackknife_over_draws(labels):
    found = manifold_geometry(clouds(), labels=labels, n_t=200)
    a, b, c = found.cone, found.axis, found.spread
    count = found.labels.shape[1]
    expected = {
        "capacity": jackknife(lambda a: count / a.mean(), a),
        "dimension": jackknife(lambda b: b.mean() / count, b),
        "radius": jackknife(lambda b, c: np.sqrt(c.mean() / (b - c).mean()), b, c),
        "utility": jackknife(lambda a, c: c.mean() / a.mean(), a, c),
    }
    for name, error in expected.items():
        assert getattr(found, f"{name}_se") == pytest.approx(error, rel=0.03), name


def test_standard_errors_are_the_spread_of_repetitions():
    """Anchor centres drawn again each time: what a jackknife of a, b and c would not see."""
    manifolds = clouds(counts=(4,) * 4, features=25)
    runs = [manifold_geometry(manifolds, n_t=60, generator=seeded(s)) for s in range(150)]
    for name in NUMBERS:
        spread = np.std([getattr(r, name) for r in runs])
        error = np.mean([getattr(r, f"{name}_se") for r in runs])
        assert 0.75 * spread < error < 1.35 * spread, name


def test_one_vs_rest_per_class_is_the_given_labels_of_that_class():
    manifolds = clouds(counts=(3, 5, 2, 4))
    found = manifold_geometry(manifolds, labels="one-vs-rest", n_t=81)
    assert found.labels[:5].argmax(axis=1).tolist() == [0, 1, 2, 3, 0]
    assert (found.labels.sum(axis=1) == -2).all()
    values, errors = found.one_vs_rest()
    for i, (value, error) in enumerate(zip(values, errors, strict=True)):
        own = found.cone[i::4]
        assert value == pytest.approx(4 / own.mean(), rel=1e-12)
        assert error == pytest.approx(4 * own.std(ddof=1) / np.sqrt(len(own)) / own.mean() ** 2, rel=1e-12)
    shares = np.array([len(found.cone[i::4]) for i in range(4)]) / 81
    assert found.capacity == pytest.approx(1 / np.sum(shares / values), rel=1e-12)


def test_classes_without_two_draws_have_no_capacity_of_their_own():
    labels = np.array([[1, -1, -1], [1, -1, -1], [-1, 1, -1]])
    found = manifold_geometry(clouds(counts=(3,) * 3), labels=labels, n_t=3)
    assert np.isnan(found.one_vs_rest()[0]).tolist() == [False, True, True]


def test_given_labels_of_three_draws_set_no_number_of_probes():
    with pytest.raises(InputError, match=r"labels of shape \(3,\) or \(200, 3\), got \(3, 3\)"):
        manifold_geometry(clouds(counts=(3,) * 3), labels=2 * np.eye(3) - 1)


def test_pairwise_is_the_mean_over_explicit_pairs():
    manifolds = clouds(counts=(3, 5, 2, 4))
    probes = np.random.default_rng(5).normal(size=(40, 40))
    found = manifold_geometry(manifolds, labels="pairwise", probes=probes)
    pairs = {
        (i, j): manifold_geometry([manifolds[i], manifolds[j]], labels=np.array([1, -1]), probes=probes)
        for i, j in itertools.combinations(range(4), 2)
    }
    every = list(pairs.values())
    for name in ("cone", "axis", "spread"):
        mean = np.mean([getattr(p, name) for p in every], axis=0)
        np.testing.assert_allclose(getattr(found, name), mean, rtol=1e-10)
    assert 1 / found.capacity == pytest.approx(np.mean([1 / p.capacity for p in every]), rel=1e-12)
    assert found.dimension == pytest.approx(np.mean([p.dimension for p in every]), rel=1e-12)
    for name in ("center_alignment", "axis_alignment", "center_axis_alignment", "active", "unique"):
        assert getattr(found, name) == pytest.approx(np.mean([getattr(p, name) for p in every])), name
    for (i, j), pair in pairs.items():
        assert found.center_cosine[i, j] == pytest.approx(pair.center_cosine[0, 1], abs=1e-12)
        assert found.center_axis_cosine[j, i] == pytest.approx(pair.center_axis_cosine[1, 0], abs=1e-12)
    assert found.floor == pytest.approx(1 / np.mean([1 / p.floor for p in every]), rel=1e-12)


def test_uneven_manifolds_report_themselves_and_are_a_permutation_away_from_each_other():
    manifolds, draws = posed(2, 4, 3, 40, n_t=30)
    manifolds = [m[: i + 1] for i, m in enumerate(manifolds)]
    found = manifold_geometry(manifolds, **draws)
    order = [2, 0, 3, 1]
    other = manifold_geometry(
        [manifolds[i][::-1] for i in order], labels=draws["labels"][:, order], probes=draws["probes"]
    )
    assert_same(found, other)
    np.testing.assert_allclose(other.axis_cosine, found.axis_cosine[np.ix_(order, order)], atol=1e-9)
    assert (found.P, found.M, found.N, found.n_t, found.ensemble) == (4, (1, 2, 3, 3), 40, 30, "given")
    assert found.floor == 4 / 9
    assert found.axis_cosine[0].max() == found.center_axis_cosine[:, 0].max() == 0  # a point has no axis


def test_a_centred_pair_with_uniform_labels_is_half_degenerate():
    manifolds = clouds(counts=(12, 12))
    found = manifold_geometry(manifolds, centering="global", n_t=400)
    assert abs(found.degenerate - 0.5) < 4 * 0.5 / 20
    assert found.unique == pytest.approx(1 - found.degenerate)
    one = manifold_geometry(manifolds, centering="global", labels="one-vs-rest", n_t=100)
    assert (one.degenerate, one.unique) == (0, 1)
    assert one.capacity > 2 * found.capacity


def test_shuffled_points_have_a_lower_capacity_than_tight_clouds_and_a_like_one_as_noise():
    tight = manifold_geometry(clouds(spread=0.1), n_t=200)
    assert tight.shuffled < 0.7 * tight.capacity
    noise = manifold_geometry(clouds(spread=30.0), n_t=200)
    assert noise.shuffled == pytest.approx(noise.capacity, rel=0.25)


def test_points_grown_into_clouds_have_growing_radius_utility_and_less_capacity():
    found = [manifold_geometry(clouds(spread=s, offset=0), n_t=100) for s in (0.01, 0.1, 0.5, 2.0)]
    for name in ("radius", "utility"):
        assert np.all(np.diff([getattr(f, name) for f in found]) > 0), name
    assert np.all(np.diff([f.capacity for f in found]) < 0)
    assert found[0].utility < 0.01


def test_tensors_of_single_precision_agree_with_arrays():
    arrays = manifold_geometry(clouds(), n_t=40)
    tensors = manifold_geometry([torch.from_numpy(m).float().requires_grad_() for m in clouds()], n_t=40)
    assert_same(arrays, tensors, rel=1e-4)
    whole = manifold_geometry(torch.from_numpy(np.stack(clouds())), n_t=40)
    assert_same(arrays, whole, rel=1e-12)


def test_labels_may_be_tensors_or_lists_for_all_probes():
    manifolds = clouds(counts=(3,) * 3)
    given = [[1, -1, 1], np.array([1, -1, 1], dtype=np.int8), torch.tensor([1, -1, 1]), torch.ones(30, 3)]
    given[3][:, 1] = -1
    found = [manifold_geometry(manifolds, labels=g, n_t=30) for g in given]
    for other in found[1:]:
        np.testing.assert_array_equal(other.cone, found[0].cone)


def test_one_seed_gives_one_answer_the_default_is_zero_and_seeds_matter():
    default, zero, one = (
        manifold_geometry(clouds(), n_t=30, generator=g) for g in (None, seeded(0), seeded(1))
    )
    for field in dataclasses.fields(default):
        np.testing.assert_equal(getattr(zero, field.name), getattr(default, field.name))
    assert not np.array_equal(one.cone, zero.cone)
    assert not np.array_equal(one.labels, zero.labels)


def test_the_same_draws_serve_all_manifolds_of_one_shape():
    first, second = (manifold_geometry(clouds(seed), n_t=30) for seed in (0, 1))
    np.testing.assert_array_equal(first.labels, second.labels)


def test_no_probe_that_a_point_stops_is_no_division_by_zero():
    draws = {"probes": np.array([[-1.0, 1, 0], [-2.0, 2, 0]]), "labels": np.array([1, -1])}
    found = manifold_geometry([np.eye(3)[:1], np.eye(3)[1:2]], **draws)
    assert (found.capacity, found.active, found.degenerate) == (np.inf, 0, 0)
    assert np.isnan([found.utility, found.capacity_se, found.utility_se]).all()


def test_fewer_draws_than_manifolds_are_spread_over_all_of_them():
    rng = np.random.default_rng(0)
    manifolds = [rng.normal(size=(2, 30)) for _ in range(10)]
    found = manifold_geometry(manifolds, labels="one-vs-rest", n_t=5)
    assert found.labels.argmax(axis=1).tolist() == [0, 2, 4, 6, 8]


def test_a_radius_is_infinite_not_huge_where_manifolds_outnumber_directions():
    rng = np.random.default_rng(0)
    manifolds = [rng.normal(size=3) + 0.01 * rng.normal(size=(15, 3)) for _ in range(12)]
    found = manifold_geometry(manifolds, labels="one-vs-rest", centering="global", n_t=40)
    assert found.radius == np.inf
    assert np.isfinite(found.dimension)
