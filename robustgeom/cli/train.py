"""`robustgeom train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

__all__ = ["train"]


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Zoo folder to write.")
def train(recipe: Path, out: Path) -> None:
    """Train the network of a recipe.toml and write its zoo folder; a run that was cut off is resumed."""
    from robustgeom.training.train import train as run

    click.echo(str(run(recipe, out=out, progress=_line)))


def _line(event: Any) -> None:
    click.echo(
        f"epoch {event.epoch} of {event.epochs}: loss {event.loss:.3f}, "
        f"validation {100 * event.validation_accuracy:.1f} %, {event.seconds:.0f} s",
        err=True,
    )
