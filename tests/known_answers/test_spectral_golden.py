"""Spectral theory of ridge regression, and measured ridge errors, against recorded numbers of the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robustgeom.geometry import empirical_ridge_curve, spectral_alignment

DATA = Path(__file__).parent / "data" / "snap"
NAMES = ["a_few_features", "a_few_features_ridgeless", "b_many_features", "c_fmnist"]
MEASURED = ["a_few_features", "a_few_features_ridgeless", "c_fmnist"]


def stored(name):
    with np.load(DATA / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def planted(eigenvalues, powers):
    """Activations and targets of just this spectrum; the last mode is the constant, as after centring."""
    count = len(eigenvalues)
    ones = np.ones((count, 1))
    noise = np.random.default_rng(0).normal(size=(count, count - 1))
    basis = np.roll(np.linalg.qr(np.hstack([ones, noise]))[0], -1, axis=1) * np.sqrt(count)
    return basis * np.sqrt(eigenvalues), basis @ np.sqrt(powers)


def load(name, centred):
    raw = stored(name)
    prefix = "cent_" if centred else "uncent_"
    case = {key.removeprefix(prefix): value for key, value in raw.items() if key.startswith(prefix)}
    case |= {"sizes": raw["pvals"], "ridge": float(raw["reg"]), "centred": centred}
    if name == "b_many_features":
        case["X"], case["Y"] = planted(case["eigs"], case["power"])
    elif name == "c_fmnist":
        case["X"], case["Y"] = raw["x_uint8"].reshape(300, -1) / 255.0, np.eye(10)[raw["labels"]]
    else:
        source = stored("a_few_features")
        case["X"], case["Y"] = source["X"], source["Y"]
    splits = len(case.get("emp_gen_errs", []))
    case["indices"] = [[raw[f"split_p{p}_t{t}"] for t in range(splits)] for p in raw["pvals"]]
    return case


def theory(case, ridge=None):
    sizes, ridge = case["sizes"].tolist(), case["ridge"] if ridge is None else ridge
    return spectral_alignment(case["X"], case["Y"], train_sizes=sizes, ridge=ridge, center=case["centred"])


def measured(case):
    return empirical_ridge_curve(
        case["X"], case["Y"], indices=case["indices"], ridge=case["ridge"], center=case["centred"]
    )


@pytest.fixture(params=[True, False], ids=["centred", "raw"])
def centred(request):
    return request.param


@pytest.mark.parametrize("name", NAMES)
def test_spectrum_effective_ridge_and_errors(name, centred):
    case = load(name, centred)
    found = theory(case)
    rank = len(case["eigs"]) - found.null_directions
    np.testing.assert_allclose(found.eigenvalues[:rank], case["eigs"][:rank], rtol=1e-9)
    np.testing.assert_allclose(found.kappa, case["th_kappa"], rtol=1e-8)
    np.testing.assert_allclose(found.gamma, case["th_gamma"], rtol=1e-8)
    np.testing.assert_allclose(found.target_errors, case["th_gen_theory"], rtol=1e-8)
    np.testing.assert_allclose(found.error, case["th_gen_theory"].sum(axis=1), rtol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_companions(name, centred):
    case = load(name, centred)
    found, ridgeless = theory(case), theory(case, ridge=1e-14)
    assert found.participation_ratio == pytest.approx(float(case["eff_dim"]), rel=1e-9)
    assert [found.spectrum_modes] == case["geo_ranks_eig"].tolist()
    assert [found.power_modes] == case["geo_ranks_weight"].tolist()
    below = case["sizes"] < len(found.eigenvalues) - 1
    roots = np.sqrt(ridgeless.unlearned_dimension), np.sqrt(ridgeless.mode_error_dimension)
    np.testing.assert_allclose(roots[0][below], case["geo_dyn_eds"][below], rtol=1e-6)
    np.testing.assert_allclose(roots[1][below], case["geo_dyn_null_eds"][below], rtol=1e-6)
    # The reference averages over targets what the theory pools.
    own = np.cumsum(found.target_weights / found.target_weights.sum(axis=0), axis=0).mean(axis=1)
    rank = len(case["eigs"]) - found.null_directions
    np.testing.assert_allclose(own[:rank], case["cum_power"][:rank], rtol=1e-9)


def test_what_few_features_cannot_reach(centred):
    case = load("a_few_features", centred)
    found = theory(case)
    assert found.null_directions == 120
    shares = found.target_weights[-1] / found.target_weights.sum(axis=0)
    np.testing.assert_allclose(shares, case["orkhs_power"], rtol=1e-6)


@pytest.mark.parametrize("name", ["b_many_features", "c_fmnist"])
def test_error_radius_and_dimension_where_no_null_power_is(name, centred):
    case = load(name, centred)
    found, ridgeless = theory(case), theory(case, ridge=1e-14)
    np.testing.assert_allclose(found.error_radius, case["Rem_ridge"], rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(found.error_dimension), case["sqrtDem_ridge"], rtol=1e-6)
    np.testing.assert_allclose(ridgeless.error_radius, case["Rem"], rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(ridgeless.error_dimension), case["sqrtDem"], rtol=1e-6)


@pytest.mark.parametrize("name", MEASURED)
def test_measured_errors_on_recorded_splits(name, centred):
    case = load(name, centred)
    found = measured(case)
    assert found.train_sizes.tolist() == case["sizes"].tolist()
    Y = case["Y"]
    power = np.square(Y - centred * Y.mean(axis=0)).mean(axis=0).sum()
    for i, same in enumerate(case["indices"]):
        for t, rows in enumerate(same):
            rest = np.setdiff1d(np.arange(len(Y)), rows)
            for key, ours, used in (
                ("emp_gen_errs", found.errors, np.arange(len(Y))),
                ("emp_test_errs", found.held_out_errors, rest),
                ("emp_tr_errs", found.training_errors, rows),
            ):
                expected = case[key][t, i] * Y[used].var(axis=0).sum() / power
                np.testing.assert_allclose(ours[i, t], expected, rtol=1e-6, atol=1e-20)


@pytest.mark.parametrize(
    ("name", "centred", "apart"),
    [
        ("a_few_features", True, 0.01),
        ("a_few_features", False, 0.01),
        ("a_few_features_ridgeless", True, 0.03),
        ("c_fmnist", True, 0.055),
        ("c_fmnist", False, 0.08),  # the raw mean is one mode of its own, and there are five splits
    ],
)
def test_theory_meets_experiment(name, centred, apart):
    case = load(name, centred)
    predicted, found = theory(case), measured(case)
    np.testing.assert_allclose(predicted.error, found.error, atol=apart)
    np.testing.assert_allclose(predicted.training_error, found.training_error, atol=0.004)
    if name == "a_few_features":
        np.testing.assert_allclose(predicted.training_error[2:], found.training_error[2:], rtol=0.15)
