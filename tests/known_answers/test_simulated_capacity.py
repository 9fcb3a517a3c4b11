"""Simulated capacity against recorded decisions and capacities, counting theorems and solid angles."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from robustgeom.geometry import separable, simulated_capacity, sphere_capacity
from robustgeom.geometry.simulated import _decided, _widest

DATA = Path(__file__).parent / "data" / "simulated"
CASES = {"sc1_points_P30": 31, "sc2_points_P60": 31, "sc3_segments_R1_P24": 31, "sc5_ellipsoid_P16_M10": 21}


def load(name):
    with np.load(DATA / f"{name}.npz") as stored:
        return {key: stored[key] for key in stored.files}


def redrawn(case, features, trials):
    """Labels and projected points exactly as the reference drew them, trial by trial."""
    draw = np.random.RandomState(0)
    count, width, size = case["X"].shape
    points = case["X"].transpose(0, 2, 1).reshape(-1, width)
    labels = np.full((trials, count), -1)
    for row in labels:
        row[draw.choice(range(count), count // 2, replace=False)] = 1
    for row in labels:
        projection = draw.randn(width, features)
        yield row, points @ (projection / np.linalg.norm(projection, axis=0)), np.repeat(row, size)


@pytest.mark.parametrize("name", CASES)
def test_every_recorded_decision_and_fraction_is_met_exactly(name):
    case = load(name)
    np.testing.assert_array_equal(case["lp_sep"], case["lp_margin"] > 1e-9)
    for features in np.unique(case["N"]):
        here = case["N"] == features
        recorded = {
            tuple(r.tolist()): s for r, s in zip(case["labels"][here], case["lp_sep"][here], strict=True)
        }
        decided = {
            tuple(row.tolist()): separable(points, sides)
            for row, points, sides in redrawn(case, int(features), CASES[name])
        }
        assert {labels: decided[labels] for labels in recorded} == recorded
        fraction = case["p_vec"][case["N_vec"] == features][0]
        assert np.mean(list(decided.values())) == pytest.approx(fraction, abs=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_capacities_agree_with_the_recorded_ones_within_standard_errors(name):
    case = load(name)
    found = simulated_capacity([p.T for p in case["X"]])
    recorded_se = found.capacity_se * math.sqrt(found.repeats / CASES[name])
    assert abs(found.capacity - float(case["asim0"])) < 3 * math.hypot(found.capacity_se, recorded_se)


def test_the_linear_program_behind_the_first_method_decides_alike():
    rng = np.random.default_rng(0)
    for _ in range(60):
        rows = rng.normal(size=(14, 6))
        rows[:, -1] = np.abs(rows[:, -1])
        rows *= rng.choice([-1.0, 1.0], size=14)[:, None] / np.linalg.norm(rows, axis=1, keepdims=True)
        points, labels = rows[:, :-1] / rows[:, -1:], np.sign(rows[:, -1])
        assert _decided(rows, *_widest(rows)) is separable(points, labels)
    assert _decided(rows, np.zeros(6), np.zeros(14)) is None  # what a method that gave up proves


def cover(points, features):
    """Labelings of points in general position that a plane with a bias separates (Cover 1965)."""
    return 2 * sum(math.comb(points - 1, k) for k in range(features + 1))


@pytest.mark.parametrize(
    ("count", "features"), [(4, 1), (5, 2), (7, 1), (7, 2), (7, 3), (8, 3), (8, 4), (8, 6)]
)
def test_as_many_labelings_are_separable_as_cover_counts(count, features):
    points = np.random.default_rng(count).normal(size=(count, features))
    mixed = [y for y in itertools.product([0, 1], repeat=count) if 0 < sum(y) < count]
    assert sum(separable(points, y) for y in mixed) + 2 == cover(count, features)


def test_half_of_the_labelings_of_twice_as_many_points_are_separable():
    points = np.random.default_rng(3).normal(size=(8, 3))
    mixed = [y for y in itertools.product([0, 1], repeat=8) if 0 < sum(y) < 8]
    assert sum(separable(points, y) for y in mixed) + 2 == 2**8 / 2


@pytest.mark.parametrize("count", [30, 60])
def test_points_need_half_as_many_features_less_one(count):
    points = np.random.default_rng(count).normal(size=(count, 1, 100))
    found = simulated_capacity(list(points), repeats=300)
    error = found.capacity_se / found.capacity * found.critical_dimension
    # Balanced labelings are a little harder than all labelings, by up to half a feature.
    assert -3 * error < found.critical_dimension - (count / 2 - 1) < 0.6 + 3 * error


CORNER = (3 * math.acos(1 / 3) - math.pi) / (4 * math.pi)  # solid angle of a regular tetrahedron at a corner


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        # On a line, 2 of 4 points are at an end; in the plane, a corner is lost inside the other three
        # with twice its solid angle's share (Affentranger and Schneider 1992).
        ("one-vs-rest", [0, 1 / 2, 1 - 2 * CORNER, 1, 1]),
        # On a line, 1 split in 3 is by order. In the plane, all are separable where a corner is lost, else 2 in 3.
        ("balanced", [0, 1 / 3, 2 / 3 + 8 * CORNER / 3, 1, 1]),
    ],
)
def test_fractions_of_a_tetrahedron_are_its_angles(labels, expected):
    found = simulated_capacity(list(np.eye(4)[:, None]), labels=labels, repeats=1500)
    assert found.dimensions.tolist() == [0, 1, 2, 3, 4]
    errors = np.sqrt(np.array(expected) * (1 - np.array(expected)) / 1500)
    assert np.all(np.abs(found.separable_fraction - expected) <= 4 * errors)


def test_many_segments_come_near_the_theory_of_spheres():
    rng = np.random.default_rng(5)
    centers, axes = rng.normal(size=(2, 50, 150)) / math.sqrt(150)
    found = simulated_capacity(
        [np.array([c - a, c + a]) for c, a in zip(centers, axes, strict=True)], repeats=60
    )
    assert found.capacity == pytest.approx(sphere_capacity(1, 1.0), rel=0.08)


def test_standard_errors_match_the_spread_over_generators():
    points = list(np.random.default_rng(7).normal(size=(14, 1, 20)))
    runs = [
        simulated_capacity(points, repeats=40, generator=torch.Generator().manual_seed(s)) for s in range(40)
    ]
    spread = np.std([r.capacity for r in runs], ddof=1)
    claimed = math.sqrt(np.mean([r.capacity_se**2 for r in runs]))
    assert 0.7 < claimed / spread < 1.4
