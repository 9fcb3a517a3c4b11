"""`robustgeom verify`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from robustgeom.cli.output import wrapped
from robustgeom.cli.report import records_in

__all__ = ["verify"]


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option("--model", help="The model [default: the one that the record names].")
@click.option("--data", help="The data [default: the set that the record names].")
@click.option("--device", default="cpu", show_default=True)
def verify(runs: tuple[Path, ...], model: str | None, data: str | None, device: str) -> None:
    """Ask the model again about every adversarial input that records hold: success, norm and range.

    RUN is a record's folder, or a folder that holds records. Exits with 3 where a claim does not hold.
    """
    from robustgeom.harness.verify import verify as check_again
    from robustgeom.verdicts import verdict_line

    found = []
    for run in runs:
        for record in records_in(run):
            found.append(check_again(record, model, data, device=device))
            click.echo(wrapped(str(found[-1]), indent=2))
            if found[-1].holds:
                click.echo(wrapped(f"  {verdict_line(record)}", indent=2))
    sys.exit(0 if all(verification.holds for verification in found) else 3)
