"""Capacity of correlated manifolds against recorded numbers of the reference, which works in whitened coordinates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import nnls

from robustgeom.geometry import anchor_points, manifold_geometry, mean_field_capacity, project_on_cone

DATA = Path(__file__).parent / "data" / "correlated"
SHIPPED = ["c05_clouds_both_margin", "c06_jitter"]
WHOLE = [
    "c01_clouds_uncorr",
    "c02_clouds_centres",
    "c03_clouds_axes",
    "c05_clouds_both_margin",
    "c06_jitter",
    "c07_fmnist15",
]
TERMS = {
    "within": "individual",
    "center_center": "cent_cent",
    "axis_axis": "ax_ax",
    "center_axis": "cent_ax",
}


def load(name, folder=DATA):
    with np.load(folder / f"{name}.npz") as stored:
        case = dict(stored)
    case.setdefault("kappa", 0.3 if name == "c05_clouds_both_margin" else 0.0)
    case["size"] = case["coords"].shape[1]
    case["rows"] = np.split(case["L"], len(case["coords"]))  # of the factor, by manifold
    case["manifolds"] = [c.T @ r for c, r in zip(case["coords"], case["rows"], strict=True)]
    case["probes"] = case["t"].transpose(2, 0, 1).reshape(len(case["y"]), -1)
    return case


@pytest.fixture(params=[*SHIPPED, *(pytest.param(f"whole {n}", marks=pytest.mark.slow) for n in WHOLE)])
def case(request):
    name = request.param.removeprefix("whole ")
    return (
        load(name) if name == request.param else load(name, request.getfixturevalue("golden") / "correlated")
    )


def geometry(case, rows=slice(None)):
    return manifold_geometry(
        case["manifolds"], labels=case["y"][rows], probes=case["probes"][rows], kappa=float(case["kappa"])
    )


def exact_terms(case, draw):
    """The four terms of one draw from another solver's multipliers, in local coordinates and their Gram matrix."""
    count, size = len(case["y"][draw]), case["size"]
    signed = np.concatenate([y * m for y, m in zip(case["y"][draw], case["manifolds"], strict=True)])
    target = case["probes"][draw]
    if case["kappa"] > 0:
        target = target + case["kappa"] * np.linalg.lstsq(signed, np.ones(len(signed)), rcond=None)[0]
    multipliers = np.split(nnls(signed.T, target)[0], count)
    forces = [
        y * (c @ m) for y, c, m in zip(case["y"][draw], case["coords"], multipliers, strict=True)
    ]  # on axes, and on the centre last
    pairs = (case["L"] @ case["L"].T).reshape(count, size, count, size) * np.multiply.outer(forces, forces)
    center, axis, mixed = pairs[:, -1, :, -1], pairs[:, :-1, :, :-1].sum((1, 3)), pairs[:, -1, :, :-1].sum(2)
    apart = ~np.eye(count, dtype=bool)
    within = np.einsum("mimj->", pairs)
    return [within, center[apart].sum(), axis[apart].sum(), 2 * mixed[apart].sum()]


def test_norms_are_met_draw_by_draw(case):
    found = geometry(case)
    np.testing.assert_allclose(found.cone, case["norms"], rtol=1e-6, atol=1e-6)
    assert found.capacity == pytest.approx(len(case["coords"]) / case["norms"].mean(), rel=1e-6)


def test_terms_are_met_as_far_as_the_reference_solved_them(case):
    """They are differences of forces that its solver left inexact; the largest, within manifolds, sets the scale."""
    found, count = geometry(case), len(case["coords"])
    scale = case["individual"].mean() / count
    for own, recorded in TERMS.items():
        assert found.terms[own] == pytest.approx(case[recorded].mean() / count, abs=2e-6 * scale), own
    assert sum(found.terms.values()) == pytest.approx(1 / found.capacity, rel=1e-9 * max(1, scale))


def test_terms_are_those_of_another_solver_in_local_coordinates(case):
    found = geometry(case, slice(10))
    exact = np.mean([exact_terms(case, draw) for draw in range(10)], axis=0) / len(case["coords"])
    np.testing.assert_allclose(list(found.terms.values()), exact, rtol=0, atol=1e-9 * exact[0])


def check_neuron_space(case):
    found = manifold_geometry(list(case["X"]), labels=case["y"], probes=case["T_neuron_space"])
    np.testing.assert_allclose(found.cone, case["cone_neuron_space"], rtol=1e-6, atol=1e-6)
    return found


def test_more_points_than_features_need_no_jitter():
    found = check_neuron_space(load("c06_jitter"))
    assert (found.N, sum(found.M)) == (60, 75)


@pytest.mark.slow
def test_more_points_than_features_need_no_jitter_whole(golden):
    found = check_neuron_space(load("c06_jitter", golden / "correlated"))
    recorded = json.loads((golden / "correlated" / "manifest.json").read_text())["cases"]
    exact = next(c["exact_neuron_space_capacity"] for c in recorded if c["name"] == "c06_jitter")
    assert found.capacity == pytest.approx(exact, abs=1e-6)


@pytest.mark.slow
def test_the_constraints_have_the_recorded_sign(golden):
    """The recorded nearest v satisfies `label * point . v <= -margin` in each draw, and touches some."""
    for name in WHOLE:
        case = load(name, golden / "correlated")
        signed = np.repeat(case["y"], case["coords"].shape[2], axis=1)
        values = signed * (case["v"] @ np.concatenate(case["manifolds"]).T)
        np.testing.assert_allclose(values.max(axis=1), -case["kappa"], rtol=0, atol=2e-5)
        squared = np.square(case["v"] - case["probes"]).sum(axis=1)
        np.testing.assert_allclose(squared, geometry(case).cone, rtol=1e-6, atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["c01_clouds_uncorr", "c02_clouds_centres", "c03_clouds_axes", "c06_jitter"])
def test_mean_field_without_a_centre_step_is_met(golden, name):
    case = load(name, golden / "correlated")
    found = mean_field_capacity(
        list(case["X"]), probes=[t.T for t in case["mf_t"]], center_basis=np.zeros((case["X"].shape[2], 0))
    )
    np.testing.assert_allclose(found.capacity, case["mf_alpha"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.radius, case["mf_R"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.dimension, case["mf_D"], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_mean_field_with_a_margin_is_met_in_local_coordinates(golden):
    """Its points are not on record, but their coordinates are, and the centres' inner products."""
    case = load("c05_clouds_both_margin", golden / "correlated")
    centers = np.stack([rows[-1] for rows in case["rows"]])
    norms = np.linalg.norm(centers - centers.mean(axis=0), axis=1)
    for coords, norm, probes, recorded in zip(
        case["coords"], norms, case["mf_t"], case["mf_alpha"], strict=True
    ):
        points = np.column_stack([coords[:-1].T / norm, np.ones(coords.shape[1])])
        found = anchor_points(points, probes.T, kappa=0.3)
        assert 1 / found.squared_distance.mean() == pytest.approx(recorded, abs=1e-6)


def on_spheres(axes, centers, probe, labels):
    """Squared projection on the cone of whole spheres: points are added where they are most in the way."""
    rows = labels[:, None] * centers
    while True:
        found = project_on_cone(rows, probe[None])
        nearest = probe - found.projections[0]
        along = labels[:, None] * np.einsum("pni,n->pi", axes, nearest)
        unit = along / np.linalg.norm(along, axis=1, keepdims=True)
        worst = labels[:, None] * (centers + np.einsum("pni,pi->pn", axes, unit))
        broken = worst @ nearest > 1e-7
        if not broken.any():
            return found.squared_distance[0]
        rows = np.concatenate([rows[found.multipliers[0] > 0], worst[broken]])


@pytest.mark.slow
@pytest.mark.parametrize("kind", range(4))
def test_spheres_are_met_draw_by_draw(golden, kind):
    with np.load(golden / "correlated" / "s01_spheres_mc.npz") as stored:
        axes, centers, probes, labels, norms = (
            stored[f"{name}{kind}"] for name in ("axes", "centers", "T", "Y", "norm")
        )
    found = [on_spheres(axes, centers, t, y) for t, y in zip(probes, labels, strict=True)]
    np.testing.assert_allclose(found, norms, rtol=1e-6)
