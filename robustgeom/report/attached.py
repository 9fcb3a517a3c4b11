"""Analyses (`robustgeom analyze`) joined to the records of the same networks; no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from robustgeom.analyses import AnalysisRows
from robustgeom.errors import InputError
from robustgeom.records import ANALYZER_COLUMNS, RunRecord
from robustgeom.report.tables import AGGREGATE, VERSIONS
from robustgeom.words import commit_text, radius_text

__all__ = ["STIMULUS_MEASURES", "attached", "place_of"]

UNDER_THREAT = ("attacked", "noisy", "attack", "noise", "frozen-noise", "frozen-perturbation")
STIMULUS_MEASURES = ("capacity", "radius", "dimension", "separability", "overlap", "shift", "identification")
STIMULI = pa.schema(
    [
        ("stage", pa.string()),
        ("condition", pa.string()),
        ("eps", pa.float64()),
        ("stimulus", pa.string()),
        *((name, pa.float64()) for name in STIMULUS_MEASURES),
    ]
)
SOURCES = pa.schema([(name, pa.string()) for name in ("command", "commit", "created", "digest")])


def place_of(condition: str, eps: float, norm: str) -> str:
    """Return what a condition at a radius is called, such as "attack, linf 8/255"."""
    return f"{condition}, {norm} {radius_text(eps, norm)}" if condition in UNDER_THREAT else condition


def attached(records: Sequence[RunRecord], analyses: Iterable[AnalysisRows]) -> list[RunRecord]:
    """Return the records with the analyses of their networks as further tables.

    `study` has analyzer rows: of classes and other groups, and of all versions together, conditions named with their
    radius. `stimuli` has a row for each stage, condition, radius and stimulus whose versions were measured. `analyses`
    says how each came about. Copies of one analysis count once. Raises `InputError` on an analysis of a network that no
    record is about, and on two of one kind and radius.
    """
    found: dict[str, list[AnalysisRows]] = {}
    for analysis in analyses:
        own = found.setdefault(str(analysis.model["digest"]), [])
        if analysis.digest not in [a.digest for a in own]:
            own.append(analysis)
    known = {record.header.model.digest for record in records}
    for digest, own in found.items():
        if digest not in known:
            got = f"an analysis of {own[0].model['name']} ({digest[:12]})"
            raise InputError("analyses of networks with records", got=got, fix="evaluating that network")
    return [_joined(r, own) if (own := _own(r, found)) else r for r in records]


def _own(record: RunRecord, found: dict[str, list[AnalysisRows]]) -> list[AnalysisRows]:
    """Return the analyses of a record's weights; of a copy of a network, those under its own name if there are any."""
    same = found.get(record.header.model.digest, [])
    own = [a for a in same if a.model["name"] == record.name] or same
    return sorted(own, key=lambda a: (a.facts["arguments"]["manifolds"], a.eps))


def _joined(record: RunRecord, analyses: list[AnalysisRows]) -> RunRecord:
    study: list[dict[str, Any]] = []
    stimuli: dict[tuple[str, str, float, str], dict[str, Any]] = {}
    taken: set[str] = set()
    for analysis in analyses:
        conditions = dict.fromkeys(row["condition"] for row in analysis.rows)
        names = {condition: _name(condition, analysis, record) for condition in conditions}
        if twice := taken & set(names.values()):
            got = f"two of {record.name}: {', '.join(sorted(twice))}"
            raise InputError("one analysis of each kind and radius", got=got, fix="removing one")
        taken |= set(names.values())
        for row in analysis.rows:
            if row["condition"] in VERSIONS and row["manifold"] != AGGREGATE:
                _put(stimuli, row, analysis, record)
            else:
                study.append({**row, "condition": names[row["condition"]]})
    tables = {
        "study": pa.Table.from_pylist(study, schema=ANALYZER_COLUMNS),
        "stimuli": pa.Table.from_pylist(list(stimuli.values()), schema=STIMULI),
        "analyses": pa.Table.from_pylist(list(map(_source, analyses)), schema=SOURCES),
    }
    return replace(record, tables={**record.tables, **tables})


def _name(condition: str, analysis: AnalysisRows, record: RunRecord) -> str:
    """Return what a condition is called; classes under the record's own strictest radius as its analyzers call them."""
    same = analysis.norm == record.header.threat.norm and abs(analysis.eps - record.headline) < 1e-12
    if condition == "attacked" and same:
        return condition
    return place_of(condition, analysis.eps, analysis.norm)


def _put(
    stimuli: dict[tuple[str, str, float, str], dict[str, Any]],
    row: dict[str, Any],
    analysis: AnalysisRows,
    record: RunRecord,
) -> None:
    """Add a measure of one stimulus; those under another norm than the record's are not compared with it."""
    free = row["condition"] not in UNDER_THREAT
    if row["measure"] not in STIMULUS_MEASURES or not (free or analysis.norm == record.header.threat.norm):
        return
    key = (row["stage"], row["condition"], 0.0 if free else analysis.eps, row["manifold"])
    empty = dict(zip(("stage", "condition", "eps", "stimulus"), key, strict=True))
    stimuli.setdefault(key, empty)[row["measure"]] = row["value"]


def _source(analysis: AnalysisRows) -> dict[str, str]:
    facts = analysis.facts
    return {
        "command": analysis.command or "from Python; no command makes it again",
        "commit": commit_text(facts["commit"], facts["dirty"]),
        "created": str(facts["created"]),
        "digest": analysis.digest,
    }
