"""Manifold geometry against recorded numbers of an independent implementation, draw by draw."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from robustgeom.geometry import manifold_geometry

DATA = Path(__file__).parent / "data" / "glue"
SHIPPED = [
    "g06_overlap",
    "g08_fmnist_ovr",
    "g10_fmnist_given",
    "g11_fmnist_pair_0_6",
    "g13_fmnist_pair_centered_all",
    "g17_fmnist_ovr_centered_bias",
]
OTHERS = [
    "g01_points",
    "g02_spheres",
    "g03_spheres_corr",
    "g05_clouds_ovr",
    "g07_fmnist_all",
    "g14_fmnist_shuffled_ovr",
    "g15_fmnist_point",
]
SCALARS = {
    "dimension": "dimension",
    "radius": "radius",
    "utility": "utility",
    "active": "active_fraction",
    "center_alignment": "center_align_abs_cos",
    "axis_alignment": "axis_align_abs_cos",
    "center_axis_alignment": "center_axis_align_abs_cos",
}
TOLERANCE = 1e-6


def loaded(path):
    with np.load(path) as stored:
        return dict(stored)


def manifest(folder):
    return {case["name"]: case for case in json.loads((folder / "manifest.json").read_text())["cases"]}


def pixels(folder, case, count, size):
    """Fashion-MNIST images of the recorded training rows, dealt in the recorded order."""
    images = loaded(folder / "fmnist_pixels.npz")
    place = {int(row): i for i, row in enumerate(images["train_index"].ravel())}
    flat = images["images"].reshape(len(place), -1) / 255
    points = flat[[place[int(row)] for row in case["train_index"].ravel()]]
    order = case.get("permutation", np.arange(len(points)))
    return points[order].reshape(count, size, -1)


def problem(folder, entry, case):
    """What the recorded draws were made of, as arguments."""
    if "X" in case:
        return {"manifolds": list(case["X"]), "probes": case["T"], "labels": case["Y"]}
    probes = loaded(folder / "fmnist_T.npz")["T"][: entry["n_t"]]
    centering = "global" if case["centered"] else "none"
    if "T_extra_column" in case:
        probes, centering = np.hstack([probes, case["T_extra_column"]]), "affine"
    manifolds = list(pixels(folder, case, entry["P"], entry["M"]))
    return {"manifolds": manifolds, "probes": probes, "labels": case["Y"], "centering": centering}


def answered(folder, name, anchors):
    entry = manifest(folder)[name]
    case = loaded(folder / entry["file"])
    arguments = problem(folder, entry, case)
    return entry, case, manifold_geometry(arguments.pop("manifolds"), anchors=anchors, **arguments)


def check_capacity(entry, case, found, anchors):
    np.testing.assert_allclose(found.cone, case["cone"], rtol=0, atol=TOLERANCE)
    assert found.capacity == pytest.approx(entry["results"][anchors]["capacity"], abs=TOLERANCE)
    recorded = entry["standard_error"]["a"] * entry["P"] / case["cone"].mean() ** 2
    assert found.capacity_se == pytest.approx(recorded, rel=TOLERANCE)
    assert found.unique == pytest.approx(entry["fraction_unique_duals"], abs=1e-12)
    assert (found.P, found.n_t, found.M) == (entry["P"], entry["n_t"], (entry["M"],) * entry["P"])


def check_geometry(entry, case, found, anchors):
    """Only where multipliers are unique and anchors spread: elsewhere the numbers are the solver's."""
    for letter, own in (("a", found.cone), ("b", found.axis), ("c", found.spread)):
        np.testing.assert_allclose(own, case[f"{anchors}_{letter}"], rtol=0, atol=TOLERANCE)
    recorded = entry["results"][anchors]
    for name, theirs in SCALARS.items():
        assert getattr(found, name) == pytest.approx(recorded[theirs], abs=TOLERANCE), name
    signed = found.center_cosine[~np.eye(found.P, dtype=bool)].mean()
    assert signed == pytest.approx(recorded["center_align_signed_cos"], abs=TOLERANCE)
    if anchors == "support":
        gram = case["center_gram_support"]
        cosine = gram / np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
        np.testing.assert_allclose(found.center_cosine, cosine, rtol=0, atol=TOLERANCE)
        assert found.dimension_se == pytest.approx(entry["standard_error"]["b"] / entry["P"], rel=TOLERANCE)


def check(folder, name, anchors):
    entry, case, found = answered(folder, name, anchors)
    check_capacity(entry, case, found, anchors)
    if entry["geometry_comparable"]:
        check_geometry(entry, case, found, anchors)


@pytest.mark.parametrize("anchors", ["support", "masked", "zero"])
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_cases_are_met_draw_by_draw(name, anchors):
    check(DATA, name, anchors)


@pytest.mark.slow
@pytest.mark.parametrize("anchors", ["support", "masked", "zero"])
@pytest.mark.parametrize("name", OTHERS)
def test_all_other_cases_are_met_draw_by_draw(golden, name, anchors):
    check(golden / "glue", name, anchors)


@pytest.mark.slow
def test_no_recorded_case_is_left_out(golden):
    assert sorted(manifest(golden / "glue")) == sorted(SHIPPED + OTHERS)
    assert sorted(manifest(DATA)) == sorted(SHIPPED)


def test_overlapping_clouds_bind_every_point_and_sit_on_the_floor():
    found = answered(DATA, "g06_overlap", "support")[2]
    assert (found.degenerate, found.unique) == (1, 0)
    assert found.floor == 4 / 20
    assert abs(found.capacity - found.floor) < 4 * found.capacity_se


def test_a_centred_pair_binds_every_point_where_its_labels_are_equal():
    entry, case, found = answered(DATA, "g13_fmnist_pair_centered_all", "support")
    equal = case["Y"][:, 0] == case["Y"][:, 1]
    assert found.degenerate == equal.mean() == 1 - found.unique
    points = np.concatenate(pixels(DATA, case, entry["P"], entry["M"]))
    basis = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2][: len(points) - 1]
    probes = loaded(DATA / "fmnist_T.npz")["T"]
    np.testing.assert_allclose(found.cone[equal], np.square(probes[equal] @ basis.T).sum(axis=1), rtol=1e-9)
