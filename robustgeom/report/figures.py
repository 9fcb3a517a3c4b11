"""Charts of a comparison with their titles, findings and data tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import altair as alt
import numpy as np

from robustgeom.registry import MEASURES
from robustgeom.report.charts import accuracy_chart, axis_title, geometry_chart, histogram_chart
from robustgeom.report.compare import Comparison, ModelResult
from robustgeom.report.crowd import MANY, groups
from robustgeom.report.tables import Histogram, aggregates, histograms
from robustgeom.words import loudness_text, percent, radius_text

__all__ = ["Cell", "Figure", "accuracy_figure", "calibration", "geometry_figures", "logit_figures", "units"]

WORDS = {"attack": "under attack", "noise": "under noise"}
LOGITS = ("logit_gap", "confidence", "max_logit")
Cell = str | float | int


@dataclass(frozen=True)
class Figure:
    """One chart: its id in the page, title, one-sentence finding, and its data as a table.

    `group` is the network that it is of, and `members` the names that a filter finds it by, where they are others.
    """

    id: str
    title: str
    finding: str
    chart: alt.LayerChart | alt.FacetChart
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    group: str = ""
    members: str = ""


UNITS = {
    "l0": "in changed components",
    "spatial": "as a share of the largest rotation and shift",
    "corruption": "as severity",
}


def units(comparison: Comparison) -> tuple[float, str]:
    """Return what radii are multiplied by in charts, and the unit that gives."""
    first = comparison.models[0].record.header
    in_steps = comparison.norm == "linf" and tuple(first.data.domain) == (0.0, 1.0)
    return (255.0, "in 1/255") if in_steps else (1.0, UNITS.get(comparison.norm, "in input units"))


def accuracy_figure(comparison: Comparison) -> Figure:
    """Return the chart of robust accuracy against the radius."""
    scale, unit = units(comparison)
    curves, crowd = {m.name: m.curve for m in comparison.models}, {}
    if len(curves) > MANY:
        together = groups(comparison)
        curves = {g.label: tuple((r, g.share(r)) for r in g.radii) for g in together}
        crowd["kinds"] = {g.label: g.training for g in together}
        crowd["members"] = {g.label: g.members for g in together}
    chart = accuracy_chart(
        curves, norm=comparison.norm, headlines=comparison.headlines, scale=scale, unit=unit, **crowd
    )
    heard = comparison.models[0].record.header.data.sound
    rows = tuple(
        (
            name,
            radius_text(r, comparison.norm),
            *(
                ()
                if heard is None
                else (loudness_text(r, comparison.norm, level=heard.level, samples=heard.samples),)
            ),
            *(percent(v) for v in (i.value, i.low, i.high)),
            i.n,
        )
        for name, curve in curves.items()
        for r, i in curve
    )
    both = () if heard is None else ("in l2" if comparison.norm == "snr" else "SNR",)
    columns = ("model", f"eps ({comparison.norm})", *both, "robust accuracy", "low", "high", "n")
    return Figure("accuracy", "Accuracy against eps", _accuracy_finding(comparison), chart, columns, rows)


def geometry_figures(
    comparison: Comparison, measures: Sequence[str], conditions: Sequence[str], prefix: str
) -> list[Figure]:
    """Return one chart per model and measure under these conditions, on axes that the models share."""
    found = []
    for measure in measures:
        tables = {
            m.name: [r for r in aggregates(m.record, measure) if r["condition"] in conditions]
            for m in comparison.models
        }
        points = [r["value"] + 2 * (r["se"] or 0) for rows in tables.values() for r in rows]
        high = 1.05 * max(points, default=0.0) or 1.0
        found += [_geometry_figure(n, measure, rows, conditions, high) for n, rows in tables.items() if rows]
    order = [m.name for m in comparison.models]
    ranked = sorted(found, key=lambda f: order.index(f.group))
    return [replace(figure, id=f"{prefix}-{i}") for i, figure in enumerate(ranked)]


def logit_figures(comparison: Comparison) -> list[Figure]:
    """Return one chart per model and logits measure, on axes that the models share."""
    found = []
    for measure in LOGITS:
        panels = histograms([m.record for m in comparison.models], measure)
        top = max((float(s.max()) for h in panels if h for s in h.shares.values()), default=1.0)
        pairs = zip(comparison.models, panels, strict=True)
        found += [_logit_figure(m.name, measure, h, 1.05 * top) for m, h in pairs if h]
    order = [m.name for m in comparison.models]
    ranked = sorted(found, key=lambda f: order.index(f.group))
    return [replace(figure, id=f"logits-{i}") for i, figure in enumerate(ranked)]


def calibration(comparison: Comparison) -> list[tuple[str, str, str, str]]:
    """Return rows of calibration error at the logits: model, condition, value with error, n."""
    return [
        (m.name, row["condition"], f"{row['value']:.3f}{_plus_minus(row)}", _count(row))
        for m in comparison.models
        for row in aggregates(m.record, "calibration_error")
        if row["stage"] == "logits"
    ]


def _accuracy_finding(comparison: Comparison) -> str:
    radius = comparison.strictest
    reached = [m for m in comparison.models if radius in m.robust]
    ranked = sorted(reached, key=lambda m: -m.robust[radius].value)
    best, worst = ranked[0], ranked[-1]
    place = comparison.place(radius)
    text = f"At {place} {_fall(best, radius)}"
    return f"{text}." if best is worst else f"{text}, {_fall(worst, radius)}."


def _fall(model: ModelResult, radius: float) -> str:
    robust, clean = percent(model.robust[radius].value), percent(model.accuracy.value)
    doubt = "" if model.verdict.trustworthy else f" ({model.verdict.word})"
    return f"{model.name} is right on {robust} of the samples{doubt}, {clean} without attack"


def _geometry_figure(
    name: str, measure: str, rows: list[dict[str, Any]], conditions: Sequence[str], high: float
) -> Figure:
    columns = ("stage", "condition", axis_title(measure), "standard error", "P", "M", "N", "n_t")
    body = tuple(
        (r["stage"], r["condition"], _number(r["value"]), _number(r["se"]), r["P"], r["M"], r["N"], r["n_t"])
        for r in rows
    )
    title = f"{measure.capitalize()} per stage"
    finding = _geometry_finding(measure, rows, conditions)
    return Figure("", title, finding, geometry_chart(rows, high=high), columns, body, name)


def _geometry_finding(measure: str, rows: list[dict[str, Any]], conditions: Sequence[str]) -> str:
    values = {(r["stage"], r["condition"]): r["value"] for r in rows}
    order = dict.fromkeys(r["stage"] for r in rows)
    paired = [s for s in order if {(s, c) for c in conditions} <= values.keys()]
    if not paired:
        return f"{measure.capitalize()} was measured under one condition only."
    first, second = (values[paired[-1], c] for c in conditions)
    change = f" ({100 * (second / first - 1):+.0f} %)" if first else ""
    said = [WORDS.get(c, c) for c in conditions]
    moved = f"{measure} goes from {first:.3g} {said[0]} to {second:.3g} {said[1]}{change}"
    return f"At the last stage, {paired[-1]}, {moved}{_better(measure)}."


def _better(measure: str) -> str:
    known = MEASURES.get(measure)
    if known is None or known.higher_is_better is None:
        return ""
    return "; higher is better" if known.higher_is_better else "; lower is better"


def _logit_figure(name: str, measure: str, histogram: Histogram, top: float) -> Figure:
    conditions = list(histogram.shares)
    shares = np.column_stack([histogram.shares[c] for c in conditions])
    body = tuple(
        (f"{a:.3g} to {b:.3g}", *(percent(s) for s in row))
        for a, b, row in zip(histogram.edges[:-1], histogram.edges[1:], shares, strict=True)
        if row.any()
    )
    label = measure.replace("_", " ").capitalize()
    moved = ", ".join(f"{histogram.means[c]:.3g} {c} (n = {histogram.counts[c]})" for c in conditions)
    chart = histogram_chart(histogram, measure, top=top)
    columns = (axis_title(measure), *conditions)
    return Figure("", label, f"The mean {label.lower()} is {moved}.", chart, columns, body, name)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _plus_minus(row: dict[str, Any]) -> str:
    return "" if row["se"] is None else f" \N{PLUS-MINUS SIGN} {row['se']:.3f}"


def _count(row: dict[str, Any]) -> str:
    return str((row["P"] or 0) * (row["M"] or 0) or "")
