"""`robustgeom evaluate`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click

from robustgeom.cli.folders import OutputFolder, output_folder
from robustgeom.cli.output import print_summary
from robustgeom.cli.work import work_through
from robustgeom.refs import is_reference, source_of, without_folders

__all__ = ["evaluate", "folder_names"]


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="REF...")
@click.option("--suite", default="quick-linf", show_default=True, help="Suite name or a .toml file.")
@click.option(
    "--data",
    help="Name, folder, file.py:attr, or .npz file [default: a zoo model's own, else fashion-mnist].",
)
@click.option("--split", default="eval", show_default=True, help="Split of a named data set.")
@click.option("--data-dir", help="Folder that holds the data set's original files.")
@click.option("--n", type=click.IntRange(min=1), help="Samples, classes balanced [default: the suite's].")
@click.option("--norm", help="Norm in place of the suite's: linf, l2, l1 or snr.")
@click.option("--eps", help="Radius in place of the data set's threat table, such as 8/255 or 30dB.")
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    metavar="FILE:ATTR",
    help="An attack of your own, or torchattacks:NAME; repeatable.",
)
@click.option("--surrogate", metavar="REF", help="Model to transfer from, in place of the suite's.")
@click.option("--seed", default=0, show_default=True, help="Seed of attacks and noise.")
@click.option("--batch-size", default=128, show_default=True, type=click.IntRange(min=1))
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bf16"]),
    default="float32",
    show_default=True,
    help="Of the search; success is confirmed in float32.",
)
@click.option("--compile", "compiled", is_flag=True, help="Search through torch.compile.")
@click.option("--remedy", is_flag=True, help="Run the attacks that answer the failure checks that fired.")
@click.option(
    "--budget", help="Stop each model after 90s, 10min, 2h or 500000passes; the result is an upper bound."
)
@click.option("--analyze/--no-analyze", default=True, show_default=True, help="Geometry and logit analyzers.")
@click.option(
    "--jobs", default=1, show_default=True, type=click.IntRange(min=1), help="Processes to share the work."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for records and page [default: runs/SUITE]."
)
def evaluate(
    models: tuple[str, ...], suite: str, data: str | None, out: Path | None, jobs: int, **options: Any
) -> None:
    """Attack models, analyse them, and write their records and one page.

    REF is a zoo name (see `robustgeom ls models`) or a folder that `robustgeom train` wrote; file.py:build or
    pkg.mod:attr, where build() returns a torch.nn.Module in eval mode that maps images in [0, 1] to logits;
    torchvision:NAME, timm:NAME, hf:REPO or robustbench:NAME@DATASET/THREAT, whose weights are downloaded once. A run
    that was cut off goes on where the same command is given again.
    """
    from robustgeom.errors import InputError  # heavy imports wait until --help is out of the way
    from robustgeom.harness.chosen import usual_data
    from robustgeom.harness.jobs import JobSpec

    if len(set(models)) < len(models):
        raise InputError("models named once each", got=", ".join(models), fix="leaving out the repeats")
    data = usual_data(*models) if data is None else data
    options["attacks"] = list(options["attacks"])
    arguments = {"models": list(models), "suite": suite, "data": data, **options}
    _refuse_early(models, suite, options)
    with output_folder(out, default=f"runs/{Path(suite).stem}", arguments=arguments) as folder:
        if folder.goes_on:
            click.echo(f"{folder.path}: goes on from what is finished", err=True)
        where = folder.path / "runs", str(folder.journal)
        specs = [
            JobSpec(model, data, suite, str(where[0] / name), options, arguments, where[1])
            for model, name in zip(models, folder_names(models), strict=True)
        ]
        code = _run(specs, folder, jobs)
    sys.exit(code)


def _refuse_early(models: tuple[str, ...], suite: str, options: dict[str, Any]) -> None:
    """Find mistakes in any model's reference before an hour goes into the first."""
    from robustgeom.harness.budget import parse_budget
    from robustgeom.harness.find import look_up
    from robustgeom.harness.suite import load_suite
    from robustgeom.models.load import load_model
    from robustgeom.words import radius_of

    asked = load_suite(suite)
    parse_budget(options["budget"])
    if options["eps"] is not None:
        radius_of(options["eps"], options["norm"] or asked.norm)
    for reference in options["attacks"]:
        look_up(reference)
    for model in (*models, *filter(None, [options["surrogate"]])):
        load_model(model)


def folder_names(models: tuple[str, ...]) -> list[str]:
    """Return a name of a folder for each model, numbered where two would be the same."""
    names = list(map(_folder_name, models))
    return [n if names.count(n) == 1 else f"{n}-{i + 1}" for i, n in enumerate(names)]


def _folder_name(model: str) -> str:
    """Return one name of a folder: of a model of your own the file's, else all of the reference but what is a path."""
    if is_reference(model) and source_of(model) is None:
        return Path(model.rpartition(":")[0]).stem
    return re.sub(r"[^\w.-]+", "-", without_folders(model).replace(":", "."))


def _run(specs: list[Any], folder: OutputFolder, jobs: int) -> int:
    """Run every job and print what came out; return the exit code."""
    from robustgeom.harness.jobs import help_job, run_job
    from robustgeom.records import load_record

    mistakes, stopped = work_through(specs, run_job, count=jobs, spare=help_job)
    for mistake in mistakes.values():
        click.echo(f"robustgeom: {mistake}", err=True)
    code = 130 if stopped else 2 if mistakes else 0
    folder.finished = code == 0
    done = [spec.out for spec in specs if Path(spec.out).is_dir()]
    if done:
        found = print_summary([load_record(path) for path in done], folder.path)
        return code or found
    if stopped:
        click.echo("interrupted before any job had finished; the same command goes on", err=True)
    return code
