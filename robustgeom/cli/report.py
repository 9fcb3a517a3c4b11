"""`robustgeom report`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from robustgeom.cli.output import write_page
from robustgeom.errors import ContentError, InputError, OutputError
from robustgeom.records import RunRecord, load_record

__all__ = ["records_in", "report"]

_OURS = ("report.html", "comparison.json", "runs")


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("--baseline", help="Model that the others are compared with [default: the first].")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the report [default: report].")
@click.option("--again", is_flag=True, help="RUN is a report, or a folder of reports: write them again.")
def report(runs: tuple[Path, ...], baseline: str | None, out: Path | None, *, again: bool) -> None:
    """Compare records: write report.html, comparison.json and CSV tables into --out.

    RUN is a record's folder, or a folder that holds records. An earlier report in --out is replaced. With --again,
    pages are made anew from the records of earlier reports, in their order and against their baseline, and a folder of
    reports gets an index.html.
    """
    if again:
        if out is not None or baseline is not None:
            raise InputError("no --out and no --baseline beside --again", got="one", fix="leaving it out")
        for run in runs:
            _again(run)
        return
    out = Path("report") if out is None else out
    if out.is_dir() and any(out.iterdir()) and not any((out / name).exists() for name in _OURS):
        raise OutputError("a new, an empty or a report's folder", got=str(out), fix="another --out")
    records = [record for run in runs for record in records_in(run)]
    click.echo(str(write_page(records, out, baseline=baseline)))


def _again(folder: Path) -> None:
    """Write a report again, or all in a folder that have their records beside them, and their index."""
    from robustgeom.report.index import reports_in, write_index

    if (folder / "comparison.json").is_file():
        click.echo(str(_rewritten(folder)))
        return
    for report in reports_in(folder):
        if (report / "runs").is_dir():
            click.echo(str(_rewritten(report)))
        else:
            click.echo(f"{report}: left as it is, as its records are not in {report / 'runs'}", err=True)
    click.echo(str(write_index(folder)))


def _rewritten(folder: Path) -> Path:
    """Write a report again from its records, in the order of its comparison.json; records that are new come last."""
    try:
        facts = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
        known = {model["fingerprint"]: model["name"] for model in facts["models"]}
        baseline = str(facts["baseline"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        got = str(folder / "comparison.json")
        raise ContentError("an intact comparison.json", got=got, fix="`robustgeom report RUN...`") from error
    # By what they hold, as two records may be of one name; by name where a record was made again.
    prints, names = list(known), list(known.values())
    found = [(record.fingerprint(), record) for record in records_in(folder / "runs")]
    place = {p: i for i, p in enumerate(prints)} | {n: names.index(n) for n in reversed(names)}
    ordered = sorted(found, key=lambda pair: place.get(pair[0], place.get(pair[1].name, len(place))))
    return write_page([record for _, record in ordered], folder, baseline=baseline)


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
