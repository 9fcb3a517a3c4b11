"""What all charts share: colours, dashes and shapes by name, and the legend.

Colours keep a contrast above 3:1 on white and on the page's dark background.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

__all__ = ["COLOURS", "colour", "dash", "data", "shape"]

COLOURS = ("#2f7fc8", "#d2622a", "#2a9a6a", "#9a6ad6", "#c8508c", "#8f7d1e", "#3a92a3", "#7d838c")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [10, 4], [4, 2, 1, 2], [1, 3], [12, 3, 3, 3])
SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
)
LONG_NAME = 20


def data(rows: list[dict[str, Any]]) -> alt.InlineData:
    """Return rows as the data of a chart, inlined."""
    return alt.InlineData(values=rows)


def colour(names: Sequence[str], field: str = "condition") -> alt.Color:
    """Return one colour a name, over and over."""
    return alt.Color(f"{field}:N", scale=_scale(names, _cycle(COLOURS, names)), **_legend(names))


def dash(names: Sequence[str], field: str = "condition") -> alt.StrokeDash:
    """Return one dash a name; where colours repeat, dashes do not."""
    return alt.StrokeDash(f"{field}:N", scale=_scale(names, _staggered(DASHES, names)), **_legend(names))


def shape(names: Sequence[str], field: str = "condition") -> alt.Shape:
    """Return one shape a name; where colours repeat, shapes do not."""
    return alt.Shape(f"{field}:N", scale=_scale(names, _staggered(SHAPES, names)), **_legend(names))


def _cycle(values: Sequence[Any], names: Sequence[str]) -> list[Any]:
    return [values[i % len(values)] for i in range(len(names))]


def _staggered(values: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """As `_cycle`, one further in each round."""
    return [values[(i + i // len(values)) % len(values)] for i in range(len(names))]


def _scale(names: Sequence[str], values: list[Any]) -> alt.Scale:
    return alt.Scale(domain=list(names), range=values)


def _legend(names: Sequence[str]) -> dict[str, Any]:
    long = max(map(len, names), default=0) > LONG_NAME
    legend = alt.Legend(
        orient="bottom",
        columns=1 if long else 2,
        labelLimit=320 if long else 150,
        symbolSize=90,
        symbolOpacity=1,
        symbolStrokeWidth=0,
    )
    return {"title": None, "legend": legend}
