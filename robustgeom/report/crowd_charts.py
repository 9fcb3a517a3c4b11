"""Charts in which many networks stand side by side: along stages, and measure by measure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from robustgeom.report.charts import NAME_WIDTH, ROW, axis_title
from robustgeom.report.marks import colour, dash, data, shape

__all__ = ["correlation_chart", "measures_chart", "stages_chart"]

COLUMNS, PANEL = 3, 230  # panels side by side, and pixels of one


def stages_chart(rows: list[dict[str, Any]], measure: str) -> alt.LayerChart | alt.FacetChart:
    """Chart a measure along the stages, one line a network, coloured by how it was trained and at which noise.

    `rows`: network, members, kind, stage, value, and place, counted from the end: -1 is a network's last stage.
    """
    first = {r["stage"]: min(o["place"] for o in rows if o["stage"] == r["stage"]) for r in rows}
    order = sorted(first, key=first.__getitem__)
    kinds = sorted({r["kind"] for r in rows}, key=_by_noise)
    x = alt.X("stage:N", title=None, sort=order).axis(labelAngle=-40, labelLimit=150)
    y = alt.Y("value:Q", title=axis_title(measure))
    base = alt.Chart(data(rows)).encode(x=x, y=y, color=colour(kinds, "kind"), detail="network:N")
    line = base.mark_line(strokeWidth=1.4).encode(strokeDash=dash(kinds, "kind"), order=alt.Order("place:Q"))
    tooltip = ["network:N", "kind:N", "stage:N", alt.Tooltip("value:Q", format=".3g")]
    points = base.mark_point(filled=True, size=40, opacity=1).encode(
        shape=shape(kinds, "kind"), tooltip=tooltip
    )
    return alt.layer(line, points).properties(width="container", height=260)


def _by_noise(kind: str) -> tuple[str, float]:
    """Return a key by training, then by noise level."""
    training, _, level = kind.partition(", rho ")
    return training, float(level or 0)


def correlation_chart(rows: list[dict[str, Any]]) -> alt.LayerChart | alt.FacetChart:
    """Chart rank correlations in [-1, 1] with their intervals, a line of the chart a measure, in the rows' order.

    `rows`: measure, value, low, high, n.
    """
    order = [r["measure"] for r in rows]
    y = alt.Y("measure:N", title=None, sort=order).axis(grid=True, labelLimit=NAME_WIDTH, labelOverlap=False)
    x = alt.X("value:Q", title="rank correlation with robust accuracy").scale(domain=[-1, 1])
    base = alt.Chart(data(rows)).encode(y=y)
    bars = base.mark_rule(strokeWidth=1.6, color="#2f7fc8").encode(x=alt.X("low:Q"), x2="high:Q")
    shares = [alt.Tooltip(f"{c}:Q", format=".2f") for c in ("value", "low", "high")]
    points = base.mark_point(filled=True, size=45, opacity=1, color="#2f7fc8").encode(
        x=x, tooltip=["measure:N", *shares, "n:Q"]
    )
    zero = alt.Chart(data([{"value": 0}])).mark_rule(strokeDash=[2, 3], color="#7d838c").encode(x=x)
    return alt.layer(zero, bars, points).properties(width="container", height=ROW * len(order))


def measures_chart(rows: list[dict[str, Any]], order: Sequence[str], *, place: str) -> alt.FacetChart:
    """Chart robust accuracy at `place` against each measure, a panel a measure, a point a network.

    `rows`: measure, network, training, value, robust.
    """
    kinds = list(dict.fromkeys(r["training"] for r in rows))
    x = alt.X("value:Q", title=None).scale(zero=False).axis(tickCount=4)
    y = alt.Y("robust:Q", title=f"robust, {place}").axis(format="%", tickCount=4).scale(domain=[0, 1])
    tooltip = [
        "network:N",
        "measure:N",
        alt.Tooltip("value:Q", format=".3g"),
        alt.Tooltip("robust:Q", format=".1%"),
    ]
    points = alt.Chart(data(rows)).mark_point(filled=True, size=40, opacity=0.9)
    panel = points.encode(
        x=x, y=y, color=colour(kinds, "training"), shape=shape(kinds, "training"), tooltip=tooltip
    ).properties(width=PANEL, height=120)
    title = alt.Facet("measure:N", sort=list(order), title=None)
    found: alt.FacetChart = panel.facet(facet=title, columns=COLUMNS).resolve_scale(x="independent")
    return found
