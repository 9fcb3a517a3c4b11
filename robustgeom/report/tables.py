"""Reading analyzer and logits tables into plain numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robustgeom.records import ANALYZER_COLUMNS, CLEAN, RunRecord
from robustgeom.report.findings import NotTestedError
from robustgeom.report.remembered import once_per_record

__all__ = [
    "AGGREGATE",
    "CONDITIONS",
    "INPUT",
    "LOGIT_MEASURES",
    "VERSIONS",
    "Histogram",
    "aggregates",
    "analyzer_rows",
    "clean_labels",
    "clean_log_p",
    "histograms",
    "logit_values",
    "manifold_values",
    "stages",
]

AGGREGATE = "all"
INPUT = "input"
CONDITIONS = ("clean", "attacked")
VERSIONS = (
    *("own-noise", "attack", "noise", "frozen-noise", "frozen-perturbation"),
    *("translations", "wide-translations", "contrasts", "views"),
)
"""Conditions in which a manifold is many versions of one stimulus."""
LOGIT_MEASURES = ("max_logit", "logit_gap", "mean_gap", "confidence", "entropy", "margin")
BINS = 40


@once_per_record
def analyzer_rows(record: RunRecord) -> list[dict[str, Any]]:
    """Return the rows of every table that has the analyzer columns, in the order they were written.

    What a joined study measured takes the place of what the record has of the same measure and condition, of versions
    of stimuli at any radius, so that networks of a study are compared on the same samples.
    """
    wanted = set(ANALYZER_COLUMNS.names)
    tables = {name: t for name, t in sorted(record.tables.items()) if wanted <= set(t.column_names)}
    rows = {name: table.select(ANALYZER_COLUMNS.names).to_pylist() for name, table in tables.items()}
    study = {(row["measure"], _condition(row["condition"])) for row in rows.get("study", [])}
    return [
        row
        for name, own in rows.items()
        for row in own
        if name == "study" or (row["measure"], row["condition"]) not in study
    ]


def _condition(name: str) -> str:
    """Return a condition without the radius that a study tells of versions: "attack, linf 8/255" is an attack."""
    kind = name.partition(",")[0]
    return kind if kind in VERSIONS else name


def stages(record: RunRecord, measure: str) -> list[str]:
    """Return the stages at which `measure` was taken: the input, the model's order, then by first appearance."""
    seen = list(dict.fromkeys(r["stage"] for r in analyzer_rows(record) if r["measure"] == measure))
    listed = record.header.model.stages
    first = [INPUT] if INPUT in seen and INPUT not in listed else []
    return [*first, *(s for s in listed if s in seen), *(s for s in seen if s not in {*listed, *first})]


def aggregates(record: RunRecord, measure: str) -> list[dict[str, Any]]:
    """Return the finite aggregate rows of `measure`, ordered by stage; one row per stage and condition."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in analyzer_rows(record):
        if row["measure"] == measure and row["manifold"] == AGGREGATE and _finite(row["value"]):
            found.setdefault((row["stage"], row["condition"]), []).append(row)
    order = stages(record, measure)
    conditions = list(dict.fromkeys([*CONDITIONS, *(c for _, c in found)]))
    keys = [(s, c) for s in order for c in conditions if (s, c) in found]
    return [_merge(found[key]) for key in keys]


def _merge(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Average repeats (several projection seeds) of one stage and condition."""
    errors = [r["se"] for r in rows if _finite(r["se"])]
    spread = float(np.sqrt(np.sum(np.square(errors)))) / len(errors) if errors else None
    return {**rows[0], "value": float(np.mean([r["value"] for r in rows])), "se": spread}


def manifold_values(record: RunRecord, measure: str, stage: str) -> dict[str, dict[str, float]]:
    """Return {condition: {manifold: value}} of `measure` at `stage`, averaged over repeats."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in analyzer_rows(record):
        if row["measure"] != measure or row["stage"] != stage or row["manifold"] == AGGREGATE:
            continue
        if _finite(row["value"]):
            found.setdefault(row["condition"], {}).setdefault(row["manifold"], []).append(row["value"])
    return {c: {m: float(np.mean(v)) for m, v in by.items()} for c, by in found.items()}


def logit_values(record: RunRecord, measure: str, condition: str) -> dict[int, float]:
    """Return {sample id: value} of a logits measure under `condition`; empty where it was not recorded."""
    table: pa.Table | None = record.tables.get("logits")
    if table is None or not {"condition", "sample_id", measure} <= set(table.column_names):
        return {}
    rows = zip(
        table["condition"].to_pylist(),
        table["sample_id"].to_pylist(),
        table[measure].to_pylist(),
        strict=True,
    )
    return {int(i): float(v) for c, i, v in rows if c == condition and _finite(v)}


def clean_log_p(record: RunRecord) -> NDArray[np.float64]:
    """Return log-probabilities (n, classes) without attack; `NotTestedError` where the record has none."""
    found = record.arrays.get("log_p.clean")
    if found is None:
        raise NotTestedError(f"log-probabilities of {record.name} are missing")
    return np.asarray(found, dtype=np.float64)


def clean_labels(record: RunRecord) -> NDArray[np.int64]:
    """Return labels (n,) in the order of the record's samples."""
    rows = np.asarray(record.samples["attack"]) == CLEAN
    columns = (np.asarray(record.samples[name])[rows].tolist() for name in ("sample_id", "label"))
    known = dict(zip(*columns, strict=True))
    return np.array([known[i] for i in record.header.data.sample_ids], dtype=np.int64)


@dataclass(frozen=True)
class Histogram:
    """Shares of samples per bin, clean and attacked, on common `edges` (bins + 1,)."""

    edges: NDArray[np.float64]
    shares: dict[str, NDArray[np.float64]]
    means: dict[str, float]
    counts: dict[str, int]


def histograms(records: list[RunRecord], measure: str) -> list[Histogram | None]:
    """Return one histogram per record on edges that all share; None where nothing was recorded."""
    found = [{c: np.array(list(logit_values(r, measure, c).values())) for c in CONDITIONS} for r in records]
    everything = np.concatenate([v for by in found for v in by.values()])
    if not len(everything):
        return [None] * len(records)
    edges = np.histogram_bin_edges(everything, bins=BINS)
    return [_histogram({c: v for c, v in by.items() if len(v)}, edges) for by in found]


def _histogram(values: dict[str, NDArray[np.float64]], edges: NDArray[np.float64]) -> Histogram | None:
    if not values:
        return None
    shares = {c: np.histogram(v, bins=edges)[0] / len(v) for c, v in values.items()}
    means = {c: float(v.mean()) for c, v in values.items()}
    return Histogram(edges, shares, means, {c: len(v) for c, v in values.items()})


def _finite(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))
