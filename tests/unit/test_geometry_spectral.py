"""Spectral alignment and ridge curves: identities, invariances, closed forms and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustgeom.errors import InputError
from robustgeom.geometry import empirical_ridge_curve, spectral_alignment

FIELDS = ("error", "target_errors", "training_error", "error_radius", "error_dimension", "gamma")


def data(seed=0, samples=60, features=80, targets=3):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(samples, features)) * np.arange(1, features + 1) ** -0.5
    return X, np.tanh(X @ rng.normal(size=(features, targets))) + 0.1 * rng.normal(size=(samples, targets))


def same(one, other, rtol=1e-8):
    for field in FIELDS:
        np.testing.assert_allclose(getattr(one, field), getattr(other, field), rtol=rtol, err_msg=field)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    samples=st.integers(12, 40),
    features=st.integers(2, 60),
    ridge=st.sampled_from([1e-10, 1e-3, 1.0, 100.0]),
    center=st.booleans(),
)
def test_identities_hold(seed, samples, features, ridge, center):
    X, Y = data(seed, samples, features)
    found = spectral_alignment(X, Y, ridge=ridge, center=center)
    np.testing.assert_allclose(found.error, found.error_radius * np.sqrt(found.error_dimension), rtol=1e-12)
    np.testing.assert_allclose(found.error, found.target_errors.sum(axis=1), rtol=1e-12)
    assert found.weights.sum() == pytest.approx(1)
    sizes, spectrum = found.train_sizes[:, None], found.eigenvalues
    fixed = found.train_sizes * ridge + found.kappa * (
        spectrum / (sizes * spectrum + found.kappa[:, None])
    ).sum(1)
    np.testing.assert_allclose(fixed, found.kappa, rtol=1e-9)
    assert np.all((found.gamma >= 0) & (found.gamma < 1))
    assert np.all(found.error_dimension >= 1 - 1e-9)
    assert np.all(found.error_dimension <= len(spectrum) + 1e-9)
    assert np.all(found.error >= found.unreachable_power - 1e-12)
    assert np.all(found.training_error <= found.error * (1 + 1e-12))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), features=st.sampled_from([20, 80]))
def test_rotation_scaling_shift_and_embedding_change_nothing(seed, scale, features):
    X, Y = data(seed, features=features)
    rng = np.random.default_rng(seed)
    frame = np.linalg.qr(rng.normal(size=(features + 30, features)))[0]
    mixing = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    plain = spectral_alignment(X, Y, train_sizes=[5, 15], ridge=1e-3)
    moved = spectral_alignment(scale * X @ frame.T + 5, Y + 2, train_sizes=[5, 15], ridge=1e-3 * scale**2)
    same(plain, moved, rtol=1e-6)
    mixed = spectral_alignment(X, 7 * Y @ mixing, train_sizes=[5, 15], ridge=1e-3)
    np.testing.assert_allclose(mixed.weights, plain.weights, rtol=1e-8, atol=1e-14)
    np.testing.assert_allclose(mixed.error_radius, plain.error_radius, rtol=1e-8)


def test_targets_turned_inside_the_null_space_change_neither_radius_nor_dimension():
    X, Y = data(features=20)
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    outside = np.linalg.svd(np.column_stack([X, np.ones(60)]))[0][:, 21:]
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(39, 39)))[0]
    inside = outside.T @ Y
    turned = Y + outside @ (turn @ inside - inside)
    assert np.linalg.norm(turned - Y) > 0.3 * np.linalg.norm(inside)
    one, other = (spectral_alignment(X, t, train_sizes=[5, 15, 30], ridge=1e-3) for t in (Y, turned))
    assert one.null_directions == 40
    same(one, other)


def test_equal_eigenvalues_have_the_closed_form():
    rank, size, ridge = 30, 12, 0.2
    X = np.linalg.qr(np.random.default_rng(0).normal(size=(30, 30)))[0] * np.sqrt(30)
    found = spectral_alignment(X, np.eye(30)[:, :4], train_sizes=[size], ridge=ridge, center=False)
    b = size * ridge + rank - size  # kappa^2 - b kappa - p^2 a = 0 for eigenvalue 1
    kappa = (b + np.sqrt(b * b + 4 * size**2 * ridge)) / 2
    gamma = size * rank / (size + kappa) ** 2
    assert found.kappa == pytest.approx(kappa, rel=1e-10)
    assert found.error == pytest.approx(kappa**2 / (1 - gamma) / (size + kappa) ** 2, rel=1e-10)


def test_ridgeless_error_of_isotropic_features_is_what_was_not_sampled():
    X, _ = data(samples=50, features=50)
    isotropic = np.linalg.qr(X)[0]
    sizes = [5, 20, 40]
    found = spectral_alignment(isotropic, X[:, :2], train_sizes=sizes, center=False)
    np.testing.assert_allclose(found.error, 1 - np.array(sizes) / 50, rtol=1e-9)


def test_one_mode_task_and_null_only_target():
    X = np.diag([3.0, 2.0, 1.0, 0.0, 0.0])
    first, outside = np.eye(5)[:, :1], np.eye(5)[:, 4:]
    found = spectral_alignment(X, first, train_sizes=[2], center=False)
    assert found.error_dimension == pytest.approx(1)
    assert (found.power_modes, found.unreachable_power, found.null_directions) == (1, 0, 2)
    assert found.task_dimension == 0
    lost = spectral_alignment(X, outside, train_sizes=[2], center=False)
    assert lost.unreachable_power == 1
    assert lost.error[0] >= 1


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize(("samples", "features"), [(200, 60), (120, 300)])
def test_theory_meets_experiment_on_fresh_data(samples, features, center):
    X, Y = data(3, samples, features)
    sizes = [samples // 5, samples // 3, samples // 2]
    predicted = spectral_alignment(X, Y, train_sizes=sizes, ridge=1e-2, center=center)
    found = empirical_ridge_curve(X, Y, train_sizes=sizes, splits=20, ridge=1e-2, center=center)
    np.testing.assert_allclose(predicted.error, found.error, atol=0.03)
    np.testing.assert_allclose(predicted.training_error, found.training_error, atol=0.03)


def test_a_curve_is_ridge_regression():
    X, Y = data(samples=30, features=7)
    rows = np.arange(3, 20)
    found = empirical_ridge_curve(X, Y, indices=[[rows]], ridge=0.3, center=False)
    system = X[rows].T @ X[rows] + 17 * 0.3 * np.eye(7)
    squared = (Y - X @ np.linalg.solve(system, X[rows].T @ Y[rows])) ** 2 / (Y**2).mean(axis=0).sum()
    np.testing.assert_allclose(found.errors[0, 0], squared.mean(axis=0))
    np.testing.assert_allclose(found.training_errors[0, 0], squared[rows].mean(axis=0))
    np.testing.assert_allclose(found.held_out_errors[0, 0], np.delete(squared, rows, axis=0).mean(axis=0))
    np.testing.assert_allclose(found.held_out_error, found.held_out_errors.sum(axis=2)[:, 0])


def test_splits_come_from_the_generator_and_all_sizes_from_the_default():
    X, Y = data()
    default, zero, one = (
        empirical_ridge_curve(X, Y, generator=g)
        for g in (None, torch.Generator().manual_seed(0), torch.Generator().manual_seed(1))
    )
    np.testing.assert_array_equal(default.errors, zero.errors)
    assert not np.array_equal(default.errors, one.errors)
    assert default.train_sizes.tolist() == spectral_alignment(X, Y).train_sizes.tolist()
    assert default.errors.shape == (len(default.train_sizes), 3, 3)


def test_tensors_of_single_precision_agree():
    X, Y = (torch.from_numpy(a).float() for a in data())
    same(spectral_alignment(X, Y, ridge=1e-3), spectral_alignment(*data(), ridge=1e-3), rtol=1e-3)


X, Y = data(samples=20)


@pytest.mark.parametrize("measure", [spectral_alignment, empirical_ridge_curve])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Y": Y[:19]}, "equally many rows, got 20 and 19"),
        ({"X": np.full((20, 3), np.nan)}, "finite numbers in X"),
        ({"X": 1e70 * X}, "X of a size in"),
        ({"X": np.ones((20, 3))}, "rows that differ in X"),
        ({"Y": np.zeros((20, 1)), "center": False}, "rows that differ in Y"),
        ({"X": np.ones((20, 0))}, "rows that differ in X"),
        ({"X": X[0]}, "X of shape"),
        ({"ridge": 0.0}, "ridge > 0"),
        ({"ridge": np.nan}, "ridge > 0"),
        ({"train_sizes": [0]}, r"in \[1, 19\]"),
        ({"train_sizes": [20]}, r"in \[1, 19\]"),
        ({"train_sizes": []}, "whole training sizes"),
        ({"train_sizes": [2.5]}, "whole training sizes"),
        ({"X": X[:9], "Y": Y[:9]}, "10 samples or more"),
    ],
)
def test_bad_input_is_refused(measure, change, words):
    arguments = {"X": X, "Y": Y} | change
    with pytest.raises(InputError, match=words):
        measure(arguments.pop("X"), arguments.pop("Y"), **arguments)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"splits": 0}, "splits >= 1"),
        ({"indices": [[[0, 1]], [[0, 1, 2], [1, 2, 3]]]}, "equally many training sets"),
        ({"indices": []}, "equally many training sets"),
        ({"indices": [[]]}, "equally many training sets"),
        ({"indices": [[[0, 0]]]}, "2 different rows below 20"),
        ({"indices": [[[0, 20]]]}, "2 different rows below 20"),
        ({"indices": [[[0, -1]]]}, "2 different rows below 20"),
        ({"indices": [[[0, 1], [0, 1, 2]]]}, "2 different rows below 20"),
        ({"indices": [[list(range(20))]]}, r"in \[1, 19\]"),
    ],
)
def test_bad_splits_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        empirical_ridge_curve(X, Y, **change)
