"""The table that Markdown and LaTeX share."""

from __future__ import annotations

from robustgeom.report.compare import Comparison, ModelResult
from robustgeom.stats import Interval
from robustgeom.words import radius_text

__all__ = ["caption", "heads", "interval", "rows"]


def heads(comparison: Comparison) -> list[str]:
    """Return the columns' names."""
    places = [f"{comparison.norm} {radius_text(r, comparison.norm)}" for r in comparison.headlines]
    return ["model", "clean", *places, "verdict"]


def rows(comparison: Comparison) -> list[list[str]]:
    """Return a row a model: its name, accuracies in % with intervals, and the verdict; nothing where it did not get."""
    return [_row(m, comparison.headlines) for m in comparison.models]


def caption(comparison: Comparison) -> str:
    """Say what the numbers are."""
    first = comparison.models[0]
    data, suite = first.record.header.data, first.record.header.suite
    return (
        f"Accuracy in % on {first.accuracy.n} samples of {data.name} ({data.split}), without attack and under the "
        f"worst of {suite.name} (version {suite.version}), with 95 % intervals."
    )


def interval(share: Interval) -> str:
    """Write a share in % with its interval.

    >>> interval(Interval(0.5, 0.43, 0.57, 50))
    '50.0 [43.0, 57.0]'
    """
    return f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def _row(model: ModelResult, headlines: tuple[float, ...]) -> list[str]:
    robust = [interval(model.robust[r]) if r in model.robust else "" for r in headlines]
    return [model.name, interval(model.accuracy), *robust, model.verdict.word]
