"""Analyses (`robustgeom analyze`) joined to the records of the same networks; no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from robustgeom.analyses import AnalysisRows
from robustgeom.errors import InputError
from robustgeom.records import ANALYZER_COLUMNS, RunRecord
from robustgeom.report.tables import AGGREGATE, analyzer_rows
from robustgeom.words import radius_text

__all__ = ["STIMULUS_MEASURES", "attached", "place_of"]

VERSIONS = ("own-noise", "attack", "noise", "frozen-noise", "frozen-perturbation", "translations")
"""Conditions in which a manifold is many versions of one stimulus."""
UNTHREATENED = ("clean", "own-noise", "translations")
STIMULUS_MEASURES = ("capacity", "radius", "dimension", "separability", "overlap", "shift")
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
CLOSE = 1e-12


def place_of(condition: str, eps: float, norm: str) -> str:
    """Return what a condition at a radius is called, such as "attack, linf 8/255"."""
    return condition if condition in UNTHREATENED else f"{condition}, {norm} {radius_text(eps, norm)}"


def attached(records: Sequence[RunRecord], analyses: Iterable[AnalysisRows]) -> list[RunRecord]:
    """Return the records with the analyses of their networks as further tables.

    `study` has analyzer rows: of classes, and of all versions together, conditions named with their radius. `stimuli`
    has a row for each stage, condition, radius and stimulus whose versions were measured. `analyses` says how each came
    about. What a record measured itself is left as it is. Raises `InputError` on an analysis of a network that no
    record is about, and on two of one kind and radius.
    """
    found: dict[str, list[AnalysisRows]] = {}
    for analysis in analyses:
        found.setdefault(str(analysis.model["digest"]), []).append(analysis)
    known = {record.header.model.digest for record in records}
    for digest, own in found.items():
        if digest not in known:
            got = f"an analysis of {own[0].model['name']} ({digest[:12]})"
            raise InputError("analyses of networks with records", got=got, fix="evaluating that network")
    return [
        _joined(record, found[digest]) if (digest := record.header.model.digest) in found else record
        for record in records
    ]


def _joined(record: RunRecord, analyses: list[AnalysisRows]) -> RunRecord:
    own = {row["condition"] for row in analyzer_rows(record)}
    study: list[dict[str, Any]] = []
    stimuli: dict[tuple[str, str, float, str], dict[str, Any]] = {}
    taken: set[str] = set()
    for analysis in analyses:
        names = {row["condition"]: _name(row["condition"], analysis, record) for row in analysis.rows}
        if twice := taken & set(names.values()):
            got = f"two of {record.name}: {', '.join(sorted(twice))}"
            raise InputError("one analysis of each kind and radius", got=got, fix="removing one")
        taken |= set(names.values())
        for row in analysis.rows:
            if row["condition"] in VERSIONS and row["manifold"] != AGGREGATE:
                _put(stimuli, row, analysis, record)
            elif names[row["condition"]] not in own:
                study.append({**row, "condition": names[row["condition"]]})
    tables = {
        "study": pa.Table.from_pylist(study, schema=ANALYZER_COLUMNS),
        "stimuli": pa.Table.from_pylist(list(stimuli.values()), schema=STIMULI),
        "analyses": pa.Table.from_pylist(list(map(_source, analyses)), schema=SOURCES),
    }
    return replace(record, tables={**record.tables, **tables})


def _name(condition: str, analysis: AnalysisRows, record: RunRecord) -> str:
    """Return what a condition is called; classes under the record's own strictest radius as its analyzers call them."""
    same = analysis.norm == record.header.threat.norm and abs(analysis.eps - record.headline) < CLOSE
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
    free = row["condition"] in UNTHREATENED
    if row["measure"] not in STIMULUS_MEASURES or not (free or analysis.norm == record.header.threat.norm):
        return
    key = (row["stage"], row["condition"], 0.0 if free else analysis.eps, row["manifold"])
    empty = dict(zip(("stage", "condition", "eps", "stimulus"), key, strict=True))
    stimuli.setdefault(key, empty)[row["measure"]] = row["value"]


def _source(analysis: AnalysisRows) -> dict[str, str]:
    facts = analysis.facts
    commit = f"{facts['commit']}{' with uncommitted changes' if facts['dirty'] else ''}"
    return {
        "command": analysis.command,
        "commit": commit if facts["commit"] else "not in a git checkout",
        "created": str(facts["created"]),
        "digest": analysis.digest,
    }
