"""Measures of two networks against scipy and by hand, and their invariances; all gaps of one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from robustgeom import logits as measures
from robustgeom.errors import InputError, UnknownNameError

quick = settings(max_examples=40, deadline=None, derandomize=True)
seeds, classes = st.integers(0, 2**32 - 1), st.integers(3, 10)
PAIRS = ("confidence_difference", "confidence_correlation", "confident_overlap", "disagreement")


def pair(seed, k, n=40):
    generator = torch.Generator().manual_seed(seed)
    first = 2 * torch.randn(n, k, generator=generator, dtype=torch.float64)
    second = first + torch.randn(n, k, generator=generator, dtype=torch.float64)
    return first, second, torch.randint(k, (n,), generator=generator)


def sure(z):
    return special.softmax(z.numpy(), axis=1).max(1)


@quick
@given(seeds, classes)
def test_all_gaps_equal_numpy(seed, k):
    z, _, _ = pair(seed, k)
    ordered = -np.sort(-z.numpy(), axis=1)
    found = measures.gap_profile(z)
    np.testing.assert_allclose(found, ordered[:, :1] - ordered[:, 1:])
    torch.testing.assert_close(found[:, 0], measures.logit_gap(z))
    torch.testing.assert_close(found.mean(1), measures.mean_gap(z))


@quick
@given(seeds, classes)
def test_measures_of_two_networks_equal_scipy(seed, k):
    a, b, _ = pair(seed, k)
    assert measures.confidence_correlation(a, b) == pytest.approx(stats.spearmanr(sure(a), sure(b)).statistic)
    below = [(stats.rankdata(sure(z)) - 0.5) / len(z) for z in (a, b)]
    np.testing.assert_allclose(measures.confidence_difference(a, b), below[0] - below[1], atol=1e-12)
    np.testing.assert_allclose(
        measures.confidence_difference(a, b, ranked=False), sure(a) - sure(b), atol=1e-12
    )
    assert measures.disagreement(a, b).tolist() == (a.argmax(1) != b.argmax(1)).tolist()
    for share, highest in ((0.1, True), (0.25, False), (1.0, True)):
        sign, count = (-1 if highest else 1), math.ceil(share * len(a))
        ours, theirs = (set(np.argsort(sign * sure(z))[:count]) for z in (a, b))
        found = measures.confident_overlap(a, b, share=share, highest=highest)
        assert found == pytest.approx(len(ours & theirs) / count)


@quick
@given(seeds, classes, st.sampled_from(["kendall", "spearman"]))
def test_the_order_of_incorrect_classes_equals_scipy_row_by_row(seed, k, measure):
    a, b, y = pair(seed, k)
    found = measures.order_agreement(a, b, y, measure=measure)
    correlation = {"kendall": stats.kendalltau, "spearman": stats.spearmanr}[measure]
    for row, value in enumerate(found.tolist()):
        left = sorted(set(range(k)) - {int(y[row]), int(a[row].argmax()), int(b[row].argmax())})
        if len(left) < 2:
            assert math.isnan(value)
        else:
            assert value == pytest.approx(correlation(a[row, left], b[row, left]).statistic)


@quick
@given(seeds, classes, st.floats(0.1, 10), st.floats(-5, 5))
def test_what_rescales_or_shifts_one_network_moves_no_ranks(seed, k, scale, shift):
    a, b, y = pair(seed, k)
    moved = scale * b + shift
    torch.testing.assert_close(
        measures.order_agreement(a, moved, y), measures.order_agreement(a, b, y), equal_nan=True
    )
    assert torch.equal(measures.disagreement(a, moved), measures.disagreement(a, b))
    shifted = b + shift
    torch.testing.assert_close(
        measures.confidence_difference(a, shifted), measures.confidence_difference(a, b)
    )


def test_a_network_agrees_with_itself_and_not_with_its_opposite():
    a, _, y = pair(0, 6)
    assert measures.confidence_difference(a, a).abs().max() == 0
    assert measures.confidence_correlation(a, a) == pytest.approx(1)
    assert measures.confident_overlap(a, a) == 1
    assert not measures.disagreement(a, a).any()
    assert measures.order_agreement(a, a, y).min().item() == pytest.approx(1)
    two = torch.tensor([[9.0, 1.0, 2.0, 3.0, 8.0]])
    other = torch.tensor([[1.0, 3.0, 2.0, 1.0, 9.0]])  # of classes 1 to 3 the reverse
    assert measures.order_agreement(two, other, torch.tensor([0])).item() == pytest.approx(-1)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("shapes", [((3, 4), (3, 5)), ((3, 4), (2, 4)), ((4,), (4,)), ((0, 4), (0, 4))])
def test_logits_of_other_samples_are_refused(name, shapes):
    with pytest.raises(InputError, match="two networks on the same samples"):
        getattr(measures, name)(*(torch.zeros(s) for s in shapes))


def test_bad_arguments_of_two_network_measures_are_refused():
    a, b, y = pair(0, 4)
    with pytest.raises(InputError, match="three classes or more"):
        measures.order_agreement(a[:, :2], b[:, :2], y.clamp(max=1))
    with pytest.raises(InputError, match="a label a sample"):
        measures.order_agreement(a, b, y[1:])
    with pytest.raises(UnknownNameError, match="try kendall"):
        measures.order_agreement(a, b, y, measure="kendal")
    for share in (0, 1.2):
        with pytest.raises(InputError, match="0 < share <= 1"):
            measures.confident_overlap(a, b, share=share)
    with pytest.raises(InputError, match="one confidence for all samples"):
        measures.confidence_correlation(torch.zeros(5, 3), b[:5, :3])


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.25, 0.4])
def test_the_linear_closed_form_is_the_minimum_that_an_optimiser_finds(eps):
    """The adversarial logistic risk of y w.x - eps |w|_1 with w.x Gaussian, by quadrature, minimised numerically."""
    mean, deviation = np.array([1, 0.5, 0.3, 0.1, -0.4]), 1.2
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)

    def risk(w):
        margin = w @ mean - eps * np.abs(w).sum() + deviation * np.linalg.norm(w) * nodes
        return (weights / weights.sum()) @ np.logaddexp(0, -margin)

    found, margin = measures.linear_gaussian(torch.from_numpy(mean), deviation=deviation, eps=eps)
    best = optimize.minimize(risk, np.full(5, 0.1), method="Powell", options={"xtol": 1e-9, "ftol": 1e-14})
    assert risk(found.numpy()) <= best.fun + 1e-9
    np.testing.assert_allclose(found, best.x, atol=2e-3)
    known = {0.0: 2.0972, 0.1: 1.7778, 0.25: 1.3194, 0.4: 0.9028}
    assert margin == pytest.approx(known[eps], abs=1e-4)


@pytest.mark.parametrize(("deviation", "eps"), [(0, 0.1), (1, -0.1)])
def test_a_closed_form_of_nothing_is_refused(deviation, eps):
    with pytest.raises(InputError, match="deviation > 0 and eps >= 0"):
        measures.linear_gaussian(torch.ones(2), deviation=deviation, eps=eps)
