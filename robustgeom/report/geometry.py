"""The geometry of a comparison's models in tables: versions of images, classes under attack and against the rest."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from robustgeom.records import RunRecord
from robustgeom.report.charts import geometry_chart
from robustgeom.report.compare import Comparison
from robustgeom.report.figures import Cell, Figure, geometry_figures
from robustgeom.report.tables import aggregates, analyzer_rows, manifold_values, stages

__all__ = ["ModelGeometry", "Sheet", "model_geometry", "profile_figure"]

CLASSES, VERSIONS = ("clean", "attacked"), ("attack", "noise")
LOGITS = "logits"
Values = dict[tuple[str, str], dict[str, Any]]  # rows by stage and condition


@dataclass(frozen=True)
class Sheet:
    """A table with its caption; `shades` gives a cell's background in [0, 1] by row and column."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    shades: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class ModelGeometry:
    """What the page says of one model's geometry; a part that no record holds is None or empty."""

    name: str
    versions: Sheet | None
    version_figures: list[Figure]
    change: Sheet | None
    class_figures: list[Figure]
    classes: Sheet | None
    cosines: Sheet | None


def model_geometry(comparison: Comparison) -> list[ModelGeometry]:
    """Return the geometry of every model that has any, in the comparison's order."""
    versions = geometry_figures(comparison, ("capacity", "radius"), VERSIONS[::-1], "versions")
    classes = geometry_figures(comparison, ("capacity", "radius", "dimension"), CLASSES, "geometry")
    found = [
        ModelGeometry(
            m.name,
            _versions(m.record),
            [f for f in versions if f.group == m.name],
            _change(m.record),
            [f for f in classes if f.group == m.name],
            _classes(m.record),
            _cosines(m.record),
        )
        for m in comparison.models
    ]
    return [g for g in found if g.version_figures or g.class_figures or g.change]


def profile_figure(comparison: Comparison) -> Figure | None:
    """Return the chart of attacked over clean capacity along the stages, a line a model, or None."""
    rows = [row for m in comparison.models for row in _profile(m.name, m.record)]
    if not rows:
        return None
    worst = min(rows, key=lambda row: row["value"])
    place = f"{worst['stage']} of {worst['condition']}"
    left = f"{worst['value']:.2f} of the clean capacity is left."
    text = (
        f"The largest loss is at {place}: {left}"
        if worst["value"] < 1
        else f"No stage loses: at {place} {left}"
    )
    body = tuple((r["condition"], r["stage"], f"{r['value']:.3f}", f"{r['se']:.3f}") for r in rows)
    columns = ("model", "stage", "attacked / clean", "standard error")
    chart = geometry_chart(rows, high=max(1.05, 1.05 * max(r["value"] + 2 * r["se"] for r in rows)))
    return Figure("profile", "GLUE capacity, attacked over clean", text, chart, columns, body)


def _profile(name: str, record: RunRecord) -> list[dict[str, Any]]:
    values = _values(record, "glue_capacity")
    found = []
    for stage in _paired(values, CLASSES):
        clean, attacked = (values[stage, c] for c in CLASSES)
        ratio = attacked["value"] / clean["value"]
        error = ratio * math.hypot(*(_error(r) / r["value"] for r in (clean, attacked)))
        row = {
            "stage": stage,
            "condition": name,
            "measure": "attacked over clean",
            "value": ratio,
            "se": error,
        }
        found.append(row)
    return found


def _values(record: RunRecord, measure: str) -> Values:
    return {(row["stage"], row["condition"]): row for row in aggregates(record, measure)}


def _paired(values: Values, conditions: tuple[str, str]) -> list[str]:
    """Return the stages, in order, that have a value above 0 under both conditions."""
    order = dict.fromkeys(stage for stage, _ in values)
    return [s for s in order if all((s, c) in values and values[s, c]["value"] > 0 for c in conditions)]


def _versions(record: RunRecord) -> Sheet | None:
    """Return capacity and radius of images' versions under attack beside those under noise, and the ratio of radii."""
    capacity, radius = _values(record, "capacity"), _values(record, "radius")
    found = [s for s in _paired(capacity, VERSIONS) if s in _paired(radius, VERSIONS)]
    if not found:
        return None
    rows = tuple(
        (
            stage,
            *(_cell(capacity[stage, c]) for c in VERSIONS),
            *(_cell(radius[stage, c]) for c in VERSIONS),
            f"{radius[stage, 'attack']['value'] / radius[stage, 'noise']['value']:.2f}",
            radius[stage, "attack"]["N"],
        )
        for stage in found
    )
    first = capacity[found[0], "attack"]
    caption = (
        f"Mean-field estimates of {_sizes(first)}; capacity without structure: 2/M = {2 / first['M']:.3g}."
    )
    columns = (
        "stage",
        "capacity, attack",
        "capacity, noise",
        "radius, attack",
        "radius, noise",
        "radius, attack / noise",
        "N",
    )
    return Sheet(caption, columns, rows)


def _change(record: RunRecord) -> Sheet | None:
    """Return GLUE capacity clean and attacked, with the change of its logarithm split into its three factors."""
    names = ("glue_capacity", "utility", "effective_radius", "effective_dimension", "center_alignment", "glue_floor",
             "shuffled_capacity", "degenerate_draws")  # fmt: skip
    by = {name: _values(record, name) for name in names}
    found = _paired(by["glue_capacity"], CLASSES)
    if not found:
        return None
    widths = {stage: by["glue_capacity"][stage, "clean"]["N"] for stage in found}
    rows = tuple((f"{stage} ({widths[stage]})", *_changed(by, stage)) for stage in found)
    caption = (
        f"GLUE estimates of {_sizes(by['glue_capacity'][found[0], 'clean'])}: each class against the rest, an affine "
        "readout; N in brackets. The change of log capacity is the sum of what utility, radius (log(1 + 1/R²)) and "
        "dimension (-log D) change. In degenerate draws no readout separates the classes, and the split says little."
    )
    columns = ("stage", "capacity, clean", "attacked", "change (log)", "utility", "radius", "dimension",
               "centre alignment", "floor", "shuffled labels", "degenerate")  # fmt: skip
    return Sheet(caption, columns, rows)


def _changed(by: dict[str, Values], stage: str) -> list[Cell]:
    def moved(name: str, log: Callable[[float], float] = math.log) -> float:
        pair = [by[name].get((stage, c), {"value": math.nan})["value"] for c in CLASSES]
        return log(pair[1]) - log(pair[0]) if all(0 < v < math.inf for v in pair) else math.nan

    def both(name: str) -> str:
        texts = [f"{by[name][stage, c]['value']:.2f}" for c in CLASSES if (stage, c) in by[name]]
        return " → ".join(dict.fromkeys(texts))

    parts = (
        moved("glue_capacity"),
        moved("utility"),
        moved("effective_radius", lambda r: math.log1p(r**-2)),
        -moved("effective_dimension"),
    )
    capacity = [by["glue_capacity"][stage, c] for c in CLASSES]
    return [
        *map(_cell, capacity),
        *("" if math.isnan(p) else f"{round(p, 2) + 0.0:+.2f}" for p in parts),
        both("center_alignment"),
        both("glue_floor"),
        both("shuffled_capacity"),
        both("degenerate_draws"),
    ]


def _readout(record: RunRecord) -> str | None:
    """Return the last stage with classes measured against the rest, before the logits unless they are alone."""
    found = stages(record, "one_vs_rest_capacity")
    kept = [s for s in found if s != LOGITS] or found
    return kept[-1] if kept else None


def _classes(record: RunRecord) -> Sheet | None:
    """Return each class's capacity against the rest, clean and attacked, with the class whose centre is nearest."""
    stage = _readout(record)
    if stage is None:
        return None
    measured = [
        r for r in analyzer_rows(record) if (r["measure"], r["stage"]) == ("one_vs_rest_capacity", stage)
    ]
    values = {c: {r["manifold"]: r for r in measured if r["condition"] == c} for c in CLASSES}
    cosines = manifold_values(record, "center_cosine", stage)
    order = sorted(values["clean"], key=lambda name: values["clean"][name]["value"])
    conditions = [c for c in CLASSES if values[c]]
    numbers = {n: [_cell(values[c][n]) if n in values[c] else "" for c in conditions] for n in order}
    others = {n: [_nearest(cosines.get(c, {}), n) for c in conditions] for n in order}
    rows = tuple((name, *numbers[name], *others[name]) for name in order)
    caption = f"At {stage}, the hardest class first. Nearest: the largest cosine between anchor centres."
    columns = ("class", *(f"capacity, {c}" for c in conditions), *(f"nearest, {c}" for c in conditions))
    return Sheet(caption, columns, rows) if rows else None


def _pairs(cosines: dict[str, float]) -> dict[tuple[str, str], float]:
    found = {}
    for pair, value in cosines.items():
        left, right = pair.split(" | ", 1)
        found[left, right] = found[right, left] = value
    return found


def _nearest(cosines: dict[str, float], name: str) -> str:
    others = {right: value for (left, right), value in _pairs(cosines).items() if left == name}
    return "" if not others else f"{max(others, key=lambda n: others[n])} ({max(others.values()):.2f})"


def _cosines(record: RunRecord) -> Sheet | None:
    """Return cosines between the classes' anchor centres, clean below the diagonal and attacked above."""
    stage = _readout(record)
    found = {} if stage is None else manifold_values(record, "center_cosine", stage)
    if not set(CLASSES) <= found.keys():
        return None
    below, above = (_pairs(found[c]) for c in CLASSES)
    names = list(dict.fromkeys(left for left, _ in below))
    grid = [
        [
            math.nan if i == j else (below if i > j else above).get((a, b), math.nan)
            for j, b in enumerate(names)
        ]
        for i, a in enumerate(names)
    ]
    rows = tuple((a, *(_plain(v) for v in line)) for a, line in zip(names, grid, strict=True))
    shades = tuple(tuple(0.0 if math.isnan(v) else max(v, 0.0) for v in line) for line in grid)
    caption = (
        f"Cosines between the classes' anchor centres at {stage}: clean below the diagonal, attacked above."
    )
    return Sheet(caption, ("class", *names), rows, shades)


def _sizes(row: dict[str, Any]) -> str:
    return f"P = {row['P']} manifolds of M = {row['M']} points, n_t = {row['n_t']} probes"


def _error(row: dict[str, Any]) -> float:
    return row["se"] or 0.0


def _cell(row: dict[str, Any]) -> str:
    known = row["se"] is not None and math.isfinite(row["se"])
    return f"{row['value']:.3g}" + (f" \N{PLUS-MINUS SIGN} {row['se']:.1g}" if known else "")


def _plain(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.2f}"
