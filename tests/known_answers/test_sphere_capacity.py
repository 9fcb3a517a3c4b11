"""Capacity of points, balls and spheres against recorded tables, closed forms and simulations."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from robustgeom.geometry import anchor_points, point_capacity, sphere_capacity

DATA = Path(__file__).parent / "data"
SPHERES = json.loads((DATA / "spheres" / "spheres.json").read_text())
THEORY = json.loads((DATA / "mft" / "theory.json").read_text())


def row_name(row):
    return f"K={row['K']},rho={row['rho']},kappa={row['kappa']}"


@pytest.mark.parametrize("row", SPHERES["table"], ids=row_name)
def test_both_formulas_equal_the_recorded_table(row):
    dimension, radius, kappa = row["K"], row["rho"], row["kappa"]
    exact = sphere_capacity(dimension, radius, kappa=kappa)
    large = sphere_capacity(dimension, radius, kappa=kappa, large=True)
    assert exact == pytest.approx(row["alpha_exact"], rel=1e-9)
    assert large == pytest.approx(row["alpha_meanfield"], rel=1e-9)
    # The released notebook's root finder fails from rho = 1 on, and only there.
    assert (large == pytest.approx(row["alpha_notebook"], rel=1e-6)) is row["notebook_agrees"]
    assert row["notebook_agrees"] or radius >= 1


@pytest.mark.parametrize("case", THEORY["alphaB"])
def test_balls_have_the_capacity_of_their_spheres(case):
    kappa, radius, dimension = (float(part.split("=")[1]) for part in case.split(","))
    expected = THEORY["alphaB"][case]
    assert sphere_capacity(dimension, radius, kappa=kappa) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kappa", THEORY["alpha0"])
def test_points(kappa):
    expected = THEORY["alpha0"][kappa]
    assert point_capacity(float(kappa)) == pytest.approx(expected, rel=1e-12)
    for large in (False, True):
        found = sphere_capacity(5, 0.0, kappa=float(kappa), large=large)
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("dimension", "radius", "kappa", "printed"),
    [
        (1, 0.1, 0, 1.774777),
        (5, 0.5, 0, 0.576511),
        (50, 2, 0, 0.024876),
        (2, 1, 0.5, 0.426334),
        (7, 0.25, 0, 0.83712),
        (30, 0.25, 0, 0.37417),
        (30, 1, 0, 0.06452),
        (100, 0.5, 0, 0.04808),
    ],
)
def test_printed_values(dimension, radius, kappa, printed):
    assert sphere_capacity(dimension, radius, kappa=kappa) == pytest.approx(printed, abs=6e-6)


@pytest.mark.parametrize("dimension", [1, 2, 3.5, 10, 300, 1e5])
def test_radius_one_makes_a_self_dual_cone(dimension):
    assert sphere_capacity(dimension, 1.0) == pytest.approx(2 / (dimension + 1), rel=1e-9)


@pytest.mark.parametrize("dimension", [1, 2, 7, 50])
@pytest.mark.parametrize("large", [False, True])
def test_huge_spheres_cost_their_dimension_and_half(dimension, large):
    assert sphere_capacity(dimension, 1e6, large=large) == pytest.approx(1 / (dimension + 0.5), rel=1e-5)


@pytest.mark.parametrize("radius", [1e-6, 0.01, 0.25, 0.5, 1, 2, 5, 100, 1e5])
def test_segments(radius):
    expected = 1 / (0.5 + 2 / math.pi * math.atan(radius))
    assert sphere_capacity(1, radius) == pytest.approx(expected, rel=1e-8)


def test_a_cone_and_its_polar_share_the_space():
    # At kappa = 0 the inverse capacity is the statistical dimension of a cone; radius 1 / R is its polar.
    for dimension in (1, 2, 6, 40):
        for radius in (0.03, 0.4, 0.9):
            both = 1 / sphere_capacity(dimension, radius) + 1 / sphere_capacity(dimension, 1 / radius)
            assert both == pytest.approx(dimension + 1, rel=1e-8)


@pytest.mark.parametrize(
    ("radius", "norm", "axes", "centers"), [(0.5, 3, 0.7, 0.85), (0.2, 1.2, 0.7, 0.85), (None, 1, 0, 0)]
)
def test_correlations_act_only_through_effective_lengths(radius, norm, axes, centers):
    ratio = 0.5 * math.sqrt(0.3) / (3 * math.sqrt(0.15))
    lengths = {"axis_correlation": axes, "center_correlation": centers, "center_norm": norm}
    exact, large = (sphere_capacity(7, radius or ratio, large=large, **lengths) for large in (False, True))
    assert exact == pytest.approx(sphere_capacity(7, ratio), rel=1e-12)
    assert large == pytest.approx(0.83986, abs=5e-6)
    margin = sphere_capacity(7, radius or ratio, kappa=0.3 * norm * math.sqrt(1 - centers), **lengths)
    assert margin == pytest.approx(sphere_capacity(7, ratio, kappa=0.3), rel=1e-12)


@pytest.mark.parametrize("run", SPHERES["monte_carlo"], ids=lambda r: f"lam={r['lam']},psi={r['psi']}")
def test_correlated_spheres_by_monte_carlo(run):
    found = sphere_capacity(
        run["K"],
        run["r"],
        axis_correlation=run["lam"],
        center_correlation=run["psi"],
        center_norm=run["r0"],
    )
    assert found == pytest.approx(run["theory_exact"], rel=1e-9)
    assert abs(found - run["alpha"]) < 2.5 * run["alpha_se"]


@pytest.mark.parametrize("run", SPHERES["released_simulation"], ids=lambda r: f"rho={r['rho']}")
def test_released_simulations(run):
    assert sphere_capacity(7, run["rho"]) == pytest.approx(run["exact"], rel=1e-9)
    assert sphere_capacity(7, run["rho"], large=True) == pytest.approx(run["theory"], rel=1e-9)
    error = run["sd"] / math.sqrt(run["n"])
    assert abs(sphere_capacity(7, run["rho"]) - run["alpha_sim"]) < 0.04 * run["alpha_sim"] + 3 * error


@pytest.mark.parametrize(("radius", "kappa"), [(0.5, 0.0), (2.0, 0.0), (1.0, 0.5)])
def test_circles_by_sampled_probes(radius, kappa):
    angles = 2 * np.pi * np.arange(400) / 400
    circle = np.column_stack([radius * np.cos(angles), radius * np.sin(angles), np.ones(400)])
    probes = np.random.default_rng(0).normal(size=(2000, 3))
    squared = anchor_points(circle, probes, kappa=kappa).squared_distance
    error = squared.std(ddof=1) / math.sqrt(len(squared))
    assert abs(squared.mean() - 1 / sphere_capacity(2, radius, kappa=kappa)) < 4 * error
