"""`robustgeom study`."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from robustgeom.cli.evaluate import folder_names
from robustgeom.cli.folders import alone_in
from robustgeom.cli.output import exit_code, wrapped, write_page
from robustgeom.cli.work import work_through
from robustgeom.records import RunRecord
from robustgeom.refs import without_folders
from robustgeom.verdicts import verdict_line

__all__ = ["study"]


@click.command()
@click.argument("name")
@click.option(
    "--with", "guests", multiple=True, metavar="REF", help="A network of your own to add; repeatable."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the study [default: runs/NAME].")
@click.option("--device", default="cpu", show_default=True)
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(min=1), help="Networks at a time.")
def study(name: str, guests: tuple[str, ...], out: Path | None, device: str, jobs: int) -> None:
    """Evaluate and analyse the networks of a study, judge its claims, and write its page.

    NAME is one of `robustgeom ls studies`, or a .toml file of your own. What is there already, in --out or in a report
    that came with robustgeom, is taken as it is; a study that was cut off goes on where the same command is given
    again. A network added by --with goes through everything that the others did and appears in every chart. Exits with
    3 where a check failed on a network of your own.
    """
    from robustgeom.harness.study import NetworkJob, load_study  # heavy imports wait for --help
    from robustgeom.models.load import load_model

    asked = load_study(name)
    added = tuple(g for g in dict.fromkeys(guests) if g not in asked.models)
    for model in (*asked.models, *added):
        load_model(model)
    folder = Path("runs") / asked.name if out is None else out
    named = zip((*asked.models, *added), _names(tuple(asked.models), added), strict=True)
    plan = [NetworkJob(model, label, name, str(folder), device) for model, label in named]
    command = shlex.join([without_folders(name), *(p for g in added for p in ("--with", without_folders(g)))])
    with alone_in(folder):
        sys.exit(_run(plan, folder, jobs, baseline=asked.baseline, added=added, command=command))


def _names(models: tuple[str, ...], added: tuple[str, ...]) -> list[str]:
    """Return a folder's name for each network: those of the study as they are, others numbered where they are taken."""
    names = folder_names(models)
    for label in (folder_names((guest,))[0] for guest in added):
        free = (label if i == 1 else f"{label}-{i}" for i in range(1, len(names) + 2))
        names.append(next(n for n in free if n not in names))
    return names


def _run(
    plan: list[Any], folder: Path, count: int, *, baseline: str, added: tuple[str, ...], command: str
) -> int:
    """Do what is left to do, write the page of what there is, and print what came out; return the exit code."""
    from robustgeom.harness.study import JOURNAL, parts, run_network
    from robustgeom.report.attached import attached

    mistakes, stopped = work_through(plan, run_network, count=count)
    for mistake in mistakes.values():
        click.echo(f"robustgeom: {mistake}", err=True)
    if stopped:
        click.echo("interrupted; the same command goes on", err=True)
        return 130
    if not mistakes:
        shutil.rmtree(folder / JOURNAL, ignore_errors=True)
    done = [job for job in plan if job.out not in mistakes]
    if not done:
        return 2
    found = [parts(job) for job in done]
    joined = attached([record for record, _ in found], [a for _, analyses in found for a in analyses])
    by = dict(zip((job.model for job in done), joined, strict=True))
    page = write_page(joined, folder, baseline=by[baseline].name if baseline in by else None, study=command)
    own = [by[model] for model in added if model in by]
    _print(folder, own)
    click.echo(str(page))
    return 2 if mistakes else exit_code([check for record in own for check in record.checks])


def _print(folder: Path, guests: list[RunRecord]) -> None:
    """Print the verdicts on networks of one's own, and how each claim fared."""
    for record in guests:
        click.echo(wrapped(verdict_line(record), indent=2))
    judged = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))["claims"]
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
