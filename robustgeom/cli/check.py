"""`robustgeom check`."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import click

from robustgeom.cli.output import check_text, exit_code
from robustgeom.errors import ContentError

__all__ = ["check"]

_SAMPLES = 1_000


@click.command()
@click.argument("target")
@click.option("--data", help="Data for a model [default: a zoo model's own, else fashion-mnist].")
def check(target: str, data: str | None) -> None:
    """Validate a suite, recipe, card or record, or take a model through the door, without running attacks.

    TARGET is a .toml file, a record's or a zoo model's folder, a zoo name, file.py:build, or another reference to a
    model. Exits with 3 where a check of the model failed.
    """
    path = Path(target)
    if target and (path / "card.toml").is_file():
        path = path / "card.toml"
    if target and path.is_dir():
        from robustgeom.records import load_record

        click.echo(f"{target}: a valid record of {load_record(path).name}")
    elif path.suffix == ".toml":
        click.echo(f"{target}: a valid {_toml(path)}")
    else:
        sys.exit(_model(target, data))


def _toml(path: Path) -> str:
    from robustgeom.harness.suite import load_suite
    from robustgeom.models.card import parse_card
    from robustgeom.training.preflight import refuse_misfit
    from robustgeom.training.recipe import read_family, read_recipe

    def recipe(path: Path) -> None:
        refuse_misfit(read_recipe(path))

    def family(path: Path) -> None:
        for one in read_family(path):
            refuse_misfit(one)

    readers = {
        "card": ({"weights"}, parse_card),
        "family of recipes": ({"models"}, family),
        "recipe": ({"architecture", "objective", "optimiser", "optimizer"}, recipe),
    }
    fields = _fields(path)
    for kind, (known, read) in readers.items():
        if known & fields or path.name == f"{kind}.toml":
            read(path)
            return kind
    load_suite(str(path))
    return "suite"


def _fields(path: Path) -> set[str]:
    """Return the names at the top of a file, by which to tell what it is meant to be."""
    try:
        return set(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ContentError("a readable .toml file", got=f"{path}: {error}", fix="correcting it") from error


def _model(reference: str, data: str | None) -> int:
    from robustgeom.data.load import load_dataset
    from robustgeom.harness.chosen import usual_data
    from robustgeom.harness.door import at_the_door
    from robustgeom.harness.subject import subject

    data = usual_data(reference) if data is None else data
    found, samples = subject(reference, load_dataset(data, split="eval", limit=_SAMPLES))
    checks = at_the_door(found, samples)
    click.echo(f"{found.info.name}: {found.info.parameters:,} parameters, noise {found.noise}")
    for check in checks:
        click.echo(check_text(check))
    return exit_code(checks)
