"""`robustgeom download`."""

from __future__ import annotations

import click

__all__ = ["download"]


@click.command()
@click.argument("name", type=click.Choice(["cifar10", "cifar100"]))
@click.option("--data-dir", help="Folder for the files, in place of the one where they are looked for.")
def download(name: str, data_dir: str | None) -> None:
    """Fetch the original files of a data set (about 170 MB) and check their md5."""
    from robustgeom.data.cifar import download as fetch

    click.echo(fetch(name, data_dir))
