"""Threat models: projections, distances and steps against independent methods and optimality conditions."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from robustgeom.errors import InputError, UnknownNameError
from robustgeom.threat import ThreatModel, distance, project, steepest
from robustgeom.words import parse_radius

NORMS = ("linf", "l2", "l1")
quick = settings(max_examples=60, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 40)
radii = st.sampled_from([0.0, 1e-4, 8 / 255, 0.5, 3.0])
spreads = st.sampled_from([0.0, 1e-3, 0.1, 1.0, 30.0])
norms = st.sampled_from(NORMS)
far = (-1e6, 1e6)


def draw(seed, d, spread, dtype=torch.float32, n=7):
    g = torch.Generator().manual_seed(seed)
    origins = torch.rand(n, d, generator=g, dtype=dtype)
    return origins, origins + spread * torch.randn(n, d, generator=g, dtype=dtype)


@quick
@given(seeds, sizes, radii, spreads, norms)
def test_projection_lands_in_the_ball_and_in_the_domain(seed, d, eps, spread, norm):
    origins, points = draw(seed, d, spread)
    found = project(points, origins, ThreatModel(norm, eps))
    assert found.shape == points.shape
    assert found.dtype == points.dtype
    assert (distance(found, origins, norm) <= eps * (1 + 1e-5) + 1e-6).all()
    assert (found >= 0).all()
    assert (found <= 1).all()


@quick
@given(seeds, sizes, radii, spreads, norms)
def test_projection_leaves_points_inside_exactly_where_they_are(seed, d, eps, spread, norm):
    origins, points = draw(seed, d, spread)
    points = points.clamp(0, 1)
    inside = distance(points, origins, norm) <= eps * (1 - 1e-6)
    found = project(points, origins, ThreatModel(norm, eps))
    assert torch.equal(found[inside], points[inside])


def test_points_inside_stay_although_sums_of_differences_round():
    g = torch.Generator().manual_seed(0)
    origins, points = torch.rand(2, 100, 20, generator=g)
    points = points**4
    assert not torch.equal(origins + (points - origins), points)
    for norm in NORMS:
        assert torch.equal(project(points, origins, ThreatModel(norm, 20)), points)


@quick
@given(seeds, sizes, radii, spreads, norms)
def test_projection_twice_is_projection_once(seed, d, eps, spread, norm):
    origins, points = draw(seed, d, spread, torch.float64)
    threat = ThreatModel(norm, eps)
    once = project(points, origins, threat)
    torch.testing.assert_close(project(once, origins, threat), once, rtol=0, atol=1e-12)


def bisected_shrink(size, eps):
    """The soft threshold at which the l1 norm is eps, found by root search."""
    return brentq(lambda t: np.maximum(size - t, 0).sum() - eps, 0, size.max(), xtol=1e-14)


@quick
@given(seeds, sizes, st.sampled_from([1e-3, 0.5, 3.0]), st.sampled_from([0.1, 1.0, 30.0]))
def test_l1_projection_equals_root_search_for_the_threshold(seed, d, eps, spread):
    origins, points = draw(seed, d, spread, torch.float64)
    found = project(points, origins, ThreatModel("l1", eps, far)).numpy()
    for row, point, origin in zip(found, points.numpy(), origins.numpy(), strict=True):
        step = point - origin
        if np.abs(step).sum() > eps:
            step = np.sign(step) * np.maximum(np.abs(step) - bisected_shrink(np.abs(step), eps), 0)
        np.testing.assert_allclose(row, origin + step, rtol=0, atol=1e-9)


@quick
@given(seeds, sizes, st.sampled_from([1e-3, 0.5, 3.0]), spreads, norms)
def test_projection_is_the_nearest_point_of_the_ball(seed, d, eps, spread, norm):
    """By the obtuse angle at the nearest point: no point of a convex set lies further along p - q than q."""
    origins, points = draw(seed, d, spread, torch.float64)
    found = project(points, origins, ThreatModel(norm, eps, far))
    outward = points - found
    furthest = {
        "linf": eps * outward.abs().sum(1),
        "l2": eps * (outward**2).sum(1).sqrt(),
        "l1": eps * outward.abs().amax(1),
    }[norm]
    reached = (outward * (found - origins)).sum(1)
    assert (furthest - reached <= 1e-9 * (1 + outward.abs().sum(1))).all()


def test_linf_projection_is_the_nearest_point_of_ball_and_domain_together():
    origins = torch.tensor([[0.05, 0.5, 0.95]])
    points = torch.tensor([[-3.0, 0.55, 3.0]])
    found = project(points, origins, ThreatModel("linf", 0.1))
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.55, 1.0]]))


@quick
@given(seeds, sizes, spreads)
def test_distances_are_those_of_numpy(seed, d, spread):
    origins, points = draw(seed, d, spread, torch.float64)
    for norm, order in (("linf", np.inf), ("l2", 2), ("l1", 1)):
        expected = np.linalg.norm((points - origins).numpy(), ord=order, axis=1)
        np.testing.assert_allclose(distance(points, origins, norm), expected, rtol=1e-12)


def test_distance_is_over_everything_but_the_rows():
    first, second = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    assert distance(first, second, "l1").tolist() == [48.0, 48.0]
    assert distance(first, second, "linf").tolist() == [1.0, 1.0]
    assert distance(torch.zeros(2, 0), torch.zeros(2, 0), "linf").tolist() == [0.0, 0.0]
    assert distance(torch.zeros(0, 3), torch.zeros(0, 3), "l2").shape == (0,)


def length(step, norm):
    return torch.linalg.vector_norm(step.flatten(1), ord={"linf": math.inf, "l2": 2, "l1": 1}[norm], dim=1)


@quick
@given(seeds, sizes, norms, st.sampled_from([1e-30, 1e-3, 1.0, 1e30]))
def test_steepest_is_a_unit_step_that_no_other_unit_step_beats(seed, d, norm, scale):
    g = torch.Generator().manual_seed(seed)
    direction = torch.randn(5, d, generator=g)
    step = steepest(direction * scale, norm)
    torch.testing.assert_close(length(step, norm), torch.ones(5), rtol=1e-5, atol=0)
    others = torch.randn(200, 5, d, generator=g)
    others = others / torch.stack([length(o, norm) for o in others]).unsqueeze(2)
    gain, rival = (step * direction).sum(1), (others * direction).sum(2)
    assert (gain >= rival * (1 - 1e-5) - 1e-6).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-30, 1e-38, 1e-42])
def test_tiny_gradients_do_not_underflow(norm, scale):
    gradient = torch.tensor([[3.0, -4.0], [1.0, 0.0]]) * scale
    expected = {"linf": [1.0, -1.0], "l2": [0.6, -0.8], "l1": [0.0, -1.0]}[norm]
    torch.testing.assert_close(
        steepest(gradient, norm), torch.tensor([expected, [1.0, 0.0]]), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("norm", NORMS)
def test_rows_without_gradient_do_not_move(norm):
    gradient = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    step = steepest(gradient, norm)
    assert step.shape == gradient.shape
    assert torch.equal(step[0], torch.zeros(1, 4, 4))
    assert step[1].abs().sum() > 0


@pytest.mark.parametrize(
    ("text", "value"),
    [("8/255", 8 / 255), ("0.1", 0.1), (" 1/2 ", 0.5), ("1e-3", 1e-3), ("0", 0.0), (0.25, 0.25), (3, 3.0)],
)
def test_radii_are_read_as_written(text, value):
    assert parse_radius(text) == value


@pytest.mark.parametrize(
    "bad", ["", "eight", "8/0", "-1/255", "nan", "inf", "8 / 255 px", "1e400", -0.1, math.nan, math.inf, None]
)
def test_bad_radii_are_refused_with_the_value_and_an_example(bad):
    with pytest.raises(InputError, match=r"expected a finite radius >= 0, got .*; try eps=8/255"):
        parse_radius(bad)


@quick
@given(st.integers(0, 10_000), st.integers(1, 10_000))
def test_fractions_are_rounded_once(top, bottom):
    assert parse_radius(f"{top}/{bottom}") == top / bottom


@pytest.mark.parametrize(
    ("norm", "advice"),
    [("Linf", "try linf"), ("l_2", "try l2"), ("l3", "try l"), (2, "try l2"), (math.inf, "try linf")],
)
def test_unknown_norms_are_refused_with_the_closest(norm, advice):
    with pytest.raises(UnknownNameError, match=f"expected the name of a known norm, got .*; {advice}"):
        ThreatModel(norm, 0.1)


@pytest.mark.parametrize("domain", [(1, 0), (0, 0), (math.nan, 1), (0,), (0, 1, 2), ("a", "b"), 1])
def test_bad_domains_are_refused(domain):
    with pytest.raises(InputError, match=r"expected a domain \(low, high\) with low < high, got .*; try"):
        ThreatModel("linf", 0.1, domain)


def test_a_threat_is_a_value():
    threat = ThreatModel("l2", "1/2", (-1, 1))
    assert threat == ThreatModel("l2", 0.5, (-1.0, 1.0))
    assert hash(threat) == hash(ThreatModel("l2", 0.5, (-1.0, 1.0)))
    assert str(threat) == "l2 0.5"
    assert threat.domain == (-1.0, 1.0)
    with pytest.raises(AttributeError):
        threat.eps = 1.0
