"""A comparison as JSON and as tidy CSV text."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from robustgeom.records import ANALYZER_COLUMNS, CheckResult
from robustgeom.report.attached import STIMULUS_MEASURES
from robustgeom.report.gln_rules import limit_rows, margin_rows
from robustgeom.report.stimuli import stimuli, with_stimuli
from robustgeom.report.tables import LOGIT_MEASURES, analyzer_rows
from robustgeom.report.vector_rules import has_signals
from robustgeom.report.yields import AttackYield

if TYPE_CHECKING:
    from robustgeom.report.compare import Comparison, ModelResult, Paired

__all__ = ["as_json", "csv_tables", "model_rows"]

# What a table without a row is headed by, so that whoever reads it finds its columns.
EMPTY = {
    "attacks": ["model", *(f.name for f in fields(AttackYield))],
    "checks": ["model", *CheckResult.model_fields],
    "geometry": list(ANALYZER_COLUMNS.names),
    "logits": ["model", "seed", "condition", "sample_id", "label", "prediction", *LOGIT_MEASURES],
}


def as_json(comparison: Comparison) -> str:
    """Return every number of the comparison as JSON text; missing numbers are null."""
    return json.dumps(_plain(_content(comparison)), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def csv_tables(comparison: Comparison) -> dict[str, str]:
    """Return {name: CSV text}: models, curves, attacks, checks, geometry and logits, one measurement per row.

    And stimuli, signals, limits and margins, where analyses of single stimuli, signals of units, limits of networks and
    paths to them came with the records.
    """
    tables = {
        "models": model_rows(comparison),
        "curves": _curve_rows(comparison),
        "attacks": _attack_rows(comparison),
        "checks": _check_rows(comparison),
        "geometry": _geometry_rows(comparison.models),
        "logits": _logit_rows(comparison.models),
    }
    if any(with_stimuli(m.record) for m in comparison.models):
        tables["stimuli"] = _stimulus_rows(comparison.models)
    if any(has_signals(m.record) for m in comparison.models):
        tables["signals"] = _signal_rows(comparison.models)
    if limits := limit_rows([m.record for m in comparison.models]):
        tables["limits"] = limits
    if margins := margin_rows([m.record for m in comparison.models]):
        tables["margins"] = margins
    return {name: _csv(rows, EMPTY.get(name, [])) for name, rows in tables.items()}


def _content(comparison: Comparison) -> dict[str, Any]:
    return {
        "norm": comparison.norm,
        "headlines": list(comparison.headlines),
        "baseline": comparison.baseline,
        "study": comparison.study,
        "summary": comparison.summary,
        "sentences": list(comparison.sentences),
        "models": [_model_content(m) for m in comparison.models],
        "paired": [asdict(p) for p in comparison.paired],
        "claims": [asdict(c) for c in comparison.claims],
    }


def model_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """Return a row a model and headline radius: the columns of models.csv."""
    pairs = {(p.name, p.radius): p for p in comparison.paired}
    return [
        _model_row(m, comparison.norm, radius, pairs.get((m.name, radius)))
        | {"baseline": comparison.baseline}
        for m in comparison.models
        for radius in m.robust
    ]


def _curve_rows(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {
            "model": m.name,
            "norm": comparison.norm,
            "radius": r,
            **asdict(i),
            "certified": m.record.certified_accuracy(r).value if m.record.certified else None,
        }
        for m in comparison.models
        for r, i in m.curve
    ]


def _attack_rows(comparison: Comparison) -> list[dict[str, Any]]:
    return [{"model": m.name, **asdict(y)} for m in comparison.models for y in m.yields]


def _check_rows(comparison: Comparison) -> list[dict[str, Any]]:
    return [{"model": m.name, **check.model_dump()} for m in comparison.models for check in m.checks]


def _model_content(model: ModelResult) -> dict[str, Any]:
    header = model.record.header
    return {
        "name": model.name,
        "status": model.status,
        "accuracy": asdict(model.accuracy),
        "robust": [{"radius": r, **asdict(i)} for r, i in model.robust.items()],
        "single_draw": [{"radius": r, "value": v} for r, v in model.single_draw.items()],
        "undecided": [{"radius": r, "value": v} for r, v in model.undecided.items()],
        "certified": [{"radius": r, **asdict(i)} for r, i in model.certified.items()],
        "curve": [{"radius": r, **asdict(i)} for r, i in model.curve],
        "yields": [asdict(y) for y in model.yields],
        "checks": [c.model_dump() for c in model.checks],
        "verdict": model.verdict.word,
        "trustworthy": model.verdict.trustworthy,
        "reasons": list(model.verdict.reasons),
        "fingerprint": model.record.fingerprint(),
        "header": header.model_dump(mode="json"),
    }


def _model_row(model: ModelResult, norm: str, radius: float, pair: Paired | None) -> dict[str, Any]:
    robust, totals = model.robust[radius], model.record.header.totals
    sure = model.certified.get(radius)
    return {
        "model": model.name,
        "status": model.status,
        "verdict": model.verdict.word,
        "trustworthy": model.verdict.trustworthy,
        "noise": model.record.header.model.noise,
        "n": model.accuracy.n,
        "clean": model.accuracy.value,
        "clean_low": model.accuracy.low,
        "clean_high": model.accuracy.high,
        "norm": norm,
        "radius": radius,
        "robust": robust.value,
        "robust_low": robust.low,
        "robust_high": robust.high,
        "single_draw": model.single_draw.get(radius),
        "undecided": model.undecided.get(radius),
        "certified": sure.value if sure else None,
        "certified_low": sure.low if sure else None,
        "certified_high": sure.high if sure else None,
        "difference": pair.difference.value if pair else None,
        "difference_low": pair.difference.low if pair else None,
        "difference_high": pair.difference.high if pair else None,
        "p_value": pair.p_value if pair else None,
        "forward_calls_per_sample": totals.forward_calls / model.accuracy.n,
        "backward_calls_per_sample": totals.backward_calls / model.accuracy.n,
    }


def _geometry_rows(models: Iterable[ModelResult]) -> list[dict[str, Any]]:
    return [row | {"model": m.name} for m in models for row in analyzer_rows(m.record)]


def _logit_rows(models: Iterable[ModelResult]) -> list[dict[str, Any]]:
    tables = [(m.name, m.record.tables["logits"]) for m in models if "logits" in m.record.tables]
    return [row | {"model": name} for name, table in tables for row in table.to_pylist()]


def _stimulus_rows(models: Sequence[ModelResult]) -> list[dict[str, Any]]:
    """Return means over stimuli with their standard errors; the analyses have every stimulus."""
    return [
        {"model": m.name, "stage": stage, "condition": condition, "eps": eps, "measure": measure}
        | {
            "value": float(values.mean()),
            "se": float(values.std(ddof=1)) / len(values) ** 0.5,
            "n": len(values),
        }
        for m in models
        if with_stimuli(m.record)
        for own in (stimuli([m.record]),)
        for stage, condition, eps in own.tables[0]
        for measure in ("width", *STIMULUS_MEASURES)
        if (values := own.known(measure, stage, condition, eps)) is not None
    ]


def _signal_rows(models: Sequence[ModelResult]) -> list[dict[str, Any]]:
    return [
        {"model": m.name, "seed": m.record.header.model.seed, **row}
        for m in models
        if has_signals(m.record)
        for row in m.record.tables["signals"].to_pylist()
    ]


def _csv(rows: list[dict[str, Any]], columns: list[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(
        text, fieldnames=list(rows[0]) if rows else columns, lineterminator="\n", extrasaction="ignore"
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _plain(value: Any) -> Any:
    """JSON has no NaN: a missing number is null."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
