"""`robustgeom check`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from robustgeom.cli.output import check_text, exit_code
from robustgeom.errors import ContentError, UserError

__all__ = ["check"]

_SAMPLES = 1_000


@click.command()
@click.argument("target")
@click.option("--data", default="fashion-mnist", show_default=True, help="Data for a model.")
def check(target: str, data: str) -> None:
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
    from robustgeom.training.recipe import read_recipe

    readers = {"card.toml": ("card", parse_card), "recipe.toml": ("recipe", read_recipe)}
    if path.name in readers:
        kind, read = readers[path.name]
        read(path)
        return kind
    suite_error: UserError
    try:
        load_suite(str(path))
        return "suite"
    except ContentError as error:
        suite_error = error
    try:
        read_recipe(path)
        return "recipe"
    except ContentError:
        raise suite_error from None


def _model(reference: str, data: str) -> int:
    from robustgeom.data.load import load_dataset
    from robustgeom.harness.door import at_the_door
    from robustgeom.harness.subject import subject

    found, samples = subject(reference, load_dataset(data, split="eval", limit=_SAMPLES))
    checks = at_the_door(found, samples)
    click.echo(f"{found.info.name}: {found.info.parameters:,} parameters, noise {found.noise}")
    for check in checks:
        click.echo(check_text(check))
    return exit_code(checks)
