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

    RUN is a record's folder, or a folder that holds records; analyses of the same networks (`robustgeom analyze --out`)
    are joined to them. An earlier report in --out is replaced. With --again,
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
    click.echo(str(write_page(records_in(*runs), out, baseline=baseline)))


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
        baseline, study = str(facts["baseline"]), str(facts["study"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        got = str(folder / "comparison.json")
        raise ContentError("an intact comparison.json", got=got, fix="`robustgeom report RUN...`") from error
    # By what they hold, as two records may be of one name; by name where a record was made again.
    prints, names = list(known), list(known.values())
    places = [folder / name for name in ("runs", "analyses") if (folder / name).is_dir()]
    found = [(record.fingerprint(), record) for record in records_in(*places)]
    place = {p: i for i, p in enumerate(prints)} | {n: names.index(n) for n in reversed(names)}
    ordered = sorted(found, key=lambda pair: place.get(pair[0], place.get(pair[1].name, len(place))))
    return write_page([record for _, record in ordered], folder, baseline=baseline, study=study)


def records_in(*places: Path) -> list[RunRecord]:
    """Return the records in folders, or of the folders in them, with the analyses that lie there joined to them."""
    from robustgeom.analyses import load_analysis
    from robustgeom.report.attached import attached

    folders = [folder for place in places for folder in _expand(place)]
    records = [load_record(f) for f in folders if (f / "header.json").is_file()]
    if not records:
        got = ", ".join(map(str, places))
        raise ContentError("a folder with a record (header.json)", got=got, fix="the folder `evaluate` wrote")
    return attached(records, [load_analysis(f) for f in folders if (f / "analysis.json").is_file()])


def _expand(place: Path) -> list[Path]:
    """Return the folders at or below a place that hold a record or an analysis, by name."""
    marks = ("header.json", "analysis.json")
    if any((place / mark).is_file() for mark in marks):
        return [place]
    found = sorted(file.parent for mark in marks for file in place.glob(f"**/{mark}"))
    if not found:
        raise ContentError(
            "a folder with a record (header.json)", got=str(place), fix="the folder `evaluate` wrote"
        )
    return found
