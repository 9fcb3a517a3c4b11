"""What verbs share: output folders, the page, and the summary on stdout."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from robustgeom.errors import OutputError
from robustgeom.files import free_folder, write_text
from robustgeom.records import CheckResult, RunRecord
from robustgeom.words import radius_text

__all__ = ["check_text", "exit_code", "flags", "make_folder", "print_summary", "write_page"]


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
    """Write report.html, comparison.json and the CSV tables into `folder`; return the page.

    Everything is worked out before anything is written, so that a refusal or Ctrl-C leaves what was there.
    """
    from robustgeom.report import CLAIMS, compare, render

    comparison = compare(records, baseline=baseline, claims=CLAIMS)
    page = render(comparison)
    comparison.save_json(folder / "comparison.json")
    comparison.to_csv(folder)
    return write_text(folder / "report.html", page)


def print_summary(records: list[RunRecord], folder: Path) -> int:
    """Write the page, print one row a model and what failed, return the exit code."""
    try:
        page = write_page(records, folder)
    except KeyboardInterrupt:
        click.echo(
            f"the records are kept; `robustgeom report {folder} --out {folder}` writes the page", err=True
        )
        raise
    Console(highlight=False).print(_summary(records))
    for record in records:
        if not record.verdict.trustworthy:
            click.echo(f"{record.name}: {record.verdict}", err=True)
        for check in record.checks:
            if check.status == "fail":
                click.echo(f"  next, for {check.name}: {check.action}", err=True)
    click.echo(str(page))
    return exit_code([check for record in records for check in record.checks])


def check_text(check: CheckResult) -> str:
    """Return a check in words, with the next action if there is one."""
    action = f"\n      next: {check.action}" if check.action else ""
    return f"{check.status:4}  {check.name}: {check.message}{action}"


def exit_code(checks: list[CheckResult]) -> int:
    """Return 3 where a check failed, else 0."""
    return 3 if any(check.status == "fail" for check in checks) else 0


def _summary(records: list[RunRecord]) -> Table:
    threat = records[0].header.threat
    table = Table(box=None, pad_edge=False)
    table.add_column("accuracy in %", no_wrap=True)
    for column in ("clean", *(f"{threat.norm} {radius_text(r, threat.norm)}" for r in threat.headlines)):
        table.add_column(column, no_wrap=True)
    alone = [_mean_under(record) for record in records]
    if any(alone):
        table.add_column("mean", no_wrap=True)
    table.add_column("checks", overflow="fold")
    for record, mean in zip(records, alone, strict=True):
        shares = [record.accuracy, *(record.robust_accuracy_at(r) for r in record.header.threat.headlines)]
        cells = [f"{100 * s.value:.1f} ({100 * s.low:.0f}-{100 * s.high:.0f})" for s in shares]
        table.add_row(record.name, *cells, *([mean] if any(alone) else []), flags(record))
    return table


def _mean_under(record: RunRecord) -> str:
    """Return the mean accuracy over attacks and radii where every sample met all of them, as for corruptions."""
    values = [i.value for by in record.accuracies_under.values() for i in by.values()]
    return f"{100 * sum(values) / len(values):.1f}" if values else ""


def flags(record: RunRecord) -> str:
    """Return the checks that did not pass, in one line."""
    flagged = [f"{c.status}: {c.name}" for c in record.checks if c.status != "pass"]
    partial = [] if record.header.status == "complete" else [record.header.status]
    return ", ".join([*partial, *flagged]) or "all pass"
