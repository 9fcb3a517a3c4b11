"""Mean-field capacity: invariances, uneven manifolds, refusals, aggregates and table rows."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from robustgeom.errors import InputError
from robustgeom.geometry import capacity_rows, mean_field_capacity, reduced_points
from robustgeom.records import ANALYZER_COLUMNS


def clouds(seed=0, counts=(5,) * 8, features=30, spread=1.0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=features) + spread * rng.normal(size=(m, features)) for m in counts]


def test_uneven_counts_follow_the_definition():
    manifolds = clouds(counts=(3, 7, 1, 12), features=9)
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(9, 2)))[0]
    origin = np.concatenate(manifolds).mean(axis=0)
    for points, reduced in zip(manifolds, reduced_points(manifolds, basis), strict=True):
        residual = (points - origin) @ (np.eye(9) - basis @ basis.T)
        center = residual.mean(axis=0)
        shape = (residual - center) / np.linalg.norm(center)
        np.testing.assert_allclose(reduced @ reduced.T, shape @ shape.T + 1, atol=1e-11)
        assert reduced.shape == (len(points), min(len(points), 9) + 1)


def test_uneven_counts_run_and_report_themselves():
    found = mean_field_capacity(clouds(counts=(3, 7, 1, 12)), n_t=60)
    assert (found.P, found.M, found.N, found.n_t, found.K) == (4, (3, 7, 1, 12), 30, 60, 0)
    assert found.floor == pytest.approx(2 / 5.75)
    assert found.radius[2] == found.dimension[2] == found.dimension_paper[2] == 0
    assert found.radius_se[2] == found.dimension_se[2] == found.dimension_paper_se[2] == 0


def test_scale_and_shift_change_nothing():
    manifolds = clouds(features=4, counts=(6,) * 8)
    none = np.zeros((4, 0))
    plain = mean_field_capacity(manifolds, n_t=50, center_basis=none)
    moved = mean_field_capacity([250 * m + 7 for m in manifolds], n_t=50, center_basis=none)
    np.testing.assert_allclose(moved.capacity, plain.capacity, rtol=1e-5)
    np.testing.assert_allclose(moved.radius, plain.radius, rtol=1e-5)


def test_wider_manifolds_have_lower_capacity_and_larger_radius():
    narrow = mean_field_capacity(clouds(spread=0.1), n_t=100)
    wide = mean_field_capacity(clouds(spread=1.0), n_t=100)
    assert narrow.mean_capacity > 1.3 * wide.mean_capacity
    assert narrow.mean_radius < 0.2 * wide.mean_radius


def test_constant_manifolds_have_no_radius_even_far_from_the_origin():
    manifolds = [np.tile(p + 1e4, (7, 1)) for p in np.random.default_rng(0).normal(size=(7, 20))]
    found = mean_field_capacity(manifolds, n_t=100)
    assert not found.radius.any()
    assert not found.dimension.any()
    assert not found.dimension_paper.any()
    assert np.isfinite(found.capacity).all()


def test_the_default_generator_is_seeded_with_zero_and_seeds_matter():
    manifolds = clouds()
    default, zero, one = (
        mean_field_capacity(manifolds, n_t=30, generator=g)
        for g in (None, torch.Generator().manual_seed(0), torch.Generator().manual_seed(1))
    )
    np.testing.assert_array_equal(default.capacity, zero.capacity)
    assert not np.array_equal(default.capacity, one.capacity)


def test_tensors_of_single_precision_agree_with_arrays():
    arrays = mean_field_capacity(clouds(), n_t=40)
    tensors = mean_field_capacity([torch.from_numpy(m).float().requires_grad_() for m in clouds()], n_t=40)
    np.testing.assert_allclose(tensors.capacity, arrays.capacity, rtol=1e-4)


def test_an_empty_basis_skips_the_centre_step_and_given_ones_are_used():
    shared = np.random.default_rng(2).normal(size=(8, 1)) * 6 * np.eye(30)[0]
    manifolds = [m + s for m, s in zip(clouds(), shared, strict=True)]
    none = mean_field_capacity(manifolds, n_t=40, center_basis=np.zeros((30, 0)))
    one = mean_field_capacity(manifolds, n_t=40, center_basis=torch.eye(30)[:, :1])
    assert (none.K, one.K, none.residual_norm_ratio) == (0, 1, 1.0)
    assert none.center_correlation == one.center_correlation
    assert one.residual_norm_ratio < 0.9
    assert mean_field_capacity(manifolds, n_t=40).K >= 1


def test_aggregates_are_a_harmonic_mean_and_plain_means():
    found = mean_field_capacity(clouds(), n_t=40)
    assert found.mean_capacity == pytest.approx(8 / (1 / found.capacity).sum(), rel=1e-14)
    assert found.mean_radius == pytest.approx(found.radius.sum() / 8, rel=1e-14)
    inverse_errors = found.capacity_se / found.capacity**2
    expected = math.sqrt((inverse_errors**2).sum()) / 8 * found.mean_capacity**2
    assert found.mean_capacity_se == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"manifolds": clouds()[:1]}, "2 manifolds or more, got 1"),
        ({"manifolds": [*clouds()[:2], clouds(features=5)[0]]}, r"equally many features.*\[5, 30\]"),
        ({"manifolds": [*clouds()[:2], np.full((2, 30), np.nan)]}, "finite numbers in manifold 2"),
        ({"manifolds": [*clouds()[:2], np.zeros((0, 30))]}, "manifold 2 of shape"),
        ({"manifolds": [np.zeros((2, 30))] * 2}, "got manifold 0"),
        (
            {"manifolds": [np.array([[1.0, 1e-8], [-1.0, 0.0]]), np.array([[1.0, -1e-8], [-1.0, 0.0]])]},
            "manifold 0",
        ),
        ({"manifolds": [np.eye(3)[:1], -np.eye(3)[:1], np.zeros((1, 3))]}, "manifold 2"),
        ({"kappa": -0.1}, "kappa >= 0"),
        ({"n_t": 1}, "n_t >= 2"),
        ({"center_basis": np.ones((30, 2))}, "orthonormal columns"),
        ({"center_basis": np.eye(29)}, "30 rows, got 29"),
        ({"probes": [np.ones((4, 6))] * 7}, "probes of shapes"),
        ({"probes": [np.ones((4, 7))] * 8}, "probes of shapes"),
        ({"probes": []}, "probes of shapes"),
        ({"probes": [-np.eye(6)[[5, 5]]] * 8}, "all 2 inside for manifold 0"),
    ],
)
def test_bad_input_is_refused(change, words):
    arguments = {"manifolds": clouds(), "n_t": 20} | change
    with pytest.raises(InputError, match=words):
        mean_field_capacity(arguments.pop("manifolds"), **arguments)


def test_a_basis_that_swallows_a_centre_is_refused_by_name():
    manifolds = [np.eye(3)[:1], -np.eye(3)[:1]]
    with pytest.raises(InputError, match="manifold 0 without one"):
        mean_field_capacity(manifolds, center_basis=np.eye(3)[:, :1])


def rows_of(found, names):
    return capacity_rows(found, model="net", seed=3, stage="layer1", condition="clean", names=names)


def test_rows_fit_the_analyzer_table():
    found = mean_field_capacity(clouds(counts=(3, 4, 5)), n_t=25)
    rows = rows_of(found, ["a", "b", "c"])
    table = pa.Table.from_pylist(rows, schema=ANALYZER_COLUMNS)
    assert all(set(row) == set(ANALYZER_COLUMNS.names) for row in rows)
    assert table["measure"].to_pylist() == ["capacity", "radius", "dimension"] * 4
    assert table["manifold"].to_pylist()[::3] == ["a", "b", "c", "all"]
    assert table["M"].to_pylist()[::3] == [3, 4, 5, 3]
    assert set(zip(*(table[c].to_pylist() for c in ("P", "N", "n_t", "seed")), strict=True)) == {
        (3, 30, 25, 3)
    }
    assert rows[3]["value"] == found.capacity[1]
    assert rows[5]["se"] == found.dimension_se[1]
    assert rows[9]["value"] == found.mean_capacity
    assert rows[11]["se"] == found.mean_dimension_se


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", "all"]])
def test_names_that_do_not_fit_are_refused(names):
    found = mean_field_capacity(clouds(counts=(3, 4)), n_t=25)
    with pytest.raises(InputError, match="2 different names"):
        rows_of(found, names)


def test_inverse_capacities_are_means_of_the_probes_squared_distances():
    rng = np.random.default_rng(3)
    found = mean_field_capacity([rng.normal(size=(m, 30)) for m in (4, 7, 5)], n_t=40, kappa=0.2)
    assert found.squared_distance.shape == (3, 40)
    np.testing.assert_allclose(found.squared_distance.mean(axis=1), 1 / found.capacity, rtol=1e-12)
