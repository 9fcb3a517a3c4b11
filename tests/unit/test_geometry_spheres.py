"""Capacity of spheres: monotone in every argument, whole range of sizes, refusals."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustgeom.errors import InputError
from robustgeom.geometry import point_capacity, sphere_capacity

spheres = {
    "dimension": st.floats(1, 200),
    "radius": st.floats(0, 20),
    "kappa": st.floats(0, 3),
    "factor": st.floats(1.05, 4),
}


@settings(deadline=None)
@given(**spheres)
def test_capacity_falls_with_dimension_radius_and_margin(dimension, radius, kappa, factor):
    for large in (False, True):
        plain = sphere_capacity(dimension, radius, kappa=kappa, large=large)
        assert sphere_capacity(dimension * factor, radius, kappa=kappa, large=large) <= plain * (1 + 1e-8)
        assert sphere_capacity(dimension, radius * factor, kappa=kappa, large=large) <= plain * (1 + 1e-8)
        assert sphere_capacity(dimension, radius, kappa=kappa * factor, large=large) <= plain * (1 + 1e-8)
        assert 0 < plain <= point_capacity(kappa) * (1 + 1e-8)


@settings(deadline=None)
@given(**spheres)
def test_shared_axes_help_and_shared_centres_hurt(dimension, radius, kappa, factor):
    correlation = 1 - 1 / factor
    plain = sphere_capacity(dimension, radius, kappa=kappa)
    assert sphere_capacity(dimension, radius, kappa=kappa, axis_correlation=correlation) >= plain * (1 - 1e-8)
    assert sphere_capacity(dimension, radius, kappa=kappa, center_correlation=correlation) <= plain * (
        1 + 1e-8
    )


@settings(deadline=None)
@given(**spheres)
def test_a_common_unit_of_length_cancels(dimension, radius, kappa, factor):
    plain = sphere_capacity(dimension, radius, kappa=kappa)
    scaled = sphere_capacity(dimension, radius * factor, kappa=kappa * factor, center_norm=factor)
    assert scaled == pytest.approx(plain, rel=1e-8)


@settings(deadline=None)
@given(dimension=st.floats(1, 1e5), radius=st.floats(0, 1e5), kappa=st.floats(0, 10))
def test_the_formula_for_high_dimension_reads_low_and_little_at_that(dimension, radius, kappa):
    exact = sphere_capacity(dimension, radius, kappa=kappa)
    large = sphere_capacity(dimension, radius, kappa=kappa, large=True)
    assert large <= exact * (1 + 1e-7)
    if dimension >= 30 and kappa == 0:
        assert large >= 0.96 * exact


@pytest.mark.parametrize("radius", [5e-324, 1e-300, 1e-13, 1e-9, 1e-4, 1e6])
@pytest.mark.parametrize("kappa", [0.0, 5e-324, 1e-9, 1e6])
def test_extreme_sizes_give_finite_capacities(radius, kappa):
    for large in (False, True):
        found = sphere_capacity(1.5, radius, kappa=kappa, large=large)
        assert 0 < found <= 2 + 1e-8
        assert math.isfinite(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dimension": 0.9}, "dimension >= 1, got 0.9"),
        ({"dimension": math.nan}, "dimension >= 1"),
        ({"dimension": 1e7}, "dimension, radius and kappa up to 1e"),
        ({"radius": -0.1}, "radius >= 0, got -0.1"),
        ({"radius": math.inf}, "finite radius"),
        ({"radius": 1e7}, "dimension, radius and kappa up to 1e"),
        ({"kappa": -1.0}, "kappa >= 0"),
        ({"kappa": math.nan}, "kappa >= 0"),
        ({"axis_correlation": 1.0}, "axis_correlation in"),
        ({"center_correlation": -0.1}, "center_correlation in"),
        ({"center_norm": 0.0}, "center_norm > 0"),
        ({"center_norm": 1e-320}, "got inf"),
    ],
)
def test_bad_input_is_refused(change, words):
    arguments = {"dimension": 3, "radius": 1.0} | change
    with pytest.raises(InputError, match=words):
        sphere_capacity(arguments.pop("dimension"), arguments.pop("radius"), **arguments)


def test_a_negative_margin_is_refused_for_points():
    with pytest.raises(InputError, match="kappa >= 0"):
        point_capacity(-0.5)
