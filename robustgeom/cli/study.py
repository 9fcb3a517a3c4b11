"""`robustgeom study`."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from robustgeom.cli.evaluate import folder_names
from robustgeom.cli.output import wrapped, write_page
from robustgeom.cli.progress import Display
from robustgeom.cli.report import records_in
from robustgeom.verdicts import verdict_line

__all__ = ["study"]


@click.command()
@click.argument("name")
@click.option(
    "--with", "guests", multiple=True, metavar="REF", help="A network of your own to add; repeatable."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the study [default: reports/NAME].")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(min=1), help="Networks at a time.")
def study(name: str, guests: tuple[str, ...], out: Path | None, jobs: int) -> None:
    """Evaluate and analyse the networks of a study, judge its claims, and write its page.

    NAME is one of `robustgeom ls studies`, or a .toml file of your own. What is there already, in --out or in a report
    that came with robustgeom, is taken as it is; a study that was cut off goes on where the same command is given
    again. A network added by --with goes through everything that the others did and appears in every chart.
    """
    # Heavy imports wait until --help is out of the way.
    from robustgeom.harness.study import JOURNAL, NetworkJob, load_study
    from robustgeom.models.load import load_model

    asked = load_study(name)
    models = tuple(dict.fromkeys((*asked.models, *guests)))
    for model in models:
        load_model(model)
    folder = Path("reports") / asked.name if out is None else out
    network_jobs = [
        NetworkJob(model, label, name, str(folder))
        for model, label in zip(models, folder_names(models), strict=True)
    ]
    code = _run(network_jobs, jobs)
    if code == 0:
        shutil.rmtree(folder / JOURNAL, ignore_errors=True)
    done = [job for job in network_jobs if Path(job.out, "header.json").is_file()]
    if code == 130 or not done:
        sys.exit(code)
    places = [folder / part / job.name for part in ("runs", "analyses") for job in done]
    records = records_in(*(place for place in places if place.is_dir()))
    by = {job.model: record for job, record in zip(done, records, strict=True)}
    baseline = by[asked.baseline].name if asked.baseline in by else None
    page = write_page(records, folder, baseline=baseline, study=name)
    _print(folder, [by[guest] for guest in guests if guest in by and guest not in asked.models])
    click.echo(str(page))
    sys.exit(code)


def _run(jobs: list[Any], count: int) -> int:
    """Run all jobs; return the exit code. A mistake in one network does not cost the others, Ctrl-C ends all."""
    from robustgeom.errors import UserError
    from robustgeom.harness.jobs import JobsUnfinished, run_jobs
    from robustgeom.harness.processes import Processes
    from robustgeom.harness.study import run_network

    mistakes = []
    try:
        if count > 1:
            with Processes(count) as executor:
                run_jobs(jobs, executor, work=_aloud)
            return 0
        with Display() as display:
            for job in jobs:
                try:
                    run_network(job, display)
                except UserError as error:
                    mistakes.append(f"{job.model}: {error}")
    except JobsUnfinished as stop:
        mistakes.append(str(stop))
    except KeyboardInterrupt:
        click.echo("interrupted; the same command goes on", err=True)
        return 130
    for mistake in mistakes:
        click.echo(f"robustgeom: {mistake}", err=True)
    return 2 if mistakes else 0


def _aloud(job: Any) -> str:
    from robustgeom.harness.study import run_network

    return run_network(job, Display(plain=True))


def _print(folder: Path, guests: list[Any]) -> None:
    """Print the verdicts on networks of one's own, and how each claim fared."""
    facts = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    for record in guests:
        click.echo(wrapped(verdict_line(record), indent=2))
    judged = facts["claims"]
    studies = {c["claim"]["study"] for c in judged if c["status"] != "not tested"}
    table = Table(box=None, pad_edge=False)
    for column in ("claim", "status", "effect"):
        table.add_column(column, no_wrap=column != "claim")
    for claim in (c for c in judged if c["claim"]["study"] in studies):
        table.add_row(textwrap.fill(claim["claim"]["id"], 40), claim["status"], _effect(claim["interval"]))
    Console(highlight=False).print(table)


def _effect(interval: dict[str, float] | None) -> str:
    if interval is None:
        return ""
    return f"{interval['value']:.3g} [{interval['low']:.3g}, {interval['high']:.3g}]"
