"""What `robustgeom analyze --out` wrote, read back: `analysis.json` and `geometry.parquet`; no torch."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from robustgeom.errors import ContentError
from robustgeom.schema import ANALYZER_COLUMNS

__all__ = ["AnalysisRows", "load_analysis"]

NEEDED = ("schema_version", "commit", "dirty", "created", "data")


@dataclass(frozen=True)
class AnalysisRows:
    """What `robustgeom analyze --out` wrote: facts, rows of the analyzer table, and the sha256 of the table's file."""

    facts: dict[str, Any]
    rows: list[dict[str, Any]]
    digest: str

    @property
    def model(self) -> dict[str, Any]:
        """What the analysis says of its network."""
        found: dict[str, Any] = self.facts["model"]
        return found

    @property
    def norm(self) -> str:
        """The measure that its radius is in; empty without a threat."""
        return str((self.facts["threat"] or {}).get("measure", ""))

    @property
    def eps(self) -> float:
        """The radius of its attacks, 0 without a threat."""
        return float((self.facts["threat"] or {}).get("radius", 0.0))

    @property
    def command(self) -> str | None:
        """The command that makes it again; None where a part of it was an object in Python."""
        given = self.facts["arguments"]
        lists = {name: ",".join(given[name]) for name in ("manifolds", "geometry", "stages") if given[name]}
        rest = {k: v for k, v in given.items() if k not in lists and v is not None}
        parts = [str(self.model["reference"]), str(given["data"])]
        if given["groups"] or any(part.startswith("object:") for part in parts):
            return None
        options = [p for k, v in (lists | rest).items() for p in (f"--{k.replace('_', '-')}", str(v))]
        return shlex.join(["robustgeom", "analyze", parts[0], *options])


def load_analysis(folder: str | Path) -> AnalysisRows:
    """Read what `robustgeom analyze --out` wrote; raises `ContentError` where a file is missing or damaged."""
    path = Path(folder)
    try:
        facts = json.loads((path / "analysis.json").read_text(encoding="utf-8"))
        raw = (path / "geometry.parquet").read_bytes()
        table = pq.read_table(pa.BufferReader(raw), page_checksum_verification=True)
        rows = table.select(ANALYZER_COLUMNS.names).to_pylist()
        found = AnalysisRows(facts, rows, hashlib.sha256(raw).hexdigest())
        _ = found.model["digest"], found.command, found.eps, [facts[name] for name in NEEDED]
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        wanted = "an intact analysis (analysis.json and geometry.parquet)"
        raise ContentError(wanted, got=f"{path}: {error}", fix="`robustgeom analyze --out`") from error
    return found
