"""`robustgeom export`."""

from __future__ import annotations

from itertools import count
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

    made = FORMATS[form](compare(records_in(*runs)))
    if out is None:
        if len(made) > 1:
            raise InputError(
                "--out FOLDER for more than one file", got=f"{len(made)} files", fix="--out export"
            )
        click.echo(next(iter(made.values())), nl=False)
        return
    taken: set[str] = set()
    for name, text in made.items():
        click.echo(str(write_text(out / _safe(Path(name), taken), text)))


def _safe(name: Path, taken: set[str]) -> str:
    """Return a free file's name for a model that may be called after a place, such as nets.py:build."""
    stem, ending = str(name).removesuffix(name.suffix), name.suffix
    plain = "".join(c if c.isalnum() or c in "._+-" else "-" for c in stem).strip(".-") or "model"
    free = next(n for i in count(1) if (n := f"{plain}{'' if i == 1 else f'-{i}'}{ending}") not in taken)
    taken.add(free)
    return free
