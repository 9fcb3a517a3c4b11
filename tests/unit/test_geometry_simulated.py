"""Simulated capacity and separability: invariances, edges of the range, refusals, reproducibility."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustgeom.errors import InputError
from robustgeom.geometry import separable, simulated_capacity
from robustgeom.geometry.simulated import _crossing, _smallest

clouds = {
    "seed": st.integers(0, 10_000),
    "count": st.integers(3, 25),
    "features": st.integers(1, 6),
    "whole": st.booleans(),
}


def draw(seed, count, features, whole):
    """Points, whole numbers with many duplicates or not, labels of both sides, and the generator."""
    rng = np.random.default_rng(seed)
    points = rng.integers(-2, 3, (count, features)) if whole else rng.normal(size=(count, features))
    labels = rng.permutation(np.arange(count) < rng.integers(1, count))
    return points.astype(float), labels, rng


@settings(max_examples=150, deadline=None)
@given(**clouds)
def test_separability_ignores_sides_order_and_affine_maps(seed, count, features, whole):
    points, labels, rng = draw(seed, count, features, whole)
    decided = separable(points, labels)
    order = rng.permutation(count)
    stretch = np.linalg.qr(rng.normal(size=(features, features)))[0] * 10.0 ** rng.uniform(-3, 3, features)
    assert separable(points, ~labels) is decided
    assert separable(points[order], labels[order]) is decided
    assert separable(points @ stretch + rng.normal(size=features), labels) is decided
    assert separable(np.vstack([points, points[:2]]), np.append(labels, labels[:2])) is decided


@settings(max_examples=100, deadline=None)
@given(**clouds)
def test_fewer_points_or_more_features_stay_separable(seed, count, features, whole):
    points, labels, rng = draw(seed, count, features, whole)
    if separable(points, labels):
        kept = np.sort(rng.permutation(count)[: count - 1])
        assert len(set(labels[kept])) == 1 or separable(points[kept], labels[kept])
        assert separable(np.column_stack([points, rng.normal(size=count)]), labels)


@settings(max_examples=150, deadline=None)
@given(**clouds)
def test_a_planted_plane_is_found_and_a_shared_point_forbids_it(seed, count, features, whole):
    points, _, rng = draw(seed, count, features, whole)
    heights = points @ rng.normal(size=features)
    sides = heights > np.median(heights)
    if sides.any():
        assert separable(points, sides)
    if np.ptp(
        points, axis=0
    ).any():  # where all are one point, the mean's rounding is all the spread there is
        inside = rng.dirichlet(np.ones(count)) @ points
        labels = np.arange(count + 1) < count
        assert not separable(np.vstack([points, inside]), labels)


@pytest.mark.parametrize(
    ("gap", "expected"), [(0.1, True), (1e-5, True), (1e-8, True), (0.0, False), (-1e-8, False)]
)
def test_hulls_may_come_close_but_not_touch(gap, expected):
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, gap], [2.0, 1.0], [0.3, 1.0]])
    assert separable(points, [-1, -1, 1, 1, 1]) is expected


def test_features_of_very_different_scale_are_all_used():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(60, 8)) * 10.0 ** -np.arange(8)
    points[:, -1] = 1e-9 * np.where(np.arange(60) < 30, 1, -1)
    assert separable(points, np.arange(60) < 30)
    assert not separable(points[:, :-1], np.arange(60) < 30)


def test_identical_points_and_huge_numbers_are_decided():
    assert not separable(np.ones((4, 3)), [1, 1, 0, 0])
    assert separable(np.array([[1e300], [-1e300], [0.9e300]]), torch.tensor([True, False, True]))
    assert separable(torch.tensor([[0.0], [1.0]]), np.array([1, -1], dtype=np.int8))


@pytest.mark.parametrize(
    ("points", "labels", "words"),
    [
        (np.eye(3), [1, 1, 1], "labels of both sides"),
        (np.eye(3), [-1, -1, 0], "labels of both sides"),
        (np.eye(3), [1, -1], "3 labels, got 2"),
        (np.eye(3), [1, -1, np.nan], "finite numbers in labels"),
        (np.eye(3), ["a", "b", "a"], "numbers in labels"),
        (np.full((2, 2), np.inf), [1, -1], "finite numbers in points"),
        (np.ones(3), [1, -1, 1], "points of shape"),
    ],
)
def test_points_and_labels_that_do_not_fit_are_refused(points, labels, words):
    with pytest.raises(InputError, match=words):
        separable(points, labels)


def ragged(seed=0, counts=(1, 4, 2, 7, 3, 3), features=20):
    rng = np.random.default_rng(seed)
    return [3 * rng.normal(size=features) + rng.normal(size=(m, features)) for m in counts]


def same(one, other):
    assert (one.capacity, one.capacity_se, one.bounds) == (other.capacity, other.capacity_se, other.bounds)
    np.testing.assert_array_equal(one.separable_fraction, other.separable_fraction)


@pytest.mark.parametrize("labels", ["balanced", "one-vs-rest"])
def test_uneven_manifolds_run_and_report_themselves(labels):
    found = simulated_capacity(ragged(), labels=labels, repeats=30)
    assert (found.P, found.M, found.N) == (6, (1, 4, 2, 7, 3, 3), 20)
    assert (found.labels, found.repeats) == (labels, 30)
    assert found.capacity == pytest.approx(6 / found.critical_dimension)
    assert found.bounds[0] <= found.capacity < found.bounds[1]
    assert found.dimensions[-1] == 20
    assert np.all(np.diff(found.dimensions) > 0)
    assert np.all(np.diff(found.separable_fraction) >= 0)
    below, above = (np.interp(n, found.dimensions, found.separable_fraction) for n in (0, 20))
    assert (below, above) == (0.0, 1.0)
    assert np.interp(found.critical_dimension, found.dimensions, found.separable_fraction) == pytest.approx(
        0.5
    )


def test_the_same_generator_state_gives_the_same_result_and_seeds_matter():
    default = simulated_capacity(ragged(), repeats=20)
    same(default, simulated_capacity(ragged(), repeats=20, generator=torch.Generator().manual_seed(0)))
    other = simulated_capacity(ragged(), repeats=20, generator=torch.Generator().manual_seed(1))
    assert not np.array_equal(default.separable_fraction, other.separable_fraction)


def test_tensors_scale_and_shift_change_nothing():
    arrays = [m.astype(np.float32) for m in ragged()]
    plain = simulated_capacity(arrays, repeats=20)
    same(plain, simulated_capacity([torch.from_numpy(m).requires_grad_() for m in arrays], repeats=20))
    same(plain, simulated_capacity([64.0 * m.astype(float) + 5 for m in arrays], repeats=20))


def test_features_beyond_the_points_span_change_the_draws_alone():
    narrow = simulated_capacity(ragged(), repeats=150)
    wide = simulated_capacity([np.pad(m, ((0, 0), (0, 400))) for m in ragged()], repeats=150)
    assert abs(narrow.capacity - wide.capacity) < 4 * math.hypot(narrow.capacity_se, wide.capacity_se)
    assert wide.N == 420


def test_wider_manifolds_have_lower_capacity():
    rng = np.random.default_rng(1)
    centers, shape = rng.normal(size=(10, 1, 60)), rng.normal(size=(10, 5, 60))
    narrow, wide = (simulated_capacity(list(centers + s * shape), repeats=40).capacity for s in (0.1, 1.5))
    assert narrow > 1.5 * wide


def test_more_than_half_inseparable_in_all_features_leaves_an_upper_bound():
    clouds = list(np.random.default_rng(0).normal(size=(6, 9, 3)))
    found = simulated_capacity(clouds, repeats=20)
    assert all(math.isnan(x) for x in (found.capacity, found.capacity_se, found.critical_dimension))
    assert found.bounds == (0.0, 2.0)
    assert (found.dimensions[-1], found.separable_fraction[-1] < 0.5) == (3, True)


def test_identical_manifolds_are_never_separable():
    found = simulated_capacity([np.ones((2, 4))] * 3, repeats=5)
    assert (found.bounds, found.dimensions.tolist(), found.separable_fraction.tolist()) == (
        (0, 3 / 4),
        [4],
        [0],
    )


@pytest.mark.parametrize("count", [2, 3])
def test_more_than_half_separable_in_one_feature_leaves_a_lower_bound(count):
    found = simulated_capacity(list(np.eye(count)[:, None]), repeats=40)
    assert math.isnan(found.capacity)
    assert found.bounds == (count, math.inf)
    # Of 3 points on a line, the positive one is at an end in 2 of 3 trials; a pair is always ordered.
    assert abs(found.separable_fraction[1] - {2: 1, 3: 2 / 3}[count]) < 4 * math.sqrt(2 / 9 / 40)


def test_a_fraction_barely_above_half_in_all_features_has_an_infinite_error():
    rng = np.random.default_rng(0)
    heights = np.sort(rng.normal(size=4))[:, None, None]
    found = simulated_capacity(list(heights), labels="one-vs-rest", repeats=40)  # the 2 ends of 4 points
    assert found.separable_fraction[-1] == 0.5
    assert (found.capacity, found.capacity_se) == (4.0, math.inf)


@given(needed=st.integers(1, 40), most=st.integers(1, 30), guess=st.integers(1, 30))
def test_the_search_finds_the_first_size_that_holds(needed, most, guess):
    asked = []
    found = _smallest(lambda n: asked.append(n) or n >= needed, min(guess, most), most)
    assert found == (needed if needed <= most else math.inf)
    assert len(asked) == len(set(asked))
    assert all(1 <= n <= most for n in asked)


def test_crossings_lie_on_straight_lines_between_neighbours():
    dimensions, fractions = np.array([3, 4, 5, 9]), np.array([0.0, 0.4, 0.8, 0.8])
    assert _crossing(dimensions, fractions) == pytest.approx(4.25)
    assert _crossing(dimensions, fractions, 0.2) == pytest.approx(3.5)
    assert _crossing(dimensions, fractions, 0.9) == math.inf


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"manifolds": ragged()[:1]}, "2 manifolds or more, got 1"),
        ({"manifolds": [*ragged()[:2], ragged(features=5)[0]]}, r"equally many features.*\[5, 20\]"),
        ({"manifolds": [*ragged()[:2], np.full((2, 20), np.nan)]}, "finite numbers in manifold 2"),
        ({"manifolds": [*ragged()[:2], np.zeros((0, 20))]}, "manifold 2 of shape"),
        ({"labels": "iid"}, 'labels "balanced" or "one-vs-rest", got \'iid\''),
        ({"repeats": 1}, "repeats >= 2, got 1"),
    ],
)
def test_bad_input_is_refused(change, words):
    arguments = {"manifolds": ragged(), "repeats": 5} | change
    with pytest.raises(InputError, match=words):
        simulated_capacity(arguments.pop("manifolds"), **arguments)
