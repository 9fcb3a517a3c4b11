"""Intervals and tests against scipy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from robustgeom.errors import InputError
from robustgeom.stats import Interval, bootstrap, mcnemar, wilson

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


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 3), (4, 3)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(InputError, match="successes"):
        wilson(successes, n)


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


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20))
def test_bootstrap_stays_within_the_data(values):
    interval = bootstrap(values, repeats=50)
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9
    assert isinstance(interval, Interval)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_bootstrap_refuses_missing_rows(values):
    with pytest.raises(InputError, match="finite"):
        bootstrap(values)
