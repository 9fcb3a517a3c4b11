"""Mean-field capacity against recorded numbers of the reference implementation and of an exact solve."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from robustgeom.geometry import anchor_points, mean_field_capacity, reduced_points

DATA = Path(__file__).parent / "data" / "mft"
CASES = [
    "e_ellipsoid_r1.0",
    "f1_fmnist_P10_M50",
    "g1_gauss_P10_M20_N100",
    "g1_kappa02",
    "n_N_less_than_M",
    "t1_tiny_P2_K0",
    "t2_tiny_P3_K0",
    "x1_single_points",
    "x2_duplicate_points",
    "x3_collinear",
    "x4_constant_manifold",
]


WHOLE = [
    *CASES,
    "c1_lowrank_centers",
    "c3_offset_centers",
    "e_ellipsoid_r0.1",
    "e_ellipsoid_r3.0",
    "f1_fmnist_K0",
    "g1_nreps10",
    "g2_gauss_P20_M30_N300",
    "g3_gauss_P40_M50_N1000",
    "s_line_D1_R1",
    "t3_P8_full",
]
RAISED = ["t1_tiny_P2_M3_N10", "t2_tiny_P3_M3_N10", "t3_P4_full", "t3_P5_full", "t3_P6_full"]
SAME_POINTS = {
    "g1_kappa02": "g1_gauss_P10_M20_N100",
    "g1_nreps10": "g1_gauss_P10_M20_N100",
    "f1_fmnist_K0": "f1_fmnist_P10_M50",
}


def points_of(name, folder):
    """Recorded points (P, N, M), or those drawn again of which a recording keeps the recipe."""
    if name == "g3_gauss_P40_M50_N1000":
        draw = np.random.RandomState(3)
        return np.stack([draw.randn(1000, 50) for _ in range(40)])
    with np.load(folder / f"{SAME_POINTS.get(name, name)}.npz") as stored:
        return stored["X_u8"] / 255.0 if "X_u8" in stored else stored["X"]


def load(name, folder=DATA):
    with np.load(folder / f"{name}.npz") as stored:
        case = {key: stored[key] for key in stored.files}
    points = points_of(name, folder)
    case["manifolds"] = [p.T for p in points]
    case.setdefault("V11", np.zeros((points.shape[1], 0)))
    case.setdefault("kappa", 0.2 if name == "g1_kappa02" else 0.0)
    return case


@pytest.fixture(params=[*CASES, *(pytest.param(f"whole {n}", marks=pytest.mark.slow) for n in WHOLE)])
def case(request):
    name = request.param.removeprefix("whole ")
    return load(name) if name == request.param else load(name, request.getfixturevalue("golden") / "mft")


def rotated(probes, stored, own):
    """The recorded probes in our reduced coordinates: the basis of a reduction is free, lengths are not."""
    left, _, right = np.linalg.svd(stored[:, :-1].T @ own[:, :-1])
    return np.column_stack([probes[:, :-1] @ left @ right, probes[:, -1]])


def test_squared_distances_multipliers_and_anchors_of_recorded_probes(case):
    for i, (points, probes) in enumerate(zip(case["sD1"], case["T"], strict=True)):
        found = anchor_points(points.T, probes.T, kappa=float(case["kappa"]))
        np.testing.assert_allclose(found.squared_distance, case["exact_dist2"][i], rtol=0, atol=1e-11)
        np.testing.assert_allclose(found.squared_distance, case["ref_dist2"][i], rtol=0, atol=1e-9)
        np.testing.assert_allclose(found.multiplier, case["exact_lambda"][i], rtol=0, atol=1e-11)
        if "ref_s_tilde" in case:
            np.testing.assert_allclose(found.anchors.T, case["ref_s_tilde"][i], rtol=0, atol=1e-5)


def test_reduced_points_have_the_recorded_inner_products(case):
    reduced = reduced_points(case["manifolds"], case["V11"])
    for own, stored in zip(reduced, case["sD1"], strict=False):
        assert own.shape == stored.T.shape
        np.testing.assert_allclose(own @ own.T, stored.T @ stored, rtol=1e-12, atol=1e-12)


def test_whole_pipeline_with_recorded_basis_and_probes(case):
    kept = len(case["T"])
    reduced = reduced_points(case["manifolds"], case["V11"])
    probes = [case["T"][0].T] * len(reduced)  # stand-ins where the recording was trimmed
    for i in range(kept):
        probes[i] = rotated(case["T"][i].T, case["sD1"][i].T, reduced[i])
    found = mean_field_capacity(
        case["manifolds"], kappa=float(case["kappa"]), probes=probes, center_basis=case["V11"]
    )
    for source in ("a_Mfull", "exact_a"):
        np.testing.assert_allclose(found.capacity[:kept], case[source][:kept], rtol=1e-9)
    for source in ("R_M", "exact_R"):
        np.testing.assert_allclose(found.radius[:kept], case[source][:kept], rtol=0, atol=1e-6)
    for source in ("D_M", "exact_D"):
        np.testing.assert_allclose(found.dimension[:kept], case[source][:kept], rtol=0, atol=1e-5)
    assert (found.K, found.n_t, found.P) == (int(case["K"]), len(probes[0]), len(reduced))
    if "res_coeff" in case:
        assert found.center_correlation == pytest.approx(float(case["center_corr"]), abs=1e-12)


def test_collinear_points_have_dimension_one_in_the_papers_form():
    case = load("x3_collinear")
    found = mean_field_capacity(case["manifolds"], n_t=2000, center_basis=case["V11"])
    error = np.linalg.norm(found.dimension_paper_se) / found.P
    assert abs(found.dimension_paper.mean() - 1) < 4 * error
    assert found.mean_dimension < 0.75


def test_own_center_step_and_probes_agree_with_the_recorded_aggregate_on_low_correlations():
    case = load("e_ellipsoid_r1.0")
    found = mean_field_capacity(case["manifolds"], n_t=1000)
    recorded = 1 / np.mean(1 / case["a_Mfull"])
    assert found.mean_capacity == pytest.approx(recorded, rel=0.08)


@pytest.mark.slow
@pytest.mark.parametrize("name", RAISED)
def test_with_few_manifolds_no_centre_direction_is_removed_where_the_reference_raised(golden, name):
    manifolds = [points.T for points in points_of(name, golden / "mft")]
    found = mean_field_capacity(manifolds, n_t=200)
    plain = mean_field_capacity(manifolds, n_t=200, center_basis=np.zeros((manifolds[0].shape[1], 0)))
    assert (found.K, found.residual_norm_ratio) == (0, 1.0)
    np.testing.assert_array_equal(found.capacity, plain.capacity)
    np.testing.assert_array_equal(found.radius, plain.radius)


@pytest.mark.slow
def test_no_recorded_case_is_left_out(golden):
    recorded = json.loads((golden / "mft" / "manifest.json").read_text())["cases"]
    other_tests = {"fa_cost_cases", "readme_P100_M50_N5000"} | {n for n in recorded if n.startswith("sc")}
    assert set(recorded) == set(WHOLE) | set(RAISED) | other_tests


@pytest.mark.slow
def test_the_recorded_run_of_the_readme_agrees_within_its_error(golden):
    """100 clouds of 50 points: without probes on record, and with the reference's own centre step."""
    draw = np.random.RandomState(0)
    found = mean_field_capacity([draw.randn(5000, 50).T for _ in range(100)], n_t=200)
    with np.load(golden / "mft" / "readme_P100_M50_N5000.npz") as stored:
        recorded = 1 / np.mean(1 / stored["a_Mfull"])
        assert abs(found.mean_capacity - recorded) < 4 * np.sqrt(2) * found.mean_capacity_se
        assert abs(found.mean_radius - stored["R_M"].mean()) < 4 * np.sqrt(2) * found.mean_radius_se
        assert abs(found.mean_dimension - stored["D_M"].mean()) < 4 * np.sqrt(2) * found.mean_dimension_se
