"""Charts of what stages make of single stimuli: widths, overlap and own noise, network by network and against noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from robustgeom.report.charts import geometry_chart, sweep_chart
from robustgeom.report.compare import Comparison
from robustgeom.report.crowd import Group, beside, groups
from robustgeom.report.crowd_charts import stages_chart
from robustgeom.report.figures import Cell, Figure
from robustgeom.report.stimuli import ATTACK, CHANGES, NOISE, OWN, Array, Stimuli, stimuli, with_stimuli
from robustgeom.report.sweep import sweeps
from robustgeom.stats import bootstrap

__all__ = ["stimulus_figures"]

Analysed = tuple[Group, Stimuli]
Row = dict[str, Any]


def stimulus_figures(comparison: Comparison) -> list[Figure]:
    """Return the charts of single stimuli, of networks that were analysed; none where there are none.

    A width chart a recipe (`group` says which), then all together: overlap and dimension along the stages, and overlap
    and capacity against noise; capacity, radius and dimension along the stages where images were changed otherwise.
    """
    analysed = {
        g.name: tuple(m for m in g.models if not m.partial and with_stimuli(m.record))
        for g in groups(comparison)
    }
    found = [(Group(n, own), stimuli([m.record for m in own])) for n, own in analysed.items() if own]
    if not found:
        return []
    widths = [f for g, own in found if (f := _widths(comparison, g, own))]
    high = 1.05 * max((row["value"] + 2 * row["se"] for _, rows in widths for row in rows), default=1.0)
    figures = [_width_figure(g, rows, high, i) for i, (g, rows) in enumerate(widths)]
    eps = _common(comparison, found)
    if eps is not None:
        figures += _along("overlap", comparison.place(eps), found, ATTACK, eps)
        figures += _against("overlap", comparison, found, ATTACK)
    return [
        *figures,
        *_along("dimension", "own noise", found, OWN),
        *_against("capacity", comparison, found, OWN),
        *(f for c in CHANGES for m in ("capacity", "radius", "dimension") for f in _along(m, c, found, c)),
    ]


def _common(comparison: Comparison, found: Sequence[Analysed]) -> float | None:
    """Return the smallest headline radius at which all were analysed, else the smallest radius of all, if any."""
    shared = set.intersection(*(set(own.radii()) for _, own in found))
    headlines = [r for r in comparison.headlines if r in shared]
    return min(headlines or shared, default=None)


def _widths(comparison: Comparison, group: Group, own: Stimuli) -> tuple[Group, list[Row]] | None:
    """Return a row for each stage and condition: under own noise, under attack at each radius, under the most noise."""
    radii = own.radii()
    places = [("own noise", OWN, 0.0)]
    places += [(f"attack, {comparison.place(e)}", ATTACK, e) for e in radii]
    places += [(f"noise, {comparison.place(e)}", NOISE, e) for e in own.radii(NOISE)[-1:]]
    rows = []
    for stage in own.stages:
        for condition, kind, eps in places:
            if (values := own.known("width", stage, kind, eps)) is not None:
                error = float(values.std(ddof=1)) / len(values) ** 0.5
                common = {"stage": stage, "condition": condition, "measure": "width"}
                rows.append({**common, "value": float(values.mean()), "se": error, "n": len(values)})
    return (group, rows) if rows else None


def _width_figure(group: Group, rows: list[Row], high: float, index: int) -> Figure:
    body: tuple[tuple[Cell, ...], ...] = tuple(
        (r["stage"], r["condition"], f"{r['value']:.4g}", f"{r['se']:.2g}", r["n"]) for r in rows
    )
    columns = ("stage", "condition", "width (centre norms)", "standard error over stimuli", "stimuli")
    last = [r for r in rows if r["stage"] == rows[-1]["stage"]]
    said = ", ".join(f"{r['value']:.3g} under {r['condition'].replace('attack, ', '')}" for r in last[:3])
    text = f"At {last[0]['stage']} it is {said}."
    return Figure(
        f"width-{index}",
        "Width along the stages",
        text,
        geometry_chart(rows, high=high),
        columns,
        body,
        group.label,
        group.members,
    )


def _along(
    measure: str, where: str, found: Sequence[Analysed], condition: str, eps: float = 0.0
) -> list[Figure]:
    """Return a chart of a measure along the stages, a line a recipe."""
    rows: list[Row] = []
    for group, own in found:
        behind, short = own.noisy if condition == OWN else own.stages, _short(own.stages)
        for place, stage in zip(range(-len(own.stages), 0), own.stages, strict=True):
            values = own.known(measure, stage, condition, eps) if stage in behind else None
            if values is not None:
                names = {"network": group.label, "members": group.members, "kind": _kind(group)}
                shown = {"stage": short[stage], "place": place, "value": float(values.mean())}
                rows.append({**names, **shown})
    if not rows:
        return []
    columns = ("network", "kind", "stage", measure)
    body: tuple[tuple[Cell, ...], ...] = tuple(
        (r["network"], r["kind"], r["stage"], f"{r['value']:.3f}") for r in rows
    )
    title = f"{measure.capitalize()} along the stages, {where}"
    name = f"{measure}-{condition}-stages" if condition in CHANGES else f"{measure}-stages"
    return [Figure(name, title, _extremes(rows, measure), stages_chart(rows, measure), columns, body)]


def _kind(group: Group) -> str:
    """Say how networks were trained, and at which noise level."""
    model = group.models[0].record.header.model
    return f"{group.training}, rho {model.rho:g}" if model.rho else group.training


def _short(stages: list[str]) -> dict[str, str]:
    """Return the last parts of the stages' names where they tell them apart, so that alike networks share an axis."""
    tails = [stage.rpartition(".")[2] for stage in stages]
    return dict(zip(stages, tails if len(set(tails)) == len(stages) else stages, strict=True))


def _extremes(rows: list[Row], measure: str) -> str:
    """Say which networks have the most and the least at the last stage before the logits."""
    hidden = {r["network"]: r for r in rows if r["stage"] != "logits"}
    ranked = sorted(hidden.values(), key=lambda r: -float(r["value"]))
    most, least = ranked[0], ranked[-1]
    text = f"At the last stage before the logits, {measure} is {most['value']:.3g} in {most['network']}"
    return f"{text}." if most is least else f"{text} and {least['value']:.3g} in {least['network']}."


def _against(measure: str, comparison: Comparison, found: Sequence[Analysed], condition: str) -> list[Figure]:
    """Return a chart a noise sweep: the measure at the last stage before the logits against rho, others beside."""
    figures = []
    for index, sweep in enumerate(sweeps([m.record for g, _ in found for m in g.models])):
        levels = {rho: stimuli(records) for rho, records in sweep.levels.items()}
        places = _places(comparison, next(iter(levels.values())), condition)
        rows = [
            {"rho": rho, "condition": text, **_interval(values)}
            for text, radius in places.items()
            for rho, own in levels.items()
            if (values := own.known(measure, own.hidden, condition, radius)) is not None
        ]
        if not rows:
            continue
        shown = {g.name for g in beside(comparison, {r.name for r in sweep.records})}
        others = [
            {"network": g.label, "members": g.members, "condition": text, **_interval(values)}
            for g, own in found
            if g.name in shown
            for text, radius in places.items()
            if (values := own.known(measure, own.hidden, condition, radius)) is not None
        ]
        figures.append(_against_figure(measure, sweep.name, rows, others, index))
    return figures


def _places(comparison: Comparison, own: Stimuli, condition: str) -> dict[str, float]:
    if condition == OWN:
        return {"own noise": 0.0}
    return {f"{condition}, {comparison.place(r)}": r for r in own.radii(condition)}


def _interval(values: Array) -> Row:
    return asdict(bootstrap(values))


def _against_figure(measure: str, name: str, rows: list[Row], others: list[Row], index: int) -> Figure:
    columns = ("rho, or network" if others else "rho", "condition", measure, "low", "high", "stimuli")
    body: tuple[tuple[Cell, ...], ...] = tuple(
        (
            str(r.get("network", f"{r.get('rho', 0):g}")),
            r["condition"],
            *(f"{r[c]:.3f}" for c in ("value", "low", "high")),
            r["n"],
        )
        for r in [*rows, *others]
    )
    ends = [next(r for r in rows[::step] if r["condition"] == rows[0]["condition"]) for step in (1, -1)]
    said = [f"{r['value']:.3g} at rho {r['rho']:g}" for r in ends]
    text = f"At the last stage before the logits, {rows[0]['condition']}: {said[0]}, {said[1]}."
    text += " Beside: other networks." if others else ""
    chart = sweep_chart(rows, measure=measure, others=others)
    title = f"{measure.capitalize()} against noise: {name}"
    return Figure(f"{measure}-noise-{index}", title, text, chart, columns, body)
