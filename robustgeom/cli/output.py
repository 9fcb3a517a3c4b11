"""What verbs share: output folders, the page, and the summary on stdout."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from robustgeom.errors import OutputError
from robustgeom.files import free_folder
from robustgeom.records import RunRecord
from robustgeom.words import radius_text

__all__ = ["flags", "make_folder", "print_summary", "write_page"]


def make_folder(out: Path | None, *, default: str) -> Path:
    """Create and return the output folder; without `out`, the first free one of `default`, `default-2`, ...

    Raises `OutputError` where `out` exists or cannot be created.
    """
    folder = free_folder(default) if out is None else out
    if folder.exists():
        raise OutputError(
            "an output folder that does not exist yet", got=str(folder), fix="another --out, or move it"
        )
    try:
        (folder / "runs").mkdir(parents=True)
    except OSError as error:
        raise OutputError(
            "an output folder that can be created", got=str(error), fix="another --out"
        ) from error
    return folder


def write_page(records: list[RunRecord], folder: Path, *, baseline: str | None = None) -> Path:
    """Write report.html, comparison.json and the CSV tables into `folder`; return the page."""
    from robustgeom.report import CLAIMS, compare, write_report

    comparison = compare(records, baseline=baseline, claims=CLAIMS)
    comparison.save_json(folder / "comparison.json")
    comparison.to_csv(folder)
    return write_report(comparison, folder / "report.html")


def print_summary(records: list[RunRecord], folder: Path) -> int:
    """Write the page, print one row a model, return the exit code."""
    page = write_page(records, folder)
    Console(highlight=False).print(_summary(records))
    for record in records:
        if not record.verdict.trustworthy:
            click.echo(f"{record.name}: {record.verdict}", err=True)
    click.echo(str(page))
    return 3 if any(c.status == "fail" for r in records for c in r.checks) else 0


def _summary(records: list[RunRecord]) -> Table:
    threat = records[0].header.threat
    table = Table(box=None, pad_edge=False)
    table.add_column("accuracy in %", no_wrap=True)
    for column in ("clean", *(f"{threat.norm} {radius_text(r, threat.norm)}" for r in threat.headlines)):
        table.add_column(column, no_wrap=True)
    table.add_column("checks", overflow="fold")
    for record in records:
        shares = [record.accuracy, *(record.robust_accuracy_at(r) for r in record.header.threat.headlines)]
        cells = [f"{100 * s.value:.1f} ({100 * s.low:.0f}-{100 * s.high:.0f})" for s in shares]
        table.add_row(record.name, *cells, flags(record))
    return table


def flags(record: RunRecord) -> str:
    """Return the checks that did not pass, in one line."""
    flagged = [f"{c.status}: {c.name}" for c in record.checks if c.status != "pass"]
    partial = [] if record.header.status == "complete" else [record.header.status]
    return ", ".join([*partial, *flagged]) or "all pass"
