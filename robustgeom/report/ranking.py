"""Networks in order: accuracies side by side, and robust against clean accuracy."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from robustgeom.report.charts import ranking_chart, tradeoff_chart
from robustgeom.report.compare import Comparison
from robustgeom.report.crowd import Group, groups
from robustgeom.report.figures import Cell, Figure
from robustgeom.stats import Interval
from robustgeom.words import percent, share_text

__all__ = ["ranking_figures"]

FEWEST = 3  # networks that make an order
CLEAN = "clean"


def ranking_figures(comparison: Comparison) -> list[Figure]:
    """Return the ranking by robust accuracy at the strictest headline, and that against clean accuracy.

    Seeds of a network are averaged. Unfinished runs are left out, as they met less, and named.
    """
    radii = sorted(comparison.headlines, reverse=True)
    whole = (g for g in groups(comparison) if not any(m.partial for m in g.models))
    ranked = sorted(whole, key=lambda g: [-g.value(r) for r in radii])
    if len(ranked) < FEWEST or comparison.strictest == 0:
        return []
    return [_ranking(comparison, ranked), _tradeoff(comparison, ranked)]


def _ranking(comparison: Comparison, ranked: list[Group]) -> Figure:
    places = {CLEAN: 0.0} | {comparison.place(r): r for r in comparison.headlines}
    found = [(g, condition, g.share(radius)) for g in ranked for condition, radius in places.items()]
    rows = [
        {"network": g.label, "members": g.members, "condition": condition, "seeds": len(g.models)}
        | asdict(share)
        for g, condition, share in found
    ]
    columns = ("network", "seeds", "training", "condition", "accuracy", "low", "high", "n")
    body: tuple[tuple[Cell, ...], ...] = tuple(
        (g.label, len(g.models), g.training, condition, *(percent(v) for v in (i.value, i.low, i.high)), i.n)
        for g, condition, i in found
    )
    text = f"By robust accuracy at {comparison.place(comparison.strictest)}, with 95 % intervals over samples"
    text += "; seeds of a network are averaged." if any(len(g.models) > 1 for g in ranked) else "."
    text += _caution(comparison)
    return Figure("ranking", "Accuracy of each network", text, ranking_chart(rows), columns, body)


def _caution(comparison: Comparison) -> str:
    """Say who is left out, and what speaks against an order."""
    partial = [m.name for m in comparison.models if m.partial]
    left_out = f" Left out as unfinished: {', '.join(partial)}." if partial else ""
    mixed = " Models met different attacks or remedies, so the order says little." if comparison.mixed else ""
    return left_out + mixed


def _tradeoff(comparison: Comparison, ranked: list[Group]) -> Figure:
    place = comparison.place(comparison.strictest)
    pairs = [(g, g.share(0.0), g.share(comparison.strictest)) for g in ranked]
    rows = [_point(*pair) for pair in pairs]
    best = _front([row for row, (g, *_) in zip(rows, pairs, strict=True) if not g.doubt])
    text = _front_text([row["network"] for row in best]) + _caution(comparison)
    columns = ("network", "training", CLEAN, f"robust, {place}")
    body = tuple((g.label, g.training, share_text(c), share_text(r)) for g, c, r in pairs)
    chart = tradeoff_chart(rows, best, place=place)
    return Figure("tradeoff", "Robust against clean accuracy", text, chart, columns, body)


def _point(group: Group, clean: Interval, robust: Interval) -> dict[str, Any]:
    return {
        "network": group.label,
        "members": group.members,
        "training": group.training,
        "clean": clean.value,
        "clean_low": clean.low,
        "clean_high": clean.high,
        "robust": robust.value,
        "robust_low": robust.low,
        "robust_high": robust.high,
    }


def _front(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return those that no other is ahead of, by clean accuracy."""
    kept = [row for row in rows if not any(_ahead(other, row) for other in rows)]
    return sorted(kept, key=lambda row: float(row["clean"]))


def _ahead(one: dict[str, Any], other: dict[str, Any]) -> bool:
    gains = [float(one[k] - other[k]) for k in ("clean", "robust")]
    return min(gains) >= 0 and max(gains) > 0


def _front_text(names: list[str]) -> str:
    if not names:
        return "No network here is trustworthy, so there is no front."
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return (
        f"No trustworthy network is ahead of {listed} in both (point estimates; the dotted line joins them)."
    )
