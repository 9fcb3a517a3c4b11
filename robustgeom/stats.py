"""Intervals and paired tests on plain numbers; no torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robustgeom.errors import InputError

__all__ = ["Interval", "bootstrap", "mcnemar", "wilson"]


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
    if n < 1 or not 0 <= successes <= n:
        raise InputError("0 <= successes <= n and n >= 1", got=f"{successes} of {n}", fix="count again")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    # At 0 and n the bound is exactly the share; rounding must not push it inside.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(share, low, high, n)


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
    from scipy.stats import binomtest  # half a second, which `robustgeom --help` need not wait for

    return float(binomtest(only_a, only_a + only_b).pvalue)


def bootstrap(
    values: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], float] = lambda v: float(np.mean(v)),
    *,
    seed: int = 0,
    repeats: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Return a statistic with its percentile bootstrap interval over the rows of `values`.

    `values`: (n,) or (n, k), one row per sampled unit, in the units of the result.

    >>> bootstrap([1.0, 1.0, 1.0]).high
    1.0
    """
    rows = np.asarray(values, dtype=np.float64)
    if len(rows) == 0 or not np.isfinite(rows).all():
        raise InputError(
            "at least one row, all finite", got=f"shape {rows.shape}", fix="drop missing rows first"
        )
    rng = np.random.default_rng(seed)
    draws = [statistic(rows[rng.integers(0, len(rows), len(rows))]) for _ in range(repeats)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(float(statistic(rows)), float(low), float(high), len(rows))
