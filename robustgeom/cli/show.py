"""`robustgeom show`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from robustgeom import content
from robustgeom.cli.cp import NAMED, found
from robustgeom.cli.output import findings, flags, wrapped
from robustgeom.errors import unknown
from robustgeom.records import RunRecord, load_record
from robustgeom.verdicts import certificate_line, check_cost, verdict_line
from robustgeom.words import radius_text

__all__ = ["show"]

_KINDS = ("model", "suite", "attack card", "study")


@click.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (a record's header).")
def show(name: str, *, as_json: bool) -> None:
    """Show a model's card, a suite, a study, an attack's card, or the record or trained model in a folder.

    NAME may say what it is of, as zoo/NAME, suite/NAME and recipe/NAME do for `robustgeom cp`.
    """
    if Path(name, "header.json").is_file():
        record = load_record(name)
        click.echo(record.header.model_dump_json(indent=1) if as_json else _describe(record))
        return
    text = _file(name).read_text(encoding="utf-8")
    if as_json:
        import tomllib

        text = json.dumps(tomllib.loads(text), indent=1)
    click.echo(text.rstrip())


def _file(name: str) -> Path:
    """Return the file that a name, or a folder of a trained model, stands for."""
    for kind in _KINDS:
        if name in content.names(kind):
            return content.find(kind, name)
    if Path(name, "card.toml").is_file():
        return Path(name, "card.toml")
    if "/" in name and name.partition("/")[0] in NAMED:
        kind, path = found(name)
        return path.with_name("recipe.toml") if kind == "recipe" else path
    known = [n for kind in _KINDS for n in content.names(kind)]
    raise unknown("model, suite, attack or record", name, known)


def _describe(record: RunRecord) -> str:
    header = record.header
    norm, suite = header.threat.norm, header.suite
    radii = [radius for radius in header.threat.grid if radius > 0]
    rows = {
        "clean accuracy": record.accuracy,
        **{f"{norm} {radius_text(radius, norm)}": record.robust_accuracy_at(radius) for radius in radii},
        "checks": flags(record),
        "cost": f"{header.totals.forward_calls:,} forward passes, {header.totals.backward_calls:,} backward",
    }
    run = f"{header.status}, suite {suite.name} v{suite.version}, {header.created}"
    numbers = "\n".join(f"{name:<17}  {value}" for name, value in rows.items())
    costs = [wrapped(sentence, indent=2) for sentence in check_cost(record)]
    certain = [wrapped(certificate_line(record), indent=2)] if record.certified else []
    parts = [
        "\n".join([wrapped(verdict_line(record), indent=2), *certain]),
        f"{run}\n{numbers}",
        "\n".join([*findings(record), *costs]),
    ]
    return "\n\n".join(filter(None, parts))
