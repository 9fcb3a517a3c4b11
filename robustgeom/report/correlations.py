"""Robust accuracy against each geometric and logit measure, across networks: rank correlations with intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from robustgeom.records import RunRecord
from robustgeom.report.compare import Comparison
from robustgeom.report.crowd import trained
from robustgeom.report.crowd_charts import correlation_chart, measures_chart
from robustgeom.report.figures import Cell, Figure
from robustgeom.report.findings import place
from robustgeom.report.graph_rules import GRAPH_MEASURES, graph_values
from robustgeom.report.stimuli import ATTACK, NOISE, OWN, stimuli, with_stimuli
from robustgeom.report.tables import CONDITIONS, INPUT, LOGIT_MEASURES, aggregates, logit_values, stages
from robustgeom.stats import Interval, bootstrap, spearman

__all__ = ["correlation_figures", "measures_of"]

FEWEST = 5  # networks that make a rank correlation worth a look
CLASS_MEASURES = ("capacity", "radius", "dimension", "glue_capacity")
VERSION_MEASURES = ("width", "capacity", "overlap")
LAST = "logits"
Row = dict[str, Any]


def correlation_figures(comparison: Comparison) -> list[Figure]:
    """Return the rank correlation of every measure with robust accuracy at a headline radius, and all in panels.

    The radius is the one at which networks differ most (standard deviation). A network counts where its run is complete
    and nothing speaks against its number; seeds are networks of their own. None where fewer than five networks have a
    measure in common.
    """
    networks = [m for m in comparison.models if not m.partial and m.verdict.trustworthy]
    if len(networks) < FEWEST or comparison.strictest == 0:
        return []
    radius = max(comparison.headlines, key=lambda r: float(np.std([m.robust[r].value for m in networks])))
    found = {m.name: measures_of(m.record, radius) for m in networks}
    names = list(dict.fromkeys(name for own in found.values() for name in own))
    rows = [
        {
            "measure": name,
            "network": m.name,
            "training": trained(m.record.header.model),
            "value": found[m.name][name],
            "robust": m.robust[radius].value,
        }
        for name in names
        for m in networks
        if name in found[m.name]
    ]
    ranked = _ranked(rows, names)
    return _figures(comparison.place(radius), rows, ranked) if ranked else []


def measures_of(record: RunRecord, radius: float) -> dict[str, float]:
    """Return the measures of one network by name: geometry at the last stage before the logits, and clean logits.

    Of classes clean and under the strictest attack, of single stimuli under own noise, attack and noise of `radius`.
    """
    parts = (_of_classes(record), _of_graphs(record), _of_stimuli(record, radius), _of_logits(record))
    return {name: value for part in parts for name, value in part}


def _of_graphs(record: RunRecord) -> Iterator[tuple[str, float]]:
    found = graph_values(record)
    for measure in (m for m in GRAPH_MEASURES if m in found):
        yield (
            f"{measure.removeprefix('graph_').replace('_', ' ')} of the functional graph, clean",
            found[measure],
        )


def _of_classes(record: RunRecord) -> Iterator[tuple[str, float]]:
    for measure in CLASS_MEASURES:
        hidden = [s for s in stages(record, measure) if s not in (INPUT, LAST)]
        for row in aggregates(record, measure):
            if hidden and row["stage"] == hidden[-1] and row["condition"] in CONDITIONS:
                under = "" if row["condition"] == "clean" else f" at {place(record, record.headline)}"
                name = f"{measure.replace('_', ' ')} of classes, {row['condition']}{under}"
                yield name, float(row["value"])


def _of_stimuli(record: RunRecord, radius: float) -> Iterator[tuple[str, float]]:
    if not with_stimuli(record):
        return
    own = stimuli([record])
    for condition, eps in ((OWN, 0.0), (ATTACK, radius), (NOISE, radius)):
        for measure in VERSION_MEASURES:
            if (values := own.known(measure, own.hidden, condition, eps)) is not None:
                word = (
                    condition.replace("-", " ")
                    if condition == OWN
                    else f"{condition} at {place(record, eps)}"
                )
                yield f"{measure} of stimuli, {word}", float(values.mean())


def _of_logits(record: RunRecord) -> Iterator[tuple[str, float]]:
    for measure in LOGIT_MEASURES:
        if values := logit_values(record, measure, "clean"):
            yield f"{measure.replace('_', ' ')}, clean", float(np.mean(list(values.values())))


def _ranked(rows: list[Row], names: list[str]) -> list[tuple[str, Interval]]:
    """Return measures of enough networks with their rank correlations, the strongest first."""
    found = []
    for name in names:
        pairs = np.array([(r["value"], r["robust"]) for r in rows if r["measure"] == name])
        if len(pairs) >= FEWEST:
            found.append((name, bootstrap(pairs, lambda v: spearman(v[:, 0], v[:, 1]))))
    return sorted(found, key=lambda pair: -abs(pair[1].value))


def _figures(place: str, rows: list[Row], ranked: list[tuple[str, Interval]]) -> list[Figure]:
    points = [{"measure": name, **asdict(i)} for name, i in ranked]
    body: tuple[tuple[Cell, ...], ...] = tuple(
        (name, *(f"{v:.2f}" for v in (i.value, i.low, i.high)), i.n) for name, i in ranked
    )
    order = [name for name, _ in ranked]
    kept = [r for r in rows if r["measure"] in set(order)]
    columns = ("measure", "rank correlation", "low", "high", "networks")
    each = tuple(
        (r["measure"], r["network"], r["training"], f"{r['value']:.4g}", f"{r['robust']:.3f}") for r in kept
    )
    heads = ("measure", "network", "training", "value", f"robust accuracy, {place}")
    return [
        Figure(
            "correlations", "Rank correlation of each measure with robust accuracy", _said(ranked, place),
            correlation_chart(points), columns, body,
        ),
        Figure(
            "measures", f"Robust accuracy at {place} against each measure",
            "A point a network; panels in the order of the correlations above.",
            measures_chart(kept, order, place=place), heads, each,
        ),
    ]  # fmt: skip


def _said(ranked: list[tuple[str, Interval]], place: str) -> str:
    """Say which measure goes with robustness most, and how many have intervals beyond 0."""
    name, best = ranked[0]
    clear = sum(i.low > 0 or i.high < 0 for _, i in ranked)
    rho = f"{best.value:.2f} [{best.low:.2f}, {best.high:.2f}] over {best.n} networks at {place}"
    text = f"{name.capitalize()}: Spearman's rho {rho}; {clear} of {len(ranked)} intervals exclude 0."
    return (
        f"{text} Networks share data, architectures and trainers, so this ranks these networks and is no law."
    )
