"""`robustgeom export`."""

from __future__ import annotations

from pathlib import Path

import click

from robustgeom.cli.report import records_in
from robustgeom.errors import InputError
from robustgeom.files import write_text

__all__ = ["export"]


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option(
    "--as", "form", required=True, metavar="FORMAT", help="markdown, latex, robustbench or huggingface."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write into [default: print].")
def export(runs: tuple[Path, ...], form: str, out: Path | None) -> None:
    """Write records as others read them: a table for a paper, a leaderboard's entry, a model card.

    RUN is a record's folder, or a folder that holds records. robustbench and huggingface make one file a model.
    """
    from robustgeom.report import compare
    from robustgeom.report.formats import FORMATS

    made = FORMATS[form](compare([record for run in runs for record in records_in(run)]))
    if out is None:
        if len(made) > 1:
            raise InputError(
                "--out FOLDER for more than one file", got=f"{len(made)} files", fix="--out export"
            )
        click.echo(next(iter(made.values())), nl=False)
        return
    for name, text in made.items():
        click.echo(str(write_text(out / _safe(name), text)))


def _safe(name: str) -> str:
    """Return a file's name for a model that may be called after a place, such as nets.py:build."""
    return "".join(c if c.isalnum() or c in "._+-" else "-" for c in name).lstrip(".-") or "model"
