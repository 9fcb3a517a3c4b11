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
from robustgeom.words import radius_text

__all__ = ["AnalysisRows", "load_analysis"]


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
    def command(self) -> str:
        """The command that makes it again."""
        given = self.facts["arguments"]
        options = {
            "data": self.facts["data"]["name"],
            "manifolds": ",".join(given["manifolds"]),
            "geometry": ",".join(given["geometry"]),
            **({"stages": ",".join(given["stages"])} if given.get("stages") else {}),
            **({"norm": self.norm, "eps": _written(given["eps"], self)} if self.norm else {}),
            **{
                name: given[name]
                for name in ("n_images", "points", "features", "n_t", "seed", "split", "steps")
                if given.get(name) is not None
            },
        }
        flags = [part for k, v in options.items() for part in (f"--{k.replace('_', '-')}", str(v))]
        return shlex.join(["robustgeom", "analyze", str(self.model["reference"]), *flags])


def _written(eps: Any, found: AnalysisRows) -> str:
    """Return a radius as it was given, or as people write it where the data set's own was taken."""
    return str(eps) if eps is not None else radius_text(found.eps, found.norm).replace(" ", "")


def load_analysis(folder: str | Path) -> AnalysisRows:
    """Read what `robustgeom analyze --out` wrote; raises `ContentError` where a file is missing or damaged."""
    path = Path(folder)
    try:
        facts = json.loads((path / "analysis.json").read_text(encoding="utf-8"))
        raw = (path / "geometry.parquet").read_bytes()
        table = pq.read_table(pa.BufferReader(raw), page_checksum_verification=True)
        rows = table.select(ANALYZER_COLUMNS.names).to_pylist()
        found = AnalysisRows(facts, rows, hashlib.sha256(raw).hexdigest())
        _ = found.model["digest"], found.command, found.eps
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        wanted = "an intact analysis (analysis.json and geometry.parquet)"
        raise ContentError(wanted, got=f"{path}: {error}", fix="`robustgeom analyze --out`") from error
    return found
