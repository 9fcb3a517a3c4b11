"""`robustgeom report`."""

from __future__ import annotations

from pathlib import Path

import click

from robustgeom.cli.output import write_page
from robustgeom.errors import ContentError, OutputError
from robustgeom.records import RunRecord, load_record

__all__ = ["records_in", "report"]

_OURS = ("report.html", "comparison.json", "runs")


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("--baseline", help="Model that the others are compared with [default: the first].")
@click.option("--out", type=click.Path(path_type=Path), default=Path("report"), show_default=True)
def report(runs: tuple[Path, ...], baseline: str | None, out: Path) -> None:
    """Compare records: write report.html, comparison.json and CSV tables into --out.

    RUN is a record's folder, or a folder that holds records. An earlier report in --out is replaced.
    """
    if out.is_dir() and any(out.iterdir()) and not any((out / name).exists() for name in _OURS):
        raise OutputError("a new, an empty or a report's folder", got=str(out), fix="another --out")
    records = [record for run in runs for record in records_in(run)]
    click.echo(str(write_page(records, out, baseline=baseline)))


def records_in(run: Path) -> list[RunRecord]:
    """Return the record in a folder, or the records of the folders in it."""
    return [load_record(folder) for folder in _expand(run)]


def _expand(run: Path) -> list[Path]:
    if (run / "header.json").is_file():
        return [run]
    found = sorted(f.parent for f in run.glob("**/header.json"))
    if not found:
        raise ContentError(
            "a folder with a record (header.json)", got=str(run), fix="the folder `evaluate` wrote"
        )
    return found
