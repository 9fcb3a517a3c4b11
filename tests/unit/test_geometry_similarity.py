"""CKA, separability of paired clouds with its controls, and point-cloud alignment."""

from __future__ import annotations

from itertools import permutations
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustgeom.errors import InputError
from robustgeom.geometry import (
    equal_norm_noise,
    linear_cka,
    linear_separability,
    overlap_controls,
    point_cloud_alignment,
    unbiased_linear_cka,
)


def cloud(seed=0, points=60, features=8):
    return np.random.default_rng(seed).normal(size=(points, features))


def frame(rows, columns, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(rows, columns)))[0]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), mix=st.floats(0, 1))
def test_cka_is_symmetric_bounded_and_blind_to_rotation_scale_shift_and_embedding(seed, scale, mix):
    X = cloud(seed)
    Y = mix * X[:, :5] + (1 - mix) * cloud(seed + 1, features=5)
    moved = scale * Y @ frame(30, 5, seed).T - 4 * scale
    for measure in (linear_cka, unbiased_linear_cka):
        assert measure(X, moved) == pytest.approx(measure(X, Y), abs=1e-9)
        assert measure(Y, X) == pytest.approx(measure(X, Y), abs=1e-12)
        assert measure(X, X) == pytest.approx(1)
        assert measure(X, Y) <= 1 + 1e-9
    assert linear_cka(X, Y) >= 0


def test_cka_has_its_closed_form_and_its_form_by_features():
    angle = 0.7
    basis = frame(20, 4) - frame(20, 4).mean(axis=0)
    basis = np.linalg.qr(basis)[0]
    turned = np.cos(angle) * basis[:, :1] + np.sin(angle) * basis[:, 1:2]
    assert linear_cka(basis[:, :1], turned) == pytest.approx(np.cos(angle) ** 2)
    assert linear_cka(basis[:, :1], basis[:, 1:]) == pytest.approx(0, abs=1e-15)
    X, Y = cloud(0), cloud(1) + cloud(0)
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    by_features = np.linalg.norm(Y.T @ X) ** 2 / np.linalg.norm(X.T @ X) / np.linalg.norm(Y.T @ Y)
    assert linear_cka(X, Y) == pytest.approx(by_features)


def test_unbiased_cka_is_the_u_statistic_over_quadruples():
    X, Y = cloud(0, 7, 3), cloud(1, 7, 2) + cloud(0, 7, 2)

    def dependence(a, b):
        K, L = a @ a.T, b @ b.T
        quadruples = permutations(range(7), 4)
        return np.mean([K[i, j] * (L[i, j] + L[k, m] - 2 * L[i, k]) for i, j, k, m in quadruples])

    expected = dependence(X, Y) / np.sqrt(dependence(X, X) * dependence(Y, Y))
    assert unbiased_linear_cka(X, Y) == pytest.approx(expected, rel=1e-10)


def test_unrelated_wide_activations_look_alike_to_the_biased_one_only():
    found = [
        (linear_cka(*p), unbiased_linear_cka(*p))
        for p in ((cloud(i, 30, 300), cloud(i + 50, 30, 300)) for i in range(20))
    ]
    biased, unbiased = np.mean(found, axis=0)
    assert biased > 0.85
    assert abs(unbiased) < 0.02


@pytest.mark.parametrize("distance", [0.0, 1.0, 2.0, 4.0])
def test_gaussian_clouds_have_the_accuracy_and_d_prime_of_theory(distance):
    shift = np.r_[distance, np.zeros(4)]
    found = linear_separability(cloud(0, 1500, 5), cloud(1, 1500, 5) + shift, repeats=2)
    assert abs(found.accuracy - NormalDist().cdf(distance / 2)) < 3 * found.accuracy_se + 0.005
    assert abs(found.d_prime - distance) < 3 * found.d_prime_se + 0.05
    assert found.pairs == 1500


@pytest.mark.parametrize("features", [5, 100])
def test_halves_of_one_distribution_are_at_chance_within_their_errors(features):
    found = [
        linear_separability(cloud(i, 50, features), cloud(i + 99, 50, features), repeats=2) for i in range(30)
    ]
    mean = np.mean([f.accuracy for f in found])
    assert abs(mean - 0.5) < 0.03
    scatter = np.std([f.accuracy for f in found])
    assert 0.5 * scatter < np.mean([f.accuracy_se for f in found]) < 1.5 * scatter
    assert 0.4 * np.std([f.d_prime for f in found]) < np.mean([f.d_prime_se for f in found])


def test_pairs_stay_together():
    A = 100 * cloud(0, 40, 60)  # were a partner in the training half, its neighbour would give the label away
    found = linear_separability(A, A + 1e-3 * cloud(1, 40, 60), repeats=3)
    assert found.accuracy < 0.65


def test_equal_clouds_tie():
    A = cloud()
    equal = linear_separability(A, A.copy())
    assert (equal.accuracy, equal.d_prime, equal.accuracy_se, equal.d_prime_se) == (0.5, 0, 0, 0)


def test_a_shift_out_of_the_plane_of_both_clouds_has_no_overlap():
    for A, least in ((cloud(), 20), (np.eye(20), np.inf)):
        level = np.zeros((len(A), 1))
        found = linear_separability(np.hstack([A, level]), np.hstack([A, level + 1]))
        assert found.accuracy == 1
        assert found.d_prime >= least
    assert found.d_prime_se == np.inf


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
def test_separability_ignores_rotation_scale_shift_and_embedding(seed, scale):
    A, B = cloud(seed, 24), cloud(seed + 1, 24) + 0.7
    out = scale * frame(40, 8, seed).T
    plain = linear_separability(A, B, repeats=2)
    moved = linear_separability(A @ out + scale, B @ out + scale, repeats=2)
    swapped = linear_separability(B, A, repeats=2)
    assert moved.accuracy == pytest.approx(plain.accuracy)
    assert moved.d_prime == pytest.approx(plain.d_prime, rel=1e-6)
    assert swapped.d_prime == pytest.approx(plain.d_prime, rel=1e-9)


def test_the_discriminant_finds_a_small_shift_under_large_shared_variance():
    A = cloud(0, 200, 6) * [100, 100, 1, 1, 1, 1]
    assert linear_separability(A, A + 3 * np.eye(6)[2]).accuracy > 0.9


def test_dealing_comes_from_the_generator():
    A, B = cloud(0), cloud(1) + 0.5
    default, zero, one = (
        linear_separability(A, B, generator=g)
        for g in (None, torch.Generator().manual_seed(0), torch.Generator().manual_seed(1))
    )
    assert default == zero
    assert default != one


def test_controls_tell_an_attack_from_noise_and_from_nothing():
    clean = cloud(0, 300, 20)
    attacked = clean + 2 * np.eye(20)[0]
    found = overlap_controls(
        clean, attacked, controls={"second draw": cloud(1, 300, 20), "other": cloud(2, 300, 20) + 4}
    )
    assert list(found) == ["attacked", "halves", "equal-norm noise", "second draw", "other"]
    assert found["attacked"].accuracy > 0.78
    assert found["other"].accuracy > 0.99
    for name in ("halves", "equal-norm noise", "second draw"):
        assert abs(found[name].accuracy - 0.5) < 4 * found[name].accuracy_se
    assert (found["halves"].pairs, found["attacked"].pairs) == (150, 300)


def test_equal_norm_noise_is_as_long_as_the_attack_and_isotropic():
    clean = cloud(0, 4000, 3)
    attacked = clean + np.random.default_rng(5).exponential(size=(4000, 1)) * [1, 0, 0]
    moved = equal_norm_noise(clean, attacked) - clean
    lengths = np.linalg.norm(attacked - clean, axis=1)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), lengths)
    directions = moved / lengths[:, None]
    np.testing.assert_allclose(directions.T @ directions / 4000, np.eye(3) / 3, atol=0.03)
    np.testing.assert_allclose(directions.mean(axis=0), 0, atol=0.03)


def by_definition(manifolds, share):
    """The three matrices from covariances and explicit sums."""
    mean = np.concatenate(manifolds).mean(axis=0)
    centers, values, vectors = [], [], []
    for m in manifolds:
        value, vector = np.linalg.eigh(np.cov(m.T, bias=True))
        value, vector = value[::-1], vector[:, ::-1]
        kept = int(np.argmax(np.cumsum(value) / value.sum() >= share)) + 1
        centers.append((m.mean(axis=0) - mean) / np.linalg.norm(m.mean(axis=0) - mean))
        values.append(value[:kept])
        vectors.append(vector[:, :kept])
    P = len(manifolds)
    center, axis, cross = np.zeros((3, P, P))
    for i in range(P):
        for j in range(P):
            center[i, j] = abs(centers[i] @ centers[j])
            inner = (vectors[i].T @ vectors[j]) ** 2
            axis[i, j] = values[i] @ inner @ values[j] / np.linalg.norm(values[i]) / np.linalg.norm(values[j])
            cross[i, j] = values[j] @ (vectors[j].T @ centers[i]) ** 2 / values[j].sum()
    return center, axis, cross


def test_alignment_follows_its_definition():
    manifolds = [
        cloud(i, 15 + i, 6) * np.roll([4, 3, 1, 1, 1, 1], i) + 2 * cloud(i + 9, 1, 6) for i in range(4)
    ]
    found = point_cloud_alignment(manifolds, share=0.8)
    center, axis, cross = by_definition(manifolds, 0.8)
    np.testing.assert_allclose(found.center, center, atol=1e-12)
    np.testing.assert_allclose(found.axis, axis, atol=1e-12)
    np.testing.assert_allclose(found.center_axis, cross, atol=1e-12)
    off = ~np.eye(4, dtype=bool)
    means = found.mean_center, found.mean_axis, found.mean_center_axis
    assert means == pytest.approx((center[off].mean(), axis[off].mean(), cross[off].mean()))


def test_orthogonal_segments_do_not_align_and_shuffling_makes_them():
    step = np.linspace(-1, 1, 20)[:, None]
    manifolds = [3 * np.eye(8)[i] + step * np.eye(8)[4 + i] for i in range(4)]
    found = point_cloud_alignment(manifolds)
    assert found.mean_center == pytest.approx(1 / 3)
    assert found.mean_axis == pytest.approx(0, abs=1e-12)
    assert found.mean_center_axis == pytest.approx(0, abs=1e-12)
    assert found.shuffled_axis > 0.7
    assert point_cloud_alignment([step * np.eye(2)[0], step * np.eye(2)[0] + 1]).mean_center == pytest.approx(
        1
    )


def test_labels_without_meaning_are_their_own_baseline():
    points = cloud(0, 400, 10) * np.arange(1, 11)
    found = point_cloud_alignment(np.split(points, 8), shuffles=20)
    assert found.mean_center == pytest.approx(found.shuffled_center, abs=0.08)
    assert found.mean_axis == pytest.approx(found.shuffled_axis, abs=0.05)
    assert found.mean_center_axis == pytest.approx(found.shuffled_center_axis, abs=0.05)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
def test_alignment_ignores_rotation_scale_shift_and_embedding(seed, scale):
    manifolds = [cloud(seed + i, 12, 5) + 3 * cloud(seed + 9 * i, 1, 5) for i in range(3)]
    out = scale * frame(20, 5, seed).T
    plain = point_cloud_alignment(manifolds, share=1.0, shuffles=1)
    moved = point_cloud_alignment([m @ out - 3 * scale for m in manifolds], share=1.0, shuffles=1)
    for field in (
        "center",
        "axis",
        "center_axis",
        "shuffled_center",
        "shuffled_axis",
        "shuffled_center_axis",
    ):
        np.testing.assert_allclose(getattr(moved, field), getattr(plain, field), atol=1e-8)


A = cloud(0, 20, 3)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: linear_cka(A, A[:19]), "got 20 and 19"),
        (lambda: linear_cka(A, np.ones((20, 2))), "rows that differ in Y"),
        (lambda: linear_cka(A * np.nan, A), "finite numbers in X"),
        (lambda: unbiased_linear_cka(A[:3], A[:3]), "4 or more, got 3 and 3"),
        (lambda: unbiased_linear_cka(A, np.eye(20)), "structure beyond chance in Y"),
        (lambda: linear_separability(1e-70 * A, -1e-70 * A), "A and B of a size in"),
        (lambda: point_cloud_alignment([1e70 * A, -A]), "manifolds of a size in"),
        (lambda: linear_separability(A, A[:19]), "clouds of the same shape"),
        (lambda: linear_separability(A, np.inf * A), "finite numbers in B"),
        (lambda: linear_separability(A[:7], A[:7]), "8 pairs or more, got 7"),
        (lambda: linear_separability(A, -A, folds=1), r"folds in \[2, 20\]"),
        (lambda: linear_separability(A, -A, folds=21), r"folds in \[2, 20\]"),
        (lambda: linear_separability(A, -A, repeats=0), "repeats >= 1"),
        (lambda: linear_separability(np.ones((9, 2)), np.ones((9, 2))), "18 equal rows"),
        (lambda: linear_separability(np.ones((9, 2)), np.zeros((9, 2))), "differ within a cloud"),
        (lambda: overlap_controls(A, -A, controls={"halves": A}), "controls of other names, got halves"),
        (lambda: overlap_controls(A, -A, controls={"corner": A[:9]}), r"corner \(9, 3\)"),
        (lambda: overlap_controls(A[:15], -A[:15]), "8 pairs or more, got 7"),
        (lambda: equal_norm_noise(A, A[:, :2]), "clouds of the same shape"),
        (lambda: point_cloud_alignment([A]), "2 manifolds or more"),
        (lambda: point_cloud_alignment([A, A[:, :2]]), "equally many features"),
        (lambda: point_cloud_alignment([A, A[:1]]), "manifold 1 of one"),
        (lambda: point_cloud_alignment([A, A]), "manifold 0 centred on it"),
        (lambda: point_cloud_alignment([A, A + np.nan]), "finite numbers in manifold 1"),
        (lambda: point_cloud_alignment([A, -A], share=0), "a share in"),
        (lambda: point_cloud_alignment([A, -A], shuffles=0), "shuffles >= 1"),
    ],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()
