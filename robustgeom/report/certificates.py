"""Charts of what is certified below what attacks left, one a model that came with certificates."""

from __future__ import annotations

import numpy as np

from robustgeom.report.charts import certificate_chart
from robustgeom.report.compare import Comparison, ModelResult
from robustgeom.report.figures import Cell, Figure, units
from robustgeom.verdicts import certificate_method, certificate_words
from robustgeom.words import percent, radius_text

__all__ = ["certificate_figures"]

_POINTS = 121


def certificate_figures(comparison: Comparison) -> list[Figure]:
    """Return one chart for each model with certificates: certified and attacked accuracy, and what is open between."""
    models = [m for m in comparison.models if m.record.certified]
    return [_figure(comparison, m, f"certificate-{i}") for i, m in enumerate(models)]


def _figure(comparison: Comparison, model: ModelResult, name: str) -> Figure:
    record, norm = model.record, comparison.norm
    scale, unit = units(comparison)
    grid = [r for r, _ in model.curve]
    stood = {r: float(record.withstood_mask(r).mean()) for r in grid}
    # What fell at an evaluated radius has fallen at all beyond.
    bounds = {
        r: (record.certified_accuracy(r).value, stood[max(g for g in grid if g <= r)]) for r in _fine(grid)
    }
    chart = certificate_chart(
        bounds, norm=norm, evaluated=grid, headlines=comparison.headlines, scale=scale, unit=unit
    )
    columns = (f"eps ({norm})", "withstood", "certified", "low", "high", "open", "n")
    rows: list[tuple[Cell, ...]] = []
    for radius in grid:
        sure = record.certified_accuracy(radius)
        shares = (stood[radius], sure.value, sure.low, sure.high, record.unsettled(radius))
        rows.append((radius_text(radius, norm), *map(percent, shares), sure.n))
    finding = f"{certificate_words(record, comparison.strictest)} Certificates: {certificate_method(record)}."
    return Figure(name, "Certified and attacked", finding, chart, columns, tuple(rows), model.name)


def _fine(grid: list[float]) -> list[float]:
    """Return radii close enough to draw steps by, the evaluated ones among them."""
    between = max(grid) * np.linspace(0, 1, _POINTS) ** 2
    return sorted({*grid, *between.tolist()})
