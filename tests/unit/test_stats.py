"""Intervals and tests against scipy and closed forms."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, spearmanr

from robustgeom.errors import InputError
from robustgeom.stats import Interval, bootstrap, clopper_pearson, log_evidence, mcnemar, spearman, wilson

COUNTS = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS, st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_equals_scipy(counts, confidence):
    successes, n = counts
    ours = wilson(successes, n, confidence=confidence)
    theirs = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert ours.low == pytest.approx(theirs.low, abs=1e-9)
    assert ours.high == pytest.approx(theirs.high, abs=1e-9)


@given(COUNTS)
def test_wilson_holds_its_value_inside_zero_and_one(counts):
    interval = wilson(*counts)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.n == counts[1]
    assert float(interval) == counts[0] / counts[1]


def test_wilson_at_the_ends_touches_them():
    assert wilson(0, 20).low == 0.0
    assert wilson(20, 20).high == 1.0
    assert str(wilson(1, 2)) == "50.0 % [9.5, 90.5] (n=2)"


@given(COUNTS, st.sampled_from([0.8, 0.95, 0.99]))
def test_clopper_pearson_equals_scipy(counts, confidence):
    ours = clopper_pearson(*counts, confidence=confidence)
    theirs = binomtest(*counts).proportion_ci(confidence, method="exact")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ours.low <= ours.value == counts[0] / counts[1] <= ours.high


def coverage(interval, n, p):
    """Return how often intervals of n trials at each p (m,) cover it, by adding up all outcomes."""
    found = [interval(k, n) for k in range(n + 1)]
    low, high = (np.array([getattr(i, side) for i in found]) for side in ("low", "high"))
    chance = binom.pmf(np.arange(n + 1), n, p[:, None])
    return (chance * ((low <= p[:, None]) & (p[:, None] <= high))).sum(1)


@pytest.mark.parametrize("n", [1, 10, 50, 200, 500])
def test_clopper_pearson_covers_at_least_as_often_as_it_says(n):
    covered = coverage(clopper_pearson, n, np.linspace(0.001, 0.999, 999))
    assert covered.min() >= 0.95
    assert covered.mean() < 0.99 or n < 50  # not for the price of intervals that cover everything


@pytest.mark.parametrize("n", [10, 50, 200, 500])
def test_wilson_covers_as_often_as_it_says_on_average(n):
    p = np.linspace(0.0005, 0.9995, 1000)
    covered = coverage(wilson, n, p)
    assert covered.mean() == pytest.approx(0.95, abs=0.005)
    assert covered.min() > 0.83  # near 0 and 1 it may fall short
    assert covered[(p > 0.2) & (p < 0.8)].min() > 0.91


@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 3), (4, 3)])
def test_intervals_refuse_impossible_counts(interval, successes, n):
    with pytest.raises(InputError, match="successes"):
        interval(successes, n)


def evidence(ahead, behind):
    """Return the evidence as a ratio of binomial sums: another route to the same integral, in whole numbers."""
    n = ahead + behind
    return Fraction(sum(math.comb(n + 1, k) for k in range(ahead + 1)), (n + 1) * math.comb(n, ahead))


@given(st.integers(0, 500), st.integers(0, 500))
def test_log_evidence_equals_the_exact_ratio(ahead, behind):
    exact = evidence(ahead, behind)
    found = float(log_evidence(ahead, behind))
    assert found == pytest.approx(math.log(exact.numerator) - math.log(exact.denominator), abs=1e-9)


def test_evidence_is_a_fair_game_where_both_are_as_likely():
    ahead, behind = np.meshgrid(np.arange(60), np.arange(60))
    win, lose = np.exp(log_evidence(ahead + 1, behind)), np.exp(log_evidence(ahead, behind + 1))
    np.testing.assert_allclose((win + lose) / 2, np.exp(log_evidence(ahead, behind)), rtol=1e-10)


def crossing(p, draws, alpha):
    """Return how likely the evidence reaches 1 / alpha within so many draws, by adding up all paths."""
    paths, crossed = np.ones(1), 0.0
    for n in range(1, draws + 1):
        paths = np.append(paths * (1 - p), 0) + np.append(0, paths * p)
        over = log_evidence(np.arange(n + 1), n - np.arange(n + 1)) >= -math.log(alpha)
        crossed, paths = crossed + paths[over].sum(), np.where(over, 0, paths)
    return crossed


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_evidence_looked_at_after_every_draw_errs_no_more_often_than_it_says(alpha):
    even = crossing(0.5, 1000, alpha)
    assert alpha / 5 < even <= alpha
    assert crossing(0.45, 1000, alpha) < even


def test_evidence_finds_a_majority():
    assert crossing(0.8, 64, 0.01) > 0.97
    assert crossing(0.6, 1000, 0.01) > 0.99


def test_evidence_falls_with_what_is_behind_and_rests_on_counts():
    assert (np.diff(log_evidence(30, np.arange(900))) < 0).all()
    assert log_evidence(0, 5000) < 0
    assert log_evidence([0], [0]) == pytest.approx(0)
    with pytest.raises(InputError, match="counts of at least 0"):
        log_evidence([3, -1], [0, 0])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80))
def test_mcnemar_is_the_binomial_tail_of_the_disagreements(pairs):
    first, second = zip(*pairs, strict=True)
    wins = sum(a and not b for a, b in pairs)
    losses = sum(b and not a for a, b in pairs)
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(min(wins, losses) + 1)) / 2**n
    assert mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar(first, second) == pytest.approx(mcnemar(second, first))


def test_mcnemar_refuses_unpaired_verdicts():
    with pytest.raises(InputError, match="same samples"):
        mcnemar([True], [True, False])


def test_bootstrap_covers_the_normal_interval():
    values = np.random.default_rng(1).standard_normal(400)
    half = 1.96 * values.std() / np.sqrt(400)
    interval = bootstrap(values)
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.015)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.015)
    assert bootstrap(values) == interval


def test_bootstrap_takes_rows_together():
    rows = np.column_stack([np.arange(30.0), np.arange(30.0) + 2])
    interval = bootstrap(rows, lambda v: float((v[:, 1] - v[:, 0]).mean()))
    assert (interval.value, interval.low, interval.high) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("shape", [(1,), (7,), (500,), (3001,), (40, 3)])
def test_bootstrap_of_the_mean_is_what_taking_it_draw_by_draw_gives(shape):
    values = np.random.default_rng(2).standard_normal(shape)
    assert bootstrap(values, repeats=700) == bootstrap(values, lambda v: float(v.mean()), repeats=700)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20))
def test_bootstrap_stays_within_the_data(values):
    interval = bootstrap(values, repeats=50)
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9
    assert isinstance(interval, Interval)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_bootstrap_refuses_missing_rows(values):
    with pytest.raises(InputError, match="finite"):
        bootstrap(values)


@given(st.lists(st.tuples(st.integers(-3, 3), st.floats(-5, 5)), min_size=2, max_size=30))
def test_spearman_is_scipys_with_ties_and_0_where_one_is_flat(pairs):
    first, second = zip(*pairs, strict=True)
    flat = len(set(first)) == 1 or len(set(second)) == 1
    expected = 0.0 if flat else spearmanr(first, second).statistic
    assert spearman(first, second) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("pair", [([1], [1]), ([1, 2], [1, 2, 3]), ([1, math.nan], [1, 2])])
def test_series_that_do_not_pair_have_no_rank_correlation(pair):
    with pytest.raises(InputError, match="two finite series"):
        spearman(*pair)
