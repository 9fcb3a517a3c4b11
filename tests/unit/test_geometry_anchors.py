"""Anchor points: optimality conditions, an independent solver, and what must hold for any manifold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from robustgeom.errors import InputError
from robustgeom.geometry import anchor_points
from robustgeom.geometry._nnls import _attempts, _optimal, nonnegative_weights


def problem(seed, m, d, n_t=4, flat=False):
    rng = np.random.default_rng(seed)
    shape = rng.normal(size=(m, d)) * rng.uniform(0.01, 3)
    if flat:
        shape[:, d // 2 :] = 0
        shape[m // 2 :] = shape[0]
    return np.column_stack([shape, np.ones(m)]), rng.normal(size=(n_t, d + 1))


shapes = {
    "seed": st.integers(0, 10_000),
    "m": st.integers(1, 12),
    "d": st.integers(1, 8),
    "flat": st.booleans(),
    "kappa": st.sampled_from([0.0, 0.2, 1.0]),
}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(**shapes)
def test_optimality_conditions_hold(seed, m, d, flat, kappa):
    points, probes = problem(seed, m, d, flat=flat)
    found = anchor_points(points, probes, kappa=kappa)
    nearest = probes - found.multiplier[:, None] * found.anchors
    assert (nearest @ points.T).max() <= -kappa + 1e-9
    np.testing.assert_allclose(((probes - nearest) ** 2).sum(axis=1), found.squared_distance, atol=1e-9)
    slack = found.multiplier * ((nearest * found.anchors).sum(axis=1) + kappa)
    np.testing.assert_allclose(slack, 0, atol=1e-9)
    assert found.multiplier.min() >= 0
    np.testing.assert_allclose(found.anchors[:, -1], 1, rtol=1e-12)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(**shapes)
def test_more_points_lower_the_capacity(seed, m, d, flat, kappa):
    points, probes = problem(seed, m + 1, d, flat=flat)
    fewer = anchor_points(points[:-1], probes, kappa=kappa)
    more = anchor_points(points, probes, kappa=kappa)
    assert np.all(more.squared_distance >= fewer.squared_distance - 1e-10)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000), m=st.integers(1, 6), d=st.integers(1, 4), kappa=st.sampled_from([0.0, 0.3])
)
def test_a_general_constrained_solver_finds_no_nearer_point(seed, m, d, kappa):
    points, probes = problem(seed, m, d, n_t=2)
    found = anchor_points(points, probes, kappa=kappa)
    for t, expected in zip(probes, found.squared_distance, strict=True):
        solution = minimize(
            lambda v, t=t: ((v - t) ** 2).sum(),
            np.append(np.zeros(d), -kappa - 1),
            jac=lambda v, t=t: 2 * (v - t),
            constraints={"type": "ineq", "fun": lambda v: -kappa - points @ v, "jac": lambda v: -points},
            method="SLSQP",
            options={"ftol": 1e-13, "maxiter": 500},
        )
        assert solution.fun == pytest.approx(expected, rel=1e-5, abs=1e-5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), m=st.integers(1, 30), d=st.integers(1, 8), flat=st.booleans())
def test_batches_and_both_solvers_of_single_probes_project_on_the_same_point(seed, m, d, flat):
    points, probes = problem(seed, m, d, n_t=9, flat=flat)
    rays = points / np.linalg.norm(points, axis=1, keepdims=True)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(9, m))
    weights, sums = nonnegative_weights(*map(torch.from_numpy, (rays, probes, signs)))
    assert weights.min() >= 0
    for t, sign, found in zip(probes, signs, sums.numpy(), strict=True):
        seen = sign[:, None] * rays
        sums_alone = [w @ seen for w in _attempts(seen.T, t) if certified(seen, t, w)]
        assert len(sums_alone) >= (
            1 if flat else 3
        )  # a ray and its opposite may defeat a solver, never unseen
        for alone in sums_alone:
            np.testing.assert_allclose(alone, found, atol=1e-8)


def test_rays_that_cancel_but_for_single_precision_have_a_sum():
    """Points on one line, some with the other sign, reach anywhere with weights of ten million."""
    generator = np.random.default_rng(0)
    line = np.outer(generator.uniform(1, 2, 40), generator.standard_normal(6)) + generator.standard_normal(6)
    points = (line * generator.choice([-1.0, 1.0], size=(40, 1))).astype(np.float32).astype(np.float64)
    rays = points / np.linalg.norm(points, axis=1, keepdims=True)
    probes = generator.standard_normal((20, 6))
    weights, sums = nonnegative_weights(torch.from_numpy(rays), torch.from_numpy(probes))
    assert weights.max() > 1e5
    residual = torch.from_numpy(probes) - sums
    assert (residual @ torch.from_numpy(rays).T).max() < 1e-6
    assert (residual * sums).sum(1).abs().max() < 1e-6


def certified(rays, probe, weights):
    rays, probe, weights = map(torch.from_numpy, (rays, probe, weights))
    return bool(_optimal(rays, probe[None], weights[None], None)[0])


@pytest.mark.parametrize("radius", [1e-9, 1e-3, 1e3, 1e5])
@pytest.mark.parametrize(("m", "d"), [(3, 1), (40, 4), (60, 60)])
def test_solutions_stay_exact_at_any_size(radius, m, d):
    rng = np.random.default_rng(m)
    shape = radius * rng.normal(size=(m, d))
    shape[m // 2 :] = shape[: m - m // 2]  # duplicates too
    points, probes = np.column_stack([shape, np.ones(m)]), rng.normal(size=(20, d + 1))
    found = anchor_points(points, probes)
    nearest = probes - found.multiplier[:, None] * found.anchors
    lengths = np.linalg.norm(points, axis=1)
    assert (nearest @ points.T / lengths).max() < 1e-9


def test_a_margin_is_a_shift_of_the_centre_coordinate():
    points, probes = problem(0, 9, 4, n_t=50)
    shifted = probes + 0.7 * np.eye(5)[-1]
    with_margin, without = anchor_points(points, probes, kappa=0.7), anchor_points(points, shifted)
    np.testing.assert_array_equal(with_margin.anchors, without.anchors)
    np.testing.assert_array_equal(with_margin.squared_distance, without.squared_distance)


def test_an_inner_probe_keeps_the_point_furthest_along_it():
    points = np.array([[1.0, 1.0], [-1.0, 1.0]])
    found = anchor_points(points, np.array([[0.5, -3.0], [-0.5, -3.0]]))
    np.testing.assert_array_equal(found.anchors, points)
    assert not found.multiplier.any()


def test_tensors_and_arrays_of_any_precision_give_float64():
    points, probes = problem(1, 5, 3)
    plain = anchor_points(points, probes)
    tensors = anchor_points(torch.from_numpy(points), torch.from_numpy(probes))
    np.testing.assert_array_equal(plain.anchors, tensors.anchors)
    single = anchor_points(torch.from_numpy(points).float(), probes)
    assert single.anchors.dtype == np.float64
    np.testing.assert_allclose(single.squared_distance, plain.squared_distance, atol=1e-5)


def test_inputs_are_not_changed():
    points, probes = problem(2, 5, 3)
    before = points.copy(), probes.copy()
    anchor_points(points, probes, kappa=0.5)
    np.testing.assert_array_equal(points, before[0])
    np.testing.assert_array_equal(probes, before[1])


@pytest.mark.parametrize(
    ("points", "probes", "kappa", "words"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), 0.0, "equally many columns, got 3 and 4"),
        (np.array([[2e6, 1.0]]), np.ones((2, 2)), 0.0, "within 1e.06 of the centre"),
        (np.zeros((2, 3)), np.ones((2, 3)), 0.0, "last coordinate is 1"),
        (np.ones((2, 3)), np.ones((2, 3)), -1.0, "kappa >= 0"),
        (np.ones((2, 3)), np.ones((2, 3)), float("nan"), "kappa >= 0"),
        (np.full((2, 3), np.inf), np.ones((2, 3)), 0.0, "finite numbers in points, got 6"),
        (np.ones((2, 3)), np.ones(3), 0.0, r"probes of shape \(rows, columns\)"),
        (np.array([["a", "b"]]), np.ones((2, 2)), 0.0, "numbers in points"),
    ],
)
def test_bad_input_is_refused(points, probes, kappa, words):
    with pytest.raises(InputError, match=words):
        anchor_points(points, probes, kappa=kappa)
