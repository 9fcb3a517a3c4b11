"""Rows of every measure of geometry: the numbers are those of the functions, under names that the registry explains."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Generator

from robustgeom.errors import InputError
from robustgeom.geometry import manifold_geometry, spectral_alignment
from robustgeom.harness.measures import GEOMETRY, Head
from robustgeom.records import ANALYZER_COLUMNS
from robustgeom.registry import MEASURES, needs_of

NAMES = ("boot", "coat", "bag", "shirt")
HEAD = Head(model="m", seed=3, stage="fc", condition="clean")


def clouds(width=60, points=12):
    generator = Generator().manual_seed(1)
    centers = 2 * torch.randn(len(NAMES), 1, width, generator=generator, dtype=torch.float64)
    shape = torch.randn(len(NAMES), points, width, generator=generator, dtype=torch.float64)
    return list(centers + shape)


def rows(name, manifolds, n_t=40):
    given = {"origin": clouds()} if "origin" in needs_of(GEOMETRY[name]) else {}
    return GEOMETRY[name](
        manifolds, names=NAMES, n_t=n_t, generator=Generator().manual_seed(5), head=HEAD, **given
    )


def whole(found):
    return {row["measure"]: row["value"] for row in found if row["manifold"] == "all"}


@pytest.mark.parametrize("name", GEOMETRY)
def test_rows_are_whole_finite_and_explained(name):
    found = rows(name, clouds())
    assert found
    for row in found:
        assert set(row) == set(ANALYZER_COLUMNS.names)
        assert {k: row[k] for k in HEAD} == HEAD
        assert np.isfinite(row["value"])
        known = MEASURES.get(row["measure"])
        assert known is not None or row["measure"].startswith("term_")
        if known is not None:
            assert known.low <= row["value"] <= known.high
        assert (row["M"], row["N"]) == (12, 60)
        assert row["P"] == (2 if " | " in row["manifold"] else 4)


def test_glue_is_one_class_against_the_rest_with_an_offset():
    manifolds = clouds()
    found = rows("glue", manifolds)
    expected = manifold_geometry(
        manifolds, labels="one-vs-rest", centering="affine", n_t=40, generator=Generator().manual_seed(5)
    )
    assert whole(found)["glue_capacity"] == expected.capacity
    assert whole(found)["effective_radius"] == expected.radius
    each = {r["manifold"]: r["value"] for r in found if r["measure"] == "one_vs_rest_capacity"}
    np.testing.assert_array_equal([each[n] for n in NAMES], expected.one_vs_rest()[0])
    cosines = {r["manifold"]: r["value"] for r in found if r["measure"] == "center_cosine"}
    assert len(cosines) == 6
    assert cosines["boot | bag"] == expected.center_cosine[0, 2]


def test_predicted_error_does_not_hang_on_the_stages_scale():
    manifolds = clouds()
    once, louder = (whole(rows("prediction", [f * m for m in manifolds])) for f in (1.0, 100.0))
    assert once == pytest.approx(louder, rel=1e-9)
    points = torch.cat(manifolds)
    labels = torch.eye(4, dtype=torch.float64).repeat_interleave(12, 0)
    variance = float((points - points.mean(0)).square().sum(1).mean())
    expected = spectral_alignment(points, labels, train_sizes=[29], ridge=1e-5 * variance)
    assert once["prediction_error"] == pytest.approx(expected.error[0], rel=1e-9)


def test_a_capacity_between_bounds_is_no_number():
    with pytest.raises(InputError, match=r"a capacity that the features can show, got one between 0 and 2"):
        rows("simulated", clouds(width=2))


def test_terms_sum_to_the_inverse_capacity():
    found = whole(rows("correlated", clouds()))
    terms = [value for name, value in found.items() if name.startswith("term_")]
    assert len(terms) == 4
    assert sum(terms) == pytest.approx(1 / found["correlated_capacity"], rel=1e-9)


def test_a_narrow_stage_has_no_exponent_and_keeps_its_dimensions():
    found = whole(rows("spectrum", clouds(width=6)))
    assert set(found) == {"participation_ratio", "explained_variance_dimension"}


def test_more_manifolds_than_directions_have_no_radius_and_no_number_that_is_not_finite():
    found = rows("glue", clouds(width=1))
    assert "effective_radius" not in whole(found)
    assert "glue_capacity" in whole(found)
    for row in found:
        assert np.isfinite(row["value"])
        assert row["se"] is None or np.isfinite(row["se"])


def test_local_dimension_asks_for_neighbours_inside_a_manifold_only():
    generator = Generator().manual_seed(0)
    squares = torch.rand(4, 12, 2, generator=generator, dtype=torch.float64)
    far = 100 * torch.eye(4, dtype=torch.float64)[:, None].expand(4, 12, 4)
    found = whole(rows("intrinsic", list(torch.cat([squares, far], 2))))
    assert 1.2 < found["mle_dimension"] < 3


def test_few_points_have_local_dimensions_too():
    assert set(whole(rows("intrinsic", clouds(points=3)))) == {"two_nn_dimension", "mle_dimension"}


@pytest.mark.parametrize("distance", [0.0, 1.0, 3.0])
def test_overlap_of_normal_clouds_is_what_their_distance_says(distance):
    """Two unit normals at distance d are told apart with accuracy Phi(d / 2)."""
    generator = Generator().manual_seed(0)
    clean = list(torch.randn(6, 300, 5, generator=generator, dtype=torch.float64))
    moved = [torch.randn(300, 5, generator=generator, dtype=torch.float64) + _along(distance) for _ in clean]
    found = GEOMETRY["overlap"](
        moved, names=list("abcdef"), n_t=2, generator=Generator().manual_seed(0), head=HEAD, origin=clean
    )
    accuracy = norm.cdf(distance / 2)
    values = whole(found)
    errors = {r["measure"]: r["se"] for r in found if r["manifold"] == "all"}
    assert values["separability"] == pytest.approx(accuracy, abs=max(0.02, 4 * errors["separability"]))
    assert values["overlap"] == pytest.approx(2 * (1 - accuracy), abs=0.05)
    assert values["shift"] == pytest.approx(distance, abs=0.15)
    assert len([r for r in found if r["measure"] == "overlap"]) == 7


def _along(distance):
    return torch.tensor([distance, 0, 0, 0, 0], dtype=torch.float64)


def test_clouds_without_width_do_not_overlap():
    still = [torch.zeros(10, 3, dtype=torch.float64) + i for i in range(2)]
    moved = [torch.rand(10, 3, dtype=torch.float64) / 10 + i + 1 for i in range(2)]
    found = GEOMETRY["overlap"](
        moved, names=["a", "b"], n_t=2, generator=Generator().manual_seed(0), head=HEAD, origin=still
    )
    assert (whole(found)["separability"], whole(found)["overlap"]) == (1.0, 0.0)


def test_few_versions_are_refused_by_what_helps():
    few = [torch.rand(4, 3, dtype=torch.float64) for _ in range(2)]
    with pytest.raises(InputError, match="8 versions of an image or more, got 4; try more points"):
        GEOMETRY["overlap"](few, names=["a", "b"], n_t=2, generator=Generator(), head=HEAD, origin=few)
