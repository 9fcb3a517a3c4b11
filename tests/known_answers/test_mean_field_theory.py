"""Mean-field capacity against closed forms: points, segments, simplices, balls, Gaussian clouds."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from robustgeom.geometry import anchor_points, mean_field_capacity

THEORY = json.loads((Path(__file__).parent / "data" / "mft" / "theory.json").read_text())
RNG = np.random.default_rng


def inverse_capacity(shape, probes, seed, kappa=0.0):
    """Mean squared distance and its standard error for points `shape` (m, d) around a unit centre."""
    points = np.column_stack([shape, np.ones(len(shape))])
    drawn = RNG(seed).normal(size=(probes, points.shape[1]))
    squared = anchor_points(points, drawn, kappa=kappa).squared_distance
    return squared.mean(), squared.std(ddof=1) / math.sqrt(probes)


def sphere(count, dimension):
    """Spread points: equal angles on the circle, a golden-angle spiral on the sphere."""
    i = np.arange(count)
    if dimension == 2:
        return np.column_stack([np.cos(2 * np.pi * i / count), np.sin(2 * np.pi * i / count)])
    height, turn = 1 - (2 * i + 1) / count, i * np.pi * (3 - math.sqrt(5))
    ring = np.sqrt(1 - height**2)
    return np.column_stack([ring * np.cos(turn), ring * np.sin(turn), height])


@pytest.mark.parametrize("kappa", ["0", "0.1", "0.2", "0.5", "1", "2"])
def test_points(kappa):
    mean, error = inverse_capacity(np.zeros((1, 1)), 20_000, 1, kappa=float(kappa))
    assert abs(mean - 1 / THEORY["alpha0"][kappa]) < 4 * error


@pytest.mark.parametrize("radius", ["0.1", "0.5", "1", "2", "100"])
def test_segments(radius):
    expected = 1 / (0.5 + 2 / math.pi * math.atan(float(radius)))
    assert expected == pytest.approx(THEORY["alpha_segment_kappa0"][radius], rel=1e-12)
    mean, error = inverse_capacity(np.array([[1.0], [-1.0]]) * float(radius), 6000, 2)
    assert abs(mean - 1 / expected) < 4 * error


@pytest.mark.parametrize("count", [2, 3, 10, 20])
def test_simplices_of_orthogonal_rays(count):
    corners = (np.eye(count) - 1 / count) * math.sqrt(count)  # regular, radius sqrt(M - 1)
    assert np.linalg.norm(corners[0]) == pytest.approx(math.sqrt(count - 1))
    mean, error = inverse_capacity(corners, 3000, 3)
    assert abs(mean - count / 2) < 4 * error


@pytest.mark.parametrize(
    ("radius", "kappa", "dimension"), [(1, 0, 2), (0.5, 0, 3), (2, 0, 2), (0.5, 0.5, 2), (1, 0, 3)]
)
def test_balls_by_sampling(radius, kappa, dimension):
    shape = radius * sphere(300 if dimension == 2 else 600, dimension)
    expected = 1 / THEORY["alphaB"][f"k={kappa},R={radius},D={dimension}"]
    mean, error = inverse_capacity(shape, 1500, 4, kappa=kappa)
    assert -4 * error - 0.01 * expected < mean - expected < 4 * error  # the polytope lies inside the ball


@pytest.mark.parametrize(("dimension", "expected", "tolerance"), [(3, 0.608, 0.010), (10, 0.347, 0.005)])
def test_l1_balls(dimension, expected, tolerance):
    mean, error = inverse_capacity(np.vstack([np.eye(dimension), -np.eye(dimension)]), 6000, 5)
    assert abs(1 / mean - expected) < 2 * math.hypot(tolerance, error / mean**2)


def test_ball_anchors_have_the_papers_dimension():
    centers = 10 * np.eye(8, 60)
    shape = np.zeros((200, 60))
    shape[:, -2:] = 10 * sphere(200, 2)
    found = mean_field_capacity([c + shape for c in centers], n_t=400, center_basis=np.zeros((60, 0)))
    error = np.linalg.norm(found.dimension_paper_se) / found.P
    assert abs(found.dimension_paper.mean() - 2) < 4 * error
    # The centres lose 1/P of their squared norm to the common mean, so the radius is a little above 1.
    radius = 1 / math.sqrt(1 - 1 / 8)
    assert 0.85 * radius < found.mean_radius < radius


def test_gaussian_clouds_sit_on_their_floor():
    generator = torch.Generator().manual_seed(0)
    clouds = [torch.randn(20, 5000, generator=generator) for _ in range(30)]
    found = mean_field_capacity(clouds, n_t=100, center_basis=np.zeros((5000, 0)))
    assert found.floor == 0.1
    assert found.mean_capacity == pytest.approx(found.floor, rel=0.06)
    limit = THEORY["gaussian_cloud_limit"]
    assert found.mean_radius == pytest.approx(limit["R_M"], rel=0.06)
    assert found.mean_dimension == pytest.approx(20 * limit["D_over_M"], rel=0.06)


@pytest.mark.parametrize(
    "measure", ["capacity", "radius", "dimension", "dimension_paper", "mean_capacity", "mean_radius"]
)
def test_standard_errors_match_the_spread_over_independent_probes(measure, repeated):
    values = np.array([np.atleast_1d(getattr(r, measure)) for r in repeated])
    claimed = np.array([np.atleast_1d(getattr(r, f"{measure}_se")) for r in repeated])
    ratio = np.sqrt((claimed**2).mean() / values.var(axis=0, ddof=1).mean())
    assert 0.8 < ratio < 1.25


def test_standard_errors_match_a_jackknife_over_probes():
    rng = RNG(7)
    manifolds = [3 * rng.exponential(size=(5, 3)) ** 2 + rng.normal(size=3) for _ in range(4)]
    probes = [rng.normal(size=(120, 4)) for _ in manifolds]
    none = np.zeros((3, 0))
    found = mean_field_capacity(manifolds, probes=probes, center_basis=none)
    without = [[np.delete(p, i, axis=0) for p in probes] for i in range(120)]
    left = [mean_field_capacity(manifolds, probes=w, center_basis=none) for w in without]
    for measure in ("capacity", "radius", "dimension", "dimension_paper"):
        jackknife = np.sqrt(119 * np.var([getattr(r, measure) for r in left], axis=0))
        np.testing.assert_allclose(getattr(found, f"{measure}_se"), jackknife, rtol=0.05)


@pytest.fixture(scope="module")
def repeated():
    """One set of lopsided manifolds, measured with 100 independent sets of probes."""
    rng = RNG(6)
    manifolds = [
        2 * rng.exponential(size=(6, 12)) * rng.normal(size=12) + rng.normal(size=12) for _ in range(6)
    ]
    seeds = [torch.Generator().manual_seed(s) for s in range(100)]
    return [mean_field_capacity(manifolds, n_t=150, generator=g) for g in seeds]
