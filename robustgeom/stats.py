"""Intervals and paired tests on plain numbers; no torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustgeom.errors import InputError

__all__ = [
    "Interval",
    "bootstrap",
    "clopper_pearson",
    "exceeds",
    "log_evidence",
    "mcnemar",
    "spearman",
    "wilson",
]

DRAWN = 1 << 20  # numbers that a bootstrap of means holds at once


@dataclass(frozen=True)
class Interval:
    """A number with its confidence interval and the count behind it."""

    value: float
    low: float
    high: float
    n: int

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}] (n={self.n})"


def wilson(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Return a share with its Wilson score interval (Wilson 1927).

    `successes` of `n` trials; the result is a share in [0, 1]. Raises `InputError` on n < 1 or
    successes outside 0..n.

    >>> interval = wilson(50, 100)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.4038, 0.5962)
    """
    _check_counts(successes, n)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    # At 0 and n the bound is exactly the share; rounding must not push it inside.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(share, low, high, n)


def clopper_pearson(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Return a share with its exact interval (Clopper & Pearson 1934), which covers at least as often as it says.

    `successes` of `n` trials; the result is a share in [0, 1]. Raises `InputError` on n < 1 or
    successes outside 0..n.

    >>> interval = clopper_pearson(50, 100)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.3983, 0.6017)
    """
    _check_counts(successes, n)
    # Not scipy.stats, here and below: importing it takes longer than most that is asked of it.
    from scipy.special import betainccinv, betaincinv

    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betainccinv(successes + 1, n - successes, tail))
    return Interval(successes / n, low, high, n)


def _check_counts(successes: int, n: int) -> None:
    if n < 1 or not 0 <= successes <= n:
        raise InputError("0 <= successes <= n and n >= 1", got=f"{successes} of {n}", fix="count again")


def log_evidence(ahead: ArrayLike, behind: ArrayLike) -> NDArray[np.float64]:
    """Return the log of the evidence that one outcome is likelier than another, valid however often it is looked at.

    `ahead`, `behind`: (n,) counts of the two outcomes. The evidence is the likelihood ratio of p uniform on
    (1/2, 1] to p = 1/2, an e-value against p <= 1/2: it ever reaches 1 / alpha with probability alpha at most
    (Ville 1939). Raises `InputError` on counts below 0.

    >>> log_evidence([9, 8], [0, 1]) >= np.log(100)
    array([ True, False])
    """
    a, b = np.asarray(ahead, dtype=np.float64), np.asarray(behind, dtype=np.float64)
    if (a < 0).any() or (b < 0).any():
        raise InputError("counts of at least 0", got=f"{min(a.min(), b.min()):g}", fix="count again")
    from scipy.special import betainc, betaln

    with np.errstate(divide="ignore"):  # a thousand draws behind, the tail rounds to 0: no evidence at all
        tail = np.log(betainc(b + 1, a + 1, 0.5))
    found: NDArray[np.float64] = (a + b + 1) * math.log(2) + betaln(a + 1, b + 1) + tail
    return found


def mcnemar(first: ArrayLike, second: ArrayLike) -> float:
    """Return the exact two-sided McNemar p-value of two paired verdicts.

    `first`, `second`: (n,) booleans about the same samples. 1.0 where they never disagree.

    >>> mcnemar([True] * 6 + [False], [False] * 6 + [False])
    0.03125
    """
    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape != b.shape:
        raise InputError(
            "verdicts on the same samples", got=f"{a.shape} and {b.shape}", fix="pair them by id"
        )
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    if only_a + only_b == 0:
        return 1.0
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def bootstrap(
    values: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], float] | None = None,
    *,
    seed: int = 0,
    repeats: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Return a statistic with its percentile bootstrap interval over the rows of `values`.

    `values`: (n,) or (n, k), one row per sampled unit, in the units of the result. `statistic` makes one number of such
    rows; without it, their mean is taken.

    >>> bootstrap([1.0, 1.0, 1.0]).high
    1.0
    """
    rows = np.asarray(values, dtype=np.float64)
    if len(rows) == 0 or not np.isfinite(rows).all():
        raise InputError(
            "at least one row, all finite", got=f"shape {rows.shape}", fix="drop missing rows first"
        )
    rng = np.random.default_rng(seed)
    if statistic is None:
        found, draws = float(rows.mean()), _means(rows, rng, repeats)
    else:
        found = float(statistic(rows))
        draws = np.array(
            [statistic(rows[rng.integers(0, len(rows), len(rows))]) for _ in range(repeats)], dtype=np.float64
        )
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(found, float(low), float(high), len(rows))


def _means(rows: NDArray[np.float64], rng: np.random.Generator, repeats: int) -> NDArray[np.float64]:
    """Return the means of `repeats` draws with replacement, many at a time: the same draws as one after the other."""
    n = len(rows)
    at_once = max(1, DRAWN // n)
    parts = [min(at_once, repeats - start) for start in range(0, repeats, at_once)]
    drawn = (rows[rng.integers(0, n, (part, n))].reshape(part, -1) for part in parts)
    return np.concatenate([each.mean(axis=1) for each in drawn])


def exceeds(count: int, n: int, rate: float, *, fewest: int = 3, level: float = 0.01) -> bool:
    """Return whether `count` of `n` are more than a share `rate` explains: at least `fewest`, and p < `level`.

    The test is the exact one-sided binomial one. Raises `InputError` where count is not in 0..n or rate not in [0, 1].

    >>> exceeds(3, 32, 0.01), exceeds(3, 128, 0.01), exceeds(2, 8, 0.01)
    (True, False, False)
    """
    if not 0 <= count <= n or not 0 <= rate <= 1:
        raise InputError(
            "0 <= count <= n and a rate in [0, 1]", got=f"{count} of {n}, {rate}", fix="count again"
        )
    if count < fewest:
        return False
    from scipy.special import bdtrc

    return bool(bdtrc(count - 1, n, rate) < level)


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Return Spearman's rank correlation in [-1, 1] of two series (n,); 0 where one is flat.

    Ties share their mean rank. Raises `InputError` where lengths differ, there are fewer than two, or a number is not
    finite.

    >>> spearman([1, 2, 3, 4], [10, 30, 20, 40])
    0.8
    """
    pair = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if pair[0].shape != pair[1].shape or pair[0].ndim != 1 or len(pair[0]) < 2 or not np.isfinite(pair).all():
        got = f"shapes {pair[0].shape} and {pair[1].shape}"
        raise InputError("two finite series of one length, two or more", got=got, fix="pairing them")
    a, b = (_ranks(values) for values in pair)
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 0 else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks
