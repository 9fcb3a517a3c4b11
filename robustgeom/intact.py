"""Whether the tables of a record are whole and agree with its header; no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from robustgeom.errors import ContentError
from robustgeom.schema import ADVERSARIAL_SCHEMA, CERTIFICATE_SCHEMA, CLEAN, SAMPLE_SCHEMA, Header

__all__ = ["check_tables"]

_KNOWN = {
    "samples": ("a samples table", SAMPLE_SCHEMA),
    "adversarial": ("adversarial inputs", ADVERSARIAL_SCHEMA),
    "certificates": ("certificates", CERTIFICATE_SCHEMA),
}


def check_tables(
    folder: Path,
    header: Header,
    samples: pa.Table,
    tables: Mapping[str, pa.Table],
    arrays: Collection[str],
) -> None:
    """Raise `ContentError` unless the tables and arrays in `folder` are what the header says."""
    for name, (words, schema) in _KNOWN.items():
        table = samples if name == "samples" else tables.get(name)
        if table is not None and not table.schema.equals(schema):
            got = f"columns {table.column_names}"
            raise ContentError(f"the columns of {words} in {folder}", got=got, fix="evaluating again")
    ids, threat = header.data.sample_ids, header.threat
    if len(set(ids)) < len(ids) or not threat.headlines or not {*threat.headlines} <= {*threat.grid}:
        got = f"ids twice, or headlines {threat.headlines} of radii {threat.grid} in {folder}"
        raise ContentError(
            "distinct sample ids, and headlines among the radii", got=got, fix="evaluating again"
        )
    _check_jobs(folder, header, samples)
    _check_listed(folder, header, tables, arrays)
    _check_samples(folder, header, samples)
    _check_certificates(folder, header, tables.get("certificates"))


def _check_jobs(folder: Path, header: Header, samples: pa.Table) -> None:
    """Raise unless every finished job of the plan has as many rows as samples it was given."""
    rows = Counter(zip(samples["attack"].to_pylist(), samples["radius"].to_pylist(), strict=True))
    for job in header.plan.get("jobs", []):
        wanted, found = sum(job["chunks"]), rows[job["attack"], job["radius"]]
        if wanted != found:
            got = f"{found} of {job['attack']} at {job['radius']:.4g} in {folder}"
            raise ContentError(f"{wanted} rows", got=got, fix="evaluating again")


def _check_listed(
    folder: Path, header: Header, tables: Mapping[str, pa.Table], arrays: Collection[str]
) -> None:
    """Raise unless every table and array that the header lists is there, whole."""
    found = {name: table.num_rows for name, table in tables.items()}
    short = [name for name, rows in header.tables.items() if found.get(name) != rows]
    lost = [*short, *(name for name in header.arrays if name not in arrays)]
    if lost:
        got = f"{', '.join(lost)} missing or cut off in {folder}"
        raise ContentError("all tables and arrays the header lists", got=got, fix="evaluating again")


def _check_samples(folder: Path, header: Header, samples: pa.Table) -> None:
    """Raise unless all rows are of samples the header lists, and a complete run has a clean one of each."""
    known = set(header.data.sample_ids)
    strangers = set(samples["sample_id"].to_pylist()) - known
    if strangers:
        got = f"rows of {len(strangers)} samples the header does not list in {folder}"
        raise ContentError("rows of the header's samples only", got=got, fix="evaluating again")
    clean = np.asarray(samples["attack"]) == CLEAN
    missing = known - set(np.asarray(samples["sample_id"])[clean].tolist())
    if missing and header.status == "complete":
        got = f"none for {len(missing)} of {len(known)} samples in {folder}"
        raise ContentError(
            "a clean prediction for every sample of a complete run", got=got, fix="evaluating again"
        )


def _check_certificates(folder: Path, header: Header, table: pa.Table | None) -> None:
    """Raise unless there is one certificate a sample, in the order of the header."""
    if table is not None and table["sample_id"].to_pylist() != header.data.sample_ids:
        got = f"others in {folder}"
        raise ContentError("one certificate for each sample in order", got=got, fix="evaluating again")
