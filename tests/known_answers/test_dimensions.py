"""Dimensions against recorded numbers and against shapes whose dimension is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import linregress

from robustgeom.geometry import (
    covariance_spectrum,
    explained_variance_dimension,
    mle_dimension,
    participation_ratio,
    spectrum_exponent,
    two_nn_dimension,
)

DATA = Path(__file__).parent / "data"
RECORDED = json.loads((DATA / "dimension" / "dimensions.json").read_text())


def all_points(name):
    with np.load(DATA / "mft" / f"{name}.npz") as stored:
        points = stored["X_u8"] / 255.0 if "X_u8" in stored.files else stored["X"]
    return np.concatenate([p.T for p in points])


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_linear_dimensions(name):
    points, recorded = all_points(name), RECORDED[name]
    assert participation_ratio(points) == pytest.approx(recorded["D_pr_textbook"], rel=1e-9)
    assert explained_variance_dimension(points) == recorded["D_expvar90_textbook"]
    assert explained_variance_dimension(points, reference=True) == recorded["D_expvar90"]
    spectrum = covariance_spectrum(points)[:-1]  # the reference leaves the last one out
    assert spectrum.sum() ** 2 / (spectrum**2).sum() == pytest.approx(recorded["D_pr"], rel=1e-9)


def cube(rng, d):
    return rng.uniform(size=(1500, d))


def sphere(rng, d):
    points = rng.normal(size=(1500, d + 1))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def torus(rng, d):
    """A flat torus: d circles, without edges and of constant density."""
    angles = rng.uniform(0, 2 * np.pi, size=(1500, d))
    return np.hstack([np.cos(angles), np.sin(angles)])


def roll(rng, d):
    turn = rng.uniform(1.5 * np.pi, 4.5 * np.pi, size=1500)
    flat = 20 * rng.uniform(size=(1500, d - 1))
    return np.column_stack([turn * np.cos(turn), turn * np.sin(turn), flat])


@pytest.mark.parametrize("estimate", [two_nn_dimension, mle_dimension])
@pytest.mark.parametrize(
    ("shape", "d", "low", "high"),
    [
        *[(cube, d, 0.16, 0.06) for d in (2, 3, 4, 5)],  # edges lower the estimate
        *[(sphere, d, 0.08, 0.08) for d in (1, 2, 3, 5)],
        *[(torus, d, 0.08, 0.08) for d in (1, 2, 3)],
        *[(roll, d, 0.1, 0.1) for d in (2, 3)],
    ],
)
def test_shapes_of_known_dimension(estimate, shape, d, low, high):
    rng = np.random.default_rng(d)
    frame = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    points = shape(rng, d)
    found = estimate(points @ frame[: points.shape[1]] + 3)
    assert (1 - low) * d < found.dimension < (1 + high) * d
    assert (found.points, found.duplicates) == (1500, 0)
    assert 0 < found.standard_error < 0.05 * d


@pytest.mark.parametrize("estimate", [two_nn_dimension, mle_dimension])
def test_the_standard_error_is_the_scatter_of_fresh_samples(estimate):
    found = [estimate(torus(np.random.default_rng(seed), 2)[:400]) for seed in range(40)]
    scatter = np.std([f.dimension for f in found])
    assert 0.6 * scatter < np.mean([f.standard_error for f in found]) < 1.3 * scatter


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.7])
def test_a_planted_power_law_is_found(exponent):
    axes = np.diag(np.arange(1.0, 121.0) ** (-exponent / 2))
    points = np.vstack([axes, -axes]) @ np.linalg.qr(np.random.default_rng(0).normal(size=(120, 120)))[0]
    found = spectrum_exponent(points, first=1, last=120)
    assert found.exponent == pytest.approx(exponent, abs=1e-9)
    assert found.standard_error < 1e-9
    sampled = np.random.default_rng(1).normal(size=(6000, 120)) @ axes
    noisy = spectrum_exponent(sampled, first=5, last=60)
    assert noisy.exponent == pytest.approx(exponent, abs=0.05)
    assert 0 < noisy.standard_error < 0.02


def test_the_slope_and_its_error_are_those_of_least_squares():
    points = np.random.default_rng(0).normal(size=(50, 30))
    found = spectrum_exponent(points, first=3, last=20)
    fit = linregress(np.log(np.arange(3, 21)), np.log(covariance_spectrum(points)[2:20]))
    assert (found.exponent, found.standard_error) == pytest.approx((-fit.slope, fit.stderr), rel=1e-10)
