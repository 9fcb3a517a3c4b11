"""The table that Markdown and LaTeX share."""

from __future__ import annotations

from robustgeom.report.compare import Comparison, ModelResult
from robustgeom.stats import Interval

__all__ = ["caption", "heads", "interval", "rows"]


def heads(comparison: Comparison) -> list[str]:
    """Return the columns' names."""
    return ["model", "clean", *map(comparison.place, _radii(comparison)), "verdict"]


def rows(comparison: Comparison) -> list[list[str]]:
    """Return a row a model: its name, accuracies in % with intervals, and the verdict; nothing where it did not get.

    What an unfinished run left is an upper bound and says so.
    """
    return [_row(m, _radii(comparison)) for m in comparison.models]


def caption(comparison: Comparison) -> str:
    """Say what the numbers are, and what speaks against quoting them."""
    first = comparison.models[0]
    data, suites = first.record.header.data, " or ".join(comparison.suites)
    text = (
        f"Accuracy in % on {first.accuracy.n} samples of {data.name} ({data.split}), without attack and under the "
        f"worst of {suites}, with 95 % intervals."
    )
    if comparison.mixed:
        text += " Models met different attacks or remedies."
    if any(suite.startswith("quick-") for suite in comparison.suites):
        text += " A first look, not figures to quote."
    return text


def interval(share: Interval) -> str:
    """Write a share in % with its interval.

    >>> interval(Interval(0.5, 0.43, 0.57, 50))
    '50.0 [43.0, 57.0]'
    """
    return f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def _radii(comparison: Comparison) -> list[float]:
    return [r for r in comparison.headlines if r > 0]


def _row(model: ModelResult, radii: list[float]) -> list[str]:
    bound = "at most " if model.partial else ""
    robust = [f"{bound}{interval(model.robust[r])}" if r in model.robust else "" for r in radii]
    return [model.name, interval(model.accuracy), *robust, model.word]
