"""One function per chart; every chart is as wide as its container and never tells by colour alone.

Colours keep a contrast above 3:1 on white and on the page's dark background. Text takes the theme's colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from robustgeom.errors import InputError
from robustgeom.registry import MEASURES
from robustgeom.report.marks import colour, dash, data, shape
from robustgeom.report.tables import Histogram
from robustgeom.stats import Interval

__all__ = [
    "accuracy_chart",
    "axis_title",
    "certificate_chart",
    "geometry_chart",
    "histogram_chart",
    "ranking_chart",
    "sweep_chart",
    "tradeoff_chart",
]

Curve = Sequence[tuple[float, Interval]]
FEW = 4  # more bands than this hide each other
LAST = "logits"
UPPER, LOWER = "withstood the attacks", "certified"
NAME_WIDTH, ROW = 230, 17  # pixels
CROWDED = 24  # stages; of more than so many, names that overlap are left out


def axis_title(measure: str) -> str:
    """Return "name (unit)" of a measure.

    >>> axis_title("capacity")
    'capacity (manifolds per feature)'
    """
    known = MEASURES.get(measure)
    name = measure.replace("_", " ")
    return f"{name} ({known.unit})" if known else name


def accuracy_chart(
    curves: Mapping[str, Curve],
    *,
    norm: str,
    headlines: Sequence[float] = (),
    scale: float = 1.0,
    unit: str = "input units",
    kinds: Mapping[str, str] | None = None,
    members: Mapping[str, str] | None = None,
) -> alt.LayerChart | alt.FacetChart:
    """Chart robust accuracy against the radius: one line with band and points per model, rules at headlines.

    `curves`: {model: (radius, interval) pairs}; radii are multiplied by `scale` and shown in `unit`. `kinds`: {model:
    kind} of many models, which share colours by kind and have no bands; `members`: {model: names} that a filter finds a
    curve by. Raises `InputError` where there is no curve.

    >>> sorted(accuracy_chart({"net": [(0.0, Interval(0.9, 0.8, 0.95, 50))]}, norm="linf").to_dict())[0]
    '$schema'
    """
    if not curves:
        raise InputError("at least one curve", got="none", fix="compare a record first")
    rows = [
        {"model": m, "eps": r * scale, "accuracy": i.value, "low": i.low, "high": i.high, "n": i.n}
        | ({"kind": kinds[m]} if kinds else {})
        | ({"members": members[m]} if members else {})
        for m, curve in curves.items()
        for r, i in curve
    ]
    names, by = (list(dict.fromkeys(kinds.values())), "kind") if kinds else (list(curves), "model")
    y = alt.Y("accuracy:Q", title="accuracy").axis(format="%").scale(domain=[0, 1])
    base = alt.Chart(data(rows)).encode(
        x=_radius_axis(norm, unit, sorted({r * scale for curve in curves.values() for r, _ in curve}))
    )
    band = base.mark_area(opacity=0.15 if len(curves) <= FEW else 0.05).encode(
        y=alt.Y("low:Q", title="accuracy"), y2="high:Q", color=colour(names, by)
    )
    line = base.mark_line(strokeWidth=1.2 if kinds else 2).encode(
        y=y, color=colour(names, by), strokeDash=dash(names, by), detail="model:N"
    )
    tooltip = [
        "model:N",
        "eps:Q",
        *(alt.Tooltip(f"{c}:Q", format=".1%") for c in ("accuracy", "low", "high")),
        "n:Q",
    ]
    points = base.mark_point(filled=True, size=30 if kinds else 55, opacity=1).encode(
        y=y, color=colour(names, by), shape=shape(names, by), tooltip=tooltip
    )
    layers = _rules(headlines, scale), *(() if kinds else (band,)), line, points
    return alt.layer(*layers).properties(width="container", height=300)


def _radius_axis(norm: str, unit: str, radii: Sequence[float]) -> alt.X:
    """Return the axis of radii; an amplitude over another is labelled in decibels."""
    title = "signal-to-noise ratio" if norm == "snr" else f"eps, {norm}, {unit} (square-root axis)"
    axis = alt.X("eps:Q", title=title).scale(type="sqrt", nice=False)
    if norm != "snr":
        return axis
    decibels = "format(-20 * log(datum.value) / LN10, '.3~r') + ' dB'"
    return axis.axis(values=list(radii), labelExpr=f"datum.value > 0 ? {decibels} : 'clean'")


def certificate_chart(
    bounds: Mapping[float, tuple[float, float]],
    *,
    norm: str,
    evaluated: Sequence[float] = (),
    headlines: Sequence[float] = (),
    scale: float = 1.0,
    unit: str = "input units",
) -> alt.LayerChart | alt.FacetChart:
    """Chart certified accuracy under accuracy under attack, with the shares between filled, rules at headlines.

    `bounds`: {radius: (certified, attacked)}, shares at radii close to each other, drawn as steps; those at the
    `evaluated` radii get marks. Radii are multiplied by `scale` and shown in `unit`. Raises `InputError` without any.

    >>> sorted(certificate_chart({0.0: (0.5, 0.9)}, norm="l2").to_dict())[0]
    '$schema'
    """
    if not bounds:
        raise InputError("bounds at one radius or more", got="none", fix="a record with certificates")
    kinds = [UPPER, LOWER]
    rows = [{"eps": r * scale, UPPER: high, LOWER: low} for r, (low, high) in bounds.items()]
    lines = [{"eps": row["eps"], "accuracy": row[k], "condition": k} for row in rows for k in kinds]
    marked = {radius * scale for radius in evaluated}
    x = alt.X("eps:Q", title=f"eps, {norm}, {unit} (square-root axis)").scale(type="sqrt", nice=False)
    y = alt.Y("accuracy:Q", title="accuracy").axis(format="%").scale(domain=[0, 1])
    gap = alt.Chart(data(rows)).mark_area(opacity=0.15, interpolate="step-after", color="#7d838c")
    between = gap.encode(x=x, y=alt.Y(f"{LOWER}:Q", title="accuracy"), y2=f"{UPPER}:Q")
    encoded = {"x": x, "y": y, "color": colour(kinds)}
    line = alt.Chart(data(lines)).mark_line(strokeWidth=2, interpolate="step-after")
    tooltip = ["condition:N", "eps:Q", alt.Tooltip("accuracy:Q", format=".1%")]
    point = alt.Chart(data([row for row in lines if row["eps"] in marked]))
    layers = (
        _rules(headlines, scale),
        between,
        line.encode(**encoded, strokeDash=dash(kinds)),
        point.mark_point(filled=True, size=50, opacity=1).encode(
            **encoded, shape=shape(kinds), tooltip=tooltip
        ),
    )
    return alt.layer(*layers).properties(width="container", height=240)


def _rules(headlines: Sequence[float], scale: float) -> alt.Chart:
    marks = alt.Chart(data([{"eps": h * scale} for h in headlines]))
    rules: alt.Chart = marks.mark_rule(strokeDash=[2, 3], color="#7d838c").encode(x="eps:Q")
    return rules


def geometry_chart(
    rows: list[dict[str, Any]], *, high: float | None = None
) -> alt.LayerChart | alt.FacetChart:
    """Chart one measure of one model along the stages, one line per condition, with error bars of two se.

    `rows`: aggregate rows with stage, condition, measure, value, se, in stage order; `high`: common top of
    the axis. Raises `InputError` where there are no rows.
    """
    if not rows:
        raise InputError("aggregate rows of a measure", got="none", fix="evaluating without --no-analyze")
    # Models may have different stages between the same ends.
    order = sorted(dict.fromkeys(r["stage"] for r in rows), key=LAST.__eq__)
    conditions = list(dict.fromkeys(r["condition"] for r in rows))
    values = [_geometry_point(r, order) for r in rows]
    x = alt.X("stage:N", title=None, sort=order).axis(
        labelAngle=-40, labelLimit=150, labelOverlap=len(order) > CROWDED
    )
    top = high if high is not None else max(v["high"] for v in values)
    y = alt.Y("value:Q", title=axis_title(rows[0]["measure"])).scale(
        domain=[min(0.0, *(v["low"] for v in values)), top]
    )
    base = alt.Chart(data(values)).encode(x=x, y=y, color=colour(conditions))
    line = base.mark_line(strokeWidth=2).encode(strokeDash=dash(conditions))
    tooltip = ["stage:N", "condition:N", alt.Tooltip("value:Q", format=".4g")]
    points = base.mark_point(filled=True, size=50, opacity=1).encode(shape=shape(conditions), tooltip=tooltip)
    bars = base.mark_rule().encode(y=alt.Y("low:Q", title=axis_title(rows[0]["measure"])), y2="high:Q")
    return alt.layer(bars, line, points).properties(width="container", height=190)


def sweep_chart(
    rows: list[dict[str, Any]],
    seeds: Sequence[dict[str, Any]] = (),
    *,
    by: str = "rho",
    title: str = "noise variance over signal variance, rho",
    measure: str = "accuracy",
    others: Sequence[dict[str, Any]] = (),
) -> alt.LayerChart | alt.FacetChart:
    """Chart a measure against levels of something: a line with error bars a condition, a small point a training seed.

    `rows`: the level, called `by`, condition, value, low, high, n; `seeds`: level, condition, value, model; `others`:
    network and the same of networks without a level, which stand beside the levels. Accuracies are shares in [0, 1].
    Levels stand side by side in their order, since they go up by factors.
    """
    conditions = list(dict.fromkeys(r["condition"] for r in rows))
    share = measure == "accuracy"
    form = ".1%" if share else ".3g"
    beside = [{**r, by: r["network"]} for r in others]
    if beside:  # an axis is of numbers or of names
        rows, seeds = ([{**r, by: f"{r[by]:g}"} for r in some] for some in (rows, seeds))
    order = list(dict.fromkeys(r[by] for r in [*rows, *beside]))
    x = alt.X(f"{by}:O", title=title, sort=order).axis(labelAngle=-20 if beside else 0, labelLimit=160)
    y = alt.Y("value:Q", title=axis_title(measure))
    y = y.axis(format="%").scale(domain=[0, 1]) if share else y
    line = alt.Chart(data(rows)).mark_line(strokeWidth=2)
    every = alt.Chart(data([*rows, *beside])).encode(x=x, color=colour(conditions))
    bars = every.mark_rule(strokeWidth=1.6).encode(y=alt.Y("low:Q", title=axis_title(measure)), y2="high:Q")
    shares = [alt.Tooltip(f"{c}:Q", format=form) for c in ("value", "low", "high")]
    points = every.mark_point(filled=True, size=60, opacity=1).encode(
        y=y, shape=shape(conditions), tooltip=["condition:N", f"{by}:O", *shares, "n:Q"]
    )
    joined = line.encode(x=x, y=y, color=colour(conditions), strokeDash=dash(conditions))
    each = alt.Chart(data(list(seeds))).encode(x=x, y=y, color=colour(conditions))
    ticks = each.mark_tick(size=14, thickness=1.4, opacity=0.8).encode(
        tooltip=["model:N", "condition:N", alt.Tooltip("value:Q", format=form)]
    )
    layers = (bars, joined, *((ticks,) if seeds else ()), points)
    return alt.layer(*layers).properties(width="container", height=300)


def histogram_chart(
    histogram: Histogram, measure: str, *, top: float | None = None
) -> alt.LayerChart | alt.FacetChart:
    """Chart the shares of samples per bin of one logits measure, clean against attacked, as stepped outlines.

    `top`: common top of the share axis, so that panels can be compared.
    """
    conditions = list(histogram.shares)
    # A step begins at its row, so the last bin needs one more row to get its width.
    rows = [
        {"from": float(edge), "share": float(share), "condition": c}
        for c, shares in histogram.shares.items()
        for edge, share in zip(histogram.edges, [*shares, shares[-1]], strict=True)
    ]
    x = alt.X("from:Q", title=axis_title(measure)).scale(zero=False, nice=False)
    # A square root, since one bin of confident samples may hold most and hide the rest.
    scale = alt.Scale(type="sqrt", domain=[0, top]) if top else alt.Scale(type="sqrt")
    y = alt.Y("share:Q", title="share (square-root axis)", scale=scale).axis(format="%", tickCount=4)
    base = alt.Chart(data(rows)).encode(x=x, y=y, color=colour(conditions))
    fill = base.mark_area(interpolate="step-after", opacity=0.12).encode(y=y.stack(None))
    line = base.mark_line(interpolate="step-after", strokeWidth=1.8).encode(strokeDash=dash(conditions))
    means = alt.Chart(data([{"condition": c, "mean": m} for c, m in histogram.means.items()]))
    ticks = means.mark_point(size=70, filled=True, opacity=1, yOffset=-4).encode(
        x="mean:Q",
        y=alt.YDatum(0),
        color=colour(conditions),
        shape=shape(conditions),
        tooltip=["condition:N", alt.Tooltip("mean:Q", format=".3g")],
    )
    return alt.layer(fill, line, ticks).properties(width="container", height=150)


def ranking_chart(rows: list[dict[str, Any]]) -> alt.LayerChart | alt.FacetChart:
    """Chart accuracies with error bars, one line of points a network, in the order of the rows.

    `rows`: network, condition (such as "clean"), value, low, high, seeds, n.
    """
    conditions = list(dict.fromkeys(r["condition"] for r in rows))
    order = list(dict.fromkeys(r["network"] for r in rows))
    x = alt.X("value:Q", title="accuracy").axis(format="%", orient="top").scale(domain=[0, 1])
    y = alt.Y("network:N", title=None, sort=order).axis(grid=True, labelLimit=NAME_WIDTH, labelOverlap=False)
    base = alt.Chart(data(rows)).encode(y=y, color=colour(conditions))
    bars = base.mark_rule(strokeWidth=1.6).encode(x=alt.X("low:Q", title="accuracy"), x2="high:Q")
    shares = [alt.Tooltip(f"{c}:Q", format=".1%") for c in ("value", "low", "high")]
    points = base.mark_point(filled=True, size=45, opacity=1).encode(
        x=x, shape=shape(conditions), tooltip=["network:N", "condition:N", *shares, "seeds:Q", "n:Q"]
    )
    return alt.layer(bars, points).properties(width="container", height=ROW * len(order))


def tradeoff_chart(
    rows: list[dict[str, Any]], front: list[dict[str, Any]], *, place: str
) -> alt.LayerChart | alt.FacetChart:
    """Chart robust accuracy at `place` against clean accuracy: a point with error bars a network, by training.

    `rows`: network, training, and clean and robust, each also with _low and _high; `front`: those that no other is
    ahead of in both, joined by a line.
    """
    kinds = list(dict.fromkeys(r["training"] for r in rows))
    x = alt.X("clean:Q", title="accuracy without attack").axis(format="%").scale(zero=False)
    y = alt.Y("robust:Q", title=f"robust accuracy, {place}").axis(format="%").scale(domainMin=0)
    line = alt.Chart(data(front)).mark_line(strokeDash=[2, 3], color="#7d838c").encode(x=x, y=y)
    base = alt.Chart(data(rows)).encode(color=colour(kinds, "training"))
    across = base.mark_rule(opacity=0.5).encode(x=alt.X("clean_low:Q"), x2="clean_high:Q", y=y)
    along = base.mark_rule(opacity=0.5).encode(x=x, y=alt.Y("robust_low:Q"), y2="robust_high:Q")
    shares = [alt.Tooltip(f"{c}:Q", format=".1%") for c in ("clean", "robust")]
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        x=x, y=y, shape=shape(kinds, "training"), tooltip=["network:N", "training:N", *shares]
    )
    return alt.layer(line, across, along, points).properties(width="container", height=320)


def _geometry_point(row: dict[str, Any], order: list[str]) -> dict[str, Any]:
    half = 2 * row["se"] if row["se"] is not None else 0.0
    kept = {k: row[k] for k in ("stage", "condition", "value")}
    return kept | {
        "low": row["value"] - half,
        "high": row["value"] + half,
        "order": order.index(row["stage"]),
    }
