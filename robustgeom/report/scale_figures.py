"""Charts of what cross-entropy attacks leave where logits are multiplied by a number, which changes no decision."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from robustgeom.records import RunRecord
from robustgeom.report.charts import sweep_chart
from robustgeom.report.compare import Comparison
from robustgeom.report.figures import Figure
from robustgeom.stats import Interval
from robustgeom.words import percent

__all__ = ["scale_figures", "scale_sweep"]

LEAST = 3  # scales; fewer are no sweep


def scale_sweep(record: RunRecord, radius: float) -> dict[float, Interval]:
    """Return accuracy under PGD on cross-entropy at `radius` by what the logits were multiplied by, ascending.

    Empty where the record's attacks are no such sweep, or did not meet every sample.
    """
    found: dict[float, Interval] = {}
    under = record.accuracies_under
    for spec in record.header.suite.attacks:
        settings = spec.get("settings") or {}
        by_radius = under.get(str(spec.get("name")), {})
        if spec.get("attack") == "pgd" and settings.get("loss", "ce") == "ce" and radius in by_radius:
            scale = float(settings.get("logit_scale", 1.0))
            found[scale] = min(found.get(scale, by_radius[radius]), by_radius[radius], key=lambda i: i.value)
    return dict(sorted(found.items())) if len(found) >= LEAST else {}


def scale_figures(comparison: Comparison) -> list[Figure]:
    """Return one chart a headline radius, with a line a model whose record is a sweep."""
    found = []
    for index, radius in enumerate(comparison.headlines):
        sweeps = {m.name: scale_sweep(m.record, radius) for m in comparison.models}
        sweeps = {name: sweep for name, sweep in sweeps.items() if sweep}
        if sweeps:
            place = comparison.place(radius)
            found.append(_figure(sweeps, place, index))
    return found


def _figure(sweeps: dict[str, dict[float, Interval]], place: str, index: int) -> Figure:
    rows: list[dict[str, Any]] = [
        {"scale": scale, "condition": name, **asdict(i)}
        for name, sweep in sweeps.items()
        for scale, i in sweep.items()
    ]
    body = tuple(
        (r["condition"], f"{r['scale']:g}", *(percent(r[c]) for c in ("value", "low", "high")), r["n"])
        for r in rows
    )
    columns = ("model", "logits times", "accuracy", "low", "high", "samples")
    said = "; ".join(_said(name, sweep) for name, sweep in sweeps.items())
    chart = sweep_chart(rows, by="scale", title="logits times")
    return Figure(
        f"scale-{index}",
        f"Cross-entropy at other scales of the logits, {place}",
        f"{said}.",
        chart,
        columns,
        body,
    )


def _said(name: str, sweep: dict[float, Interval]) -> str:
    best = min(sweep, key=lambda scale: sweep[scale].value)
    text = f"{name}: {percent(sweep[best].value)} left at {best:g} times"
    return f"{text}, {percent(sweep[1.0].value)} at the logits' own" if 1.0 in sweep and best != 1.0 else text
