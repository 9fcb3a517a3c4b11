"""The chart of a noise sweep with its finding and data table."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from robustgeom.report.charts import sweep_chart
from robustgeom.report.compare import Comparison
from robustgeom.report.crowd import beside
from robustgeom.report.figures import Cell, Figure
from robustgeom.report.findings import shares
from robustgeom.report.sweep import Sweep, sweeps
from robustgeom.words import percent

__all__ = ["sweep_figures"]


def sweep_figures(comparison: Comparison) -> list[Figure]:
    """Return one chart a sweep among the compared records: clean and robust accuracy against rho."""
    found = sweeps([m.record for m in comparison.models if not m.partial])
    return [_figure(comparison, sweep, i) for i, sweep in enumerate(found)]


def _figure(comparison: Comparison, sweep: Sweep, index: int) -> Figure:
    conditions = {"clean": 0.0} | {comparison.place(r): r for r in comparison.headlines}
    rows: list[dict[str, Any]] = []
    seeds: list[dict[str, Any]] = []
    for condition, radius in conditions.items():
        for rho, group in sweep.levels.items():
            i = sweep.interval(rho, radius)
            common = {"rho": rho, "condition": condition}
            rows.append({**common, **asdict(i), "seeds": len(group)})
            seeds += [{**common, "model": r.name, "value": float(shares([r], radius).mean())} for r in group]
    others: list[dict[str, Any]] = [
        {"network": g.label, "condition": c, **asdict(i)} | {"seeds": len(g.models), "members": g.members}
        for g in beside(comparison, {r.name for r in sweep.records})
        for c, radius in conditions.items()
        for i in (g.share(radius),)
    ]
    body: tuple[tuple[Cell, ...], ...] = tuple(
        (
            str(r.get("network", f"{r.get('rho', 0):g}")),
            r["condition"],
            *(percent(r[c]) for c in ("value", "low", "high")),
            r["n"],
            r["seeds"],
        )
        for r in [*rows, *others]
    )
    columns = (
        "rho, or network" if others else "rho",
        "condition",
        "accuracy",
        "low",
        "high",
        "samples",
        "seeds",
    )
    title = f"Accuracy against noise: {sweep.name}"
    return Figure(
        f"noise-{index}", title, _finding(rows), sweep_chart(rows, seeds, others=others), columns, body
    )


def _finding(rows: list[dict[str, Any]]) -> str:
    """Say for each condition at which level it is best, and what it is at both ends."""
    parts = []
    for condition in dict.fromkeys(r["condition"] for r in rows):
        own = [r for r in rows if r["condition"] == condition]
        best, ends = max(own, key=lambda r: r["value"]), (own[0], own[-1])
        said = ", ".join(f"{percent(e['value'])} at {e['rho']:g}" for e in ends)
        parts.append(f"{condition}: best at rho {best['rho']:g} with {percent(best['value'])} ({said})")
    return "; ".join(parts).capitalize() + "."
