"""Dimensions: closed forms, invariances, repeated points and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustgeom.errors import InputError
from robustgeom.geometry import (
    covariance_spectrum,
    explained_variance_dimension,
    mle_dimension,
    participation_ratio,
    spectrum_exponent,
    two_nn_dimension,
)

LINEAR = [covariance_spectrum, participation_ratio, explained_variance_dimension, spectrum_exponent]
NEIGHBOURS = [two_nn_dimension, mle_dimension]


def cloud(seed=0, points=40, features=6):
    return np.random.default_rng(seed).normal(size=(points, features)) * np.arange(1, features + 1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), points=st.integers(25, 60))
def test_rotation_scaling_shift_and_embedding_change_nothing(seed, scale, points):
    plain = cloud(seed, points)
    frame = np.linalg.qr(np.random.default_rng(seed).normal(size=(50, 6)))[0]
    moved = scale * plain @ frame.T + 3 * scale
    np.testing.assert_allclose(
        covariance_spectrum(moved)[:6], scale**2 * covariance_spectrum(plain), rtol=1e-7
    )
    assert participation_ratio(moved) == pytest.approx(participation_ratio(plain), rel=1e-9)
    assert explained_variance_dimension(moved) == explained_variance_dimension(plain)
    for estimate in NEIGHBOURS:
        assert estimate(moved).dimension == pytest.approx(estimate(plain).dimension, rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), points=st.integers(2, 30), features=st.integers(1, 30))
def test_linear_dimensions_are_ordered_and_bounded(seed, points, features):
    sample = cloud(seed, points, features)
    most = min(points - 1, features)
    assert 1 - 1e-9 <= participation_ratio(sample) <= most + 1e-9
    counts = [explained_variance_dimension(sample, share) for share in (0.1, 0.5, 0.9, 1.0)]
    assert counts == sorted(counts)
    assert counts[0] >= 1
    assert counts[-1] == most
    assert 0 <= explained_variance_dimension(sample, reference=True) <= counts[-1]


def test_spectrum_is_that_of_the_covariance_whichever_side_is_smaller():
    for shape in ((50, 6), (6, 50)):
        sample = np.random.default_rng(0).normal(size=shape)
        expected = np.linalg.eigvalsh(np.cov(sample.T, bias=True))[::-1][:6]
        np.testing.assert_allclose(covariance_spectrum(sample), expected, atol=1e-13)


def test_the_references_count_is_zero_where_features_do_not_differ():
    assert explained_variance_dimension(np.arange(5.0)[:, None] + np.zeros(3), reference=True) == 0


def test_equal_shares_are_counted_without_rounding():
    corners = np.vstack([np.eye(10), -np.eye(10)])
    assert [explained_variance_dimension(corners, k / 10) for k in range(1, 11)] == list(range(1, 11))


@pytest.mark.parametrize("estimate", NEIGHBOURS)
def test_repeated_points_are_kept_once_and_counted(estimate):
    sample = cloud()
    once, twice = estimate(sample), estimate(np.vstack([sample, sample[:15], sample[:3]]))
    assert twice.dimension == pytest.approx(once.dimension, rel=1e-9)
    assert (twice.points, twice.duplicates) == (40, 18)


def test_the_formulas_on_points_with_known_neighbours():
    line = np.cumsum([0.0, *[1.0, 3.0] * 9])[:, None]  # pairs 1 apart, 3 between pairs
    distances = np.sort(np.abs(line - line.T), axis=1)
    logs = np.log(distances[:, 2] / distances[:, 1])
    assert two_nn_dimension(line).dimension == pytest.approx(18 / logs.sum())
    ratios = np.log(distances[:, 4:5] / distances[:, 1:4])
    assert mle_dimension(line, neighbours=4).dimension == pytest.approx(1 / ratios.mean())


def test_noise_raises_the_local_dimension_before_the_far_one():
    rng = np.random.default_rng(0)
    sheet = np.zeros((1500, 10))
    sheet[:, :2] = rng.uniform(size=(1500, 2))
    noisy = sheet + 0.01 * rng.normal(size=sheet.shape)
    assert two_nn_dimension(noisy).dimension > 4
    assert mle_dimension(noisy, neighbours=200).dimension < 3


def test_tensors_agree_with_arrays():
    tensor = torch.from_numpy(cloud()).float().requires_grad_()
    assert participation_ratio(tensor) == pytest.approx(participation_ratio(cloud()), rel=1e-5)
    assert two_nn_dimension(tensor).dimension == pytest.approx(two_nn_dimension(cloud()).dimension, rel=1e-3)


@pytest.mark.parametrize("measure", LINEAR + NEIGHBOURS)
@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.full((30, 2), np.inf), "60 NaN or infinite"),
        (1e-70 * np.arange(60.0).reshape(30, 2), "points of a size in"),
        (1e70 * np.arange(60.0).reshape(30, 2), "points of a size in"),
        (np.ones((30, 2)) / 3, "30 equal rows"),
        (np.zeros((30, 2)), "30 equal rows"),
        (np.ones((1, 4)), "1 equal rows"),
        (np.zeros((0, 4)), "points of shape"),
        (np.zeros((4, 0)), "a feature or more"),
        (np.ones(5), "points of shape"),
    ],
)
def test_bad_points_are_refused(measure, points, words):
    with pytest.raises(InputError, match=words):
        measure(points)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: explained_variance_dimension(cloud(), 0.0), "a share in"),
        (lambda: explained_variance_dimension(cloud(), 1.1), "a share in"),
        (lambda: explained_variance_dimension(cloud(), float("nan")), "a share in"),
        (lambda: spectrum_exponent(cloud()), "ranks 10 to 3 of 6"),
        (lambda: spectrum_exponent(cloud(), first=0, last=5), "ranks 0 to 5"),
        (lambda: spectrum_exponent(cloud(), first=1, last=7), "ranks 1 to 7 of 6"),
        (lambda: spectrum_exponent(np.vstack([np.eye(9)[:4]] * 9), first=1, last=5), "ranks 1 to 5 of 3"),
        (lambda: two_nn_dimension(np.vstack([cloud()[:9]] * 3)), "10 different points or more, got 9 of 27"),
        (lambda: mle_dimension(cloud(), neighbours=40), r"in \[3, 39\], got 40 of 40"),
        (lambda: mle_dimension(cloud(), neighbours=2), r"in \[3, 39\]"),
        (lambda: two_nn_dimension(np.eye(12)), "lattice"),
        (lambda: mle_dimension(np.eye(12), neighbours=5), "lattice"),
    ],
)
def test_bad_settings_are_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()
