"""`robustgeom ls`."""

from __future__ import annotations

import json
import math
import tomllib
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from robustgeom import content
from robustgeom.stats import wilson
from robustgeom.words import radius_text

__all__ = ["ls"]

_COLUMNS = {
    "models": ("model", ("name", "family", "threat", "rho", "data")),
    "suites": ("suite", ("name", "version", "norm", "n", "description")),
    "studies": ("study", ("name", "data", "suite", "n", "description")),
    "attacks": ("attack card", ("name", "kind", "access", "norms", "paper")),
}


@click.command()
@click.argument("kind", type=click.Choice([*_COLUMNS, "zoo", "data"]), default="models")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(kind: str, *, as_json: bool) -> None:
    """List models, suites, attacks, studies, data sets, or the zoo's models with their figures."""
    rows = _data() if kind == "data" else _zoo() if kind == "zoo" else _rows(*_COLUMNS[kind])
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    if kind != "zoo":
        _print(rows)
        return
    for data in dict.fromkeys(row["data"] for row in rows):
        click.echo(f"{data}: accuracy in %, clean and, with 95 % intervals, under attack")
        _print(_figures([row for row in rows if row["data"] == data]), gap=0)  # names of 30 letters fit


def _print(rows: list[dict[str, Any]], gap: int = 1) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, gap))
    for column in rows[0] if rows else ():
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(", ".join(v) if isinstance(v, list) else str(v) for v in row.values()))
    Console(highlight=False).print(table)


def _figures(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return what the terminal shows of models of one data set: a column a norm and radius that any was attacked at."""
    places = dict.fromkeys(place for row in rows for place in row["robust"])
    return [
        {
            "name": row["name"],
            "trained": row["trained"],
            "clean": f"{100 * row['clean'][0]:.1f}",
            **{place: _share(row["robust"].get(place)) for place in places},
        }
        for row in rows
    ]


def _rows(kind: str, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    found = []
    for name in content.names(kind):
        path = content.find(kind, name)
        try:
            card = tomllib.loads(path.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            click.echo(f"robustgeom: expected a readable {kind}, got {path}: {error}; left out", err=True)
            continue
        found.append({column: card.get(column, "") for column in columns})
    return found


def _zoo() -> list[dict[str, Any]]:
    """Return each model with its clean accuracy on all test samples and its robust ones: value, low, high as shares.

    Robust ones at headline radii, by the zoo's own suite or, of models that it did not meet, by the strong one.
    """
    from robustgeom.data.threats import THREATS
    from robustgeom.models.card import read_card

    found = []
    for name in content.names("model"):
        card = read_card(name)
        facts = json.loads(content.find("model", name).with_name("expected.json").read_text())
        clean = wilson(facts["test_correct"], facts["test_n"])
        own = [f for f in card.figures if f.suite.startswith(("zoo-", "audio-"))]
        robust = {
            f"{f.norm} {radius_text(f.eps, f.norm)}": (f.value, f.low, f.high)
            for f in own or (f for f in card.figures if f.suite.startswith("strong-"))
            if (threat := THREATS.get(card.data, {}).get(f.norm))
            and any(math.isclose(f.eps, radius) for radius in threat.headlines)
        }
        against = card.threat if card.rho == 0 else f"{card.threat}, rho {card.rho:g}"
        sigma = card.architecture.arguments.get("sigma")
        against = against if sigma is None else f"{card.threat}, sigma {sigma:g}"
        row = {"name": name, "data": card.data, "trained": against}
        found.append({**row, "clean": (clean.value, clean.low, clean.high), "robust": robust})
    return found


def _share(figure: tuple[float, float, float] | None) -> str:
    if figure is None:
        return ""
    value, low, high = (100 * v for v in figure)
    return f"{value:.0f} [{low:.0f}, {high:.0f}]"


def _data() -> list[dict[str, Any]]:
    from robustgeom.data.imagenet import IMAGENET
    from robustgeom.data.load import DATASETS
    from robustgeom.data.speech.recordings import SOUND
    from robustgeom.data.threats import THREATS

    rows = [
        {
            "name": name,
            "headlines": [
                f"{t.norm} {radius_text(r, t.norm)}"
                for t in THREATS.get(name, {}).values()
                for r in t.headlines
            ],
        }
        for name in DATASETS
    ]
    return [*rows, *({"name": f"{kind}FOLDER", "headlines": ["--eps"]} for kind in (IMAGENET, SOUND))]
