"""Projection on the cone of points: optimality conditions, closed forms, awkward points, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustgeom.errors import InputError
from robustgeom.geometry import project_on_cone
from robustgeom.geometry.cone import signed_projection

CPU = torch.device("cpu")


def check_optimal(points, probes, found, tolerance=1e-9):
    """The conditions that a projection on a cone satisfies and no other point does."""
    size = np.linalg.norm(points, axis=1)
    length = np.abs(probes).max(axis=1, keepdims=True)
    unit = np.where(length > 0, length, 1)
    sums, rest = found.projections / unit, (probes - found.projections) / unit
    assert (found.multipliers >= 0).all()
    np.testing.assert_allclose(found.multipliers / unit @ points, sums, rtol=0, atol=tolerance)
    assert (rest @ points.T <= tolerance * size).all()
    assert (np.abs((rest * sums).sum(axis=1)) <= tolerance).all()
    squared = np.square(found.projections).sum(axis=1)
    np.testing.assert_allclose(found.squared_distance, squared, rtol=1e-12, atol=1e-300)


@st.composite
def awkward(draw):
    """Points of whole coordinates, many collinear, with repeats, zeros, and opposite and scaled copies."""
    width, count = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    points = draw(arrays(float, (count, width), elements=st.integers(-3, 3)))
    rows = st.integers(0, count - 1)
    scales = st.sampled_from([1.0, 0.0, -1.0, 1e-6, 1e6, 1 / 3])
    copies = [factor * points[row] for row, factor in draw(st.lists(st.tuples(rows, scales), max_size=5))]
    middles = [points[i] + points[j] for i, j in draw(st.lists(st.tuples(rows, rows), max_size=3))]
    numbers = st.integers(-4, 4) | st.floats(-5, 5).map(lambda x: x if abs(x) > 1e-290 else 0.0)
    probes = draw(arrays(float, (draw(st.integers(1, 4)), width), elements=numbers))
    return np.stack([*points, *copies, *middles]), probes


@settings(derandomize=True, deadline=None, max_examples=300)
@given(awkward())
def test_the_optimality_conditions_hold_for_awkward_points(case):
    points, probes = case
    check_optimal(points, probes, project_on_cone(points, probes))


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 40), st.integers(1, 40))
def test_the_optimality_conditions_hold_for_random_points(seed, count, width, rank):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, min(rank, width))) @ rng.normal(size=(min(rank, width), width))
    points += rng.normal(size=width) * rng.integers(0, 4)
    probes = rng.normal(size=(20, width))
    check_optimal(points, probes, project_on_cone(points, probes))


def test_a_crowd_of_points_in_few_dimensions():
    rng = np.random.default_rng(0)
    points, probes = rng.normal(size=(400, 3)) + 1.5 * np.eye(3)[0], rng.normal(size=(50, 3))
    check_optimal(points, probes, project_on_cone(points, probes))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(awkward(), st.integers(0, 2**32 - 1))
def test_signs_are_those_of_points_times_them(case, seed):
    points, probes = case
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(len(probes), len(points)))
    found = signed_projection(points, probes, signs, CPU)
    for i, (probe, flip) in enumerate(zip(probes, signs, strict=True)):
        alone = project_on_cone(flip[:, None] * points, probe[None])
        np.testing.assert_allclose(found.projections[i], alone.projections[0], rtol=0, atol=1e-8)
        np.testing.assert_allclose(
            found.multipliers[i] @ (flip[:, None] * points), found.projections[i], atol=1e-8
        )


def test_orthogonal_points_of_any_length_clip_the_coordinates():
    probes = np.random.default_rng(1).normal(size=(30, 7))
    found = project_on_cone(np.diag([1e-5, 1.0, 1e5, 2.0, 3.0]) @ np.eye(7)[:5], probes)
    clipped = np.where(np.arange(7) < 5, np.maximum(probes, 0), 0)
    np.testing.assert_allclose(found.projections, clipped, atol=1e-14)


def test_points_around_the_origin_span_the_space():
    probes = np.random.default_rng(2).normal(size=(10, 3))
    found = project_on_cone(np.vstack([np.eye(3), -np.eye(3)]), probes)
    np.testing.assert_allclose(found.projections, probes, atol=1e-12)


def test_points_at_the_origin_carry_nothing():
    found = project_on_cone(np.zeros((3, 4)), np.ones((2, 4)))
    assert not found.squared_distance.any()
    assert not found.multipliers.any()
    beside = project_on_cone(np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([[3.0, 1.0]]))
    np.testing.assert_allclose(beside.multipliers, [[0.0, 1.5]])


def test_a_point_beyond_the_circular_cone_is_as_far_as_trigonometry_says():
    """Many rays at 30 degrees around an axis, and probes in the plane of the axis and one ray."""
    turn = 2 * np.pi * np.arange(360) / 360
    rays = np.column_stack([np.full(360, np.cos(np.pi / 6)), 0.5 * np.cos(turn), 0.5 * np.sin(turn)])
    angles = np.radians([10.0, 50.0, 100.0, 130.0])
    probes = np.column_stack([np.cos(angles), np.sin(angles), 0 * angles])
    expected = [1.0, np.cos(np.radians(20)) ** 2, np.cos(np.radians(70)) ** 2, 0.0]
    np.testing.assert_allclose(project_on_cone(rays, probes).squared_distance, expected, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e-20, 1e20, 1e150])
def test_small_and_large_units_are_units(scale):
    rng = np.random.default_rng(4)
    points, probes = rng.normal(size=(9, 5)), rng.normal(size=(20, 5))
    plain = project_on_cone(points, probes).projections
    longer, farther = project_on_cone(scale * points, probes), project_on_cone(points, scale * probes)
    np.testing.assert_allclose(longer.projections, plain, rtol=0, atol=1e-9)
    np.testing.assert_allclose(farther.projections / scale, plain, rtol=0, atol=1e-9)


def test_tensors_and_single_precision_are_taken_as_they_are():
    rng = np.random.default_rng(3)
    points, probes = rng.normal(size=(5, 8)).astype(np.float32), rng.normal(size=(6, 8)).astype(np.float32)
    plain = project_on_cone(points, probes)
    tensors = project_on_cone(torch.from_numpy(points).requires_grad_(), torch.from_numpy(probes))
    np.testing.assert_array_equal(plain.projections, tensors.projections)
    assert tensors.projections.dtype == tensors.multipliers.dtype == np.float64


@pytest.mark.parametrize(
    ("points", "probes", "words"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), "equally many columns, 1 or more, got 3 and 4"),
        (np.ones((2, 0)), np.ones((2, 0)), "got 0 and 0"),
        (np.ones(3), np.ones((2, 3)), "signed_points of shape"),
        (np.ones((2, 3)), np.ones(3), "probes of shape"),
        (np.full((2, 3), np.inf), np.ones((2, 3)), "finite numbers in signed_points"),
        (np.ones((2, 3)), np.full((2, 3), np.nan), "finite numbers in probes"),
        (np.ones((0, 3)), np.ones((2, 3)), "signed_points of shape"),
    ],
)
def test_bad_input_is_refused(points, probes, words):
    with pytest.raises(InputError, match=words):
        project_on_cone(points, probes)
