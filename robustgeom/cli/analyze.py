"""`robustgeom analyze`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from robustgeom.cli.output import wrapped
from robustgeom.cli.progress import Display
from robustgeom.files import refuse_existing
from robustgeom.registry import MEASURES
from robustgeom.words import radius_text

if TYPE_CHECKING:
    from robustgeom.harness.analyze import Analysis

__all__ = ["analyze"]

_WIDTH, _NARROWEST = 80, 15  # columns of a terminal, and of a number with its error


def _listed(context: click.Context, parameter: click.Parameter, text: str | None) -> list[str] | None:
    del context, parameter
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


@click.command()
@click.argument("model", metavar="REF")
@click.option(
    "--geometry", default="capacity", show_default=True, callback=_listed, help="Measures, comma between."
)
@click.option(
    "--manifolds",
    default="class",
    show_default=True,
    callback=_listed,
    help="class, class-attacked, class-noise, attack, noise, translations, wide-translations, contrasts, views; with "
    "noise in the network also own-noise, frozen-noise, frozen-perturbation; of spoken-words also speaker, accent and "
    "background.",
)
@click.option("--stages", callback=_listed, help="Module names [default: the model's own stages].")
@click.option(
    "--data",
    help="Name, folder, file.py:attr, or .npz file [default: a zoo model's own, else fashion-mnist].",
)
@click.option("--split", default="eval", show_default=True, help="Split of a named data set.")
@click.option("--data-dir", help="Folder that holds the data set's original files.")
@click.option("--n-images", default=50, show_default=True, help="Images whose versions are manifolds.")
@click.option("--points", default=50, show_default=True, help="Points of each manifold.")
@click.option(
    "--norm", default="linf", show_default=True, help="Norm of attack and noise: linf, l2, l1 or snr."
)
@click.option("--eps", help="Radius in place of the data set's threat table, such as 8/255 or 30dB.")
@click.option("--steps", type=int, help="Steps of the attack [default: 1; 20 for class-attacked].")
@click.option("--eot", default=8, show_default=True, help="Noise draws a gradient, for a noisy network.")
@click.option("--shift", default=0.1, show_default=True, help="Largest translation, a share of the side.")
@click.option("--features", default=1000, show_default=True, help="Directions that wide stages are cut to.")
@click.option("--n-t", default=200, show_default=True, help="Random probes a manifold.")
@click.option("--seed", default=0, show_default=True, help="Seed of attacks, noise, projection and probes.")
@click.option("--batch-size", default=128, show_default=True, type=click.IntRange(min=1))
@click.option("--device", default="cpu", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="New folder for the table and what it rests on.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: all rows and what they rest on.")
def analyze(
    model: str,
    geometry: list[str],
    manifolds: list[str],
    stages: list[str] | None,
    data: str | None,
    out: Path | None,
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure the geometry of a model's stages: manifolds of classes, of attacked or noisy versions of images.

    REF is a zoo name, file.py:build, or pkg.mod:attr, as for `evaluate`. Numbers are of all manifolds together, with
    standard errors from the finite number of probes.
    """
    from robustgeom.harness import analyze as harness  # heavy imports wait until --help is out of the way

    if out is not None:
        refuse_existing(out)
    asked: dict[str, Any] = {"geometry": geometry, "manifolds": manifolds, "stages": stages}
    with Display() as display:
        chosen = harness.AnalysisOptions(**options)
        found = harness.analyze(model, data, **asked, options=chosen, progress=display)
    if as_json:
        click.echo(json.dumps({**found.as_dict(), "rows": found.table.to_pylist()}, indent=1))
    else:
        _print(found)
    if out is not None:
        click.echo(str(found.save(out)), err=as_json)


def _print(found: Analysis) -> None:
    """Print a table for each condition, what the attack does beside noise, and what could not be measured."""
    rows = found.table.to_pylist()
    click.echo(wrapped(_setting(found.facts), indent=2) + "\n")
    for condition in dict.fromkeys(row["condition"] for row in rows):
        _print_condition(condition, [row for row in rows if row["condition"] == condition])
    if {"attack", "noise"} <= {row["condition"] for row in rows}:
        _print_ratios(found)
    for note in found.notes:
        click.echo(wrapped(f"not measured: {note}", indent=2))


def _setting(facts: dict[str, Any]) -> str:
    asked, threat = facts["arguments"], facts["threat"]
    under = ""
    if threat is not None:
        under = f"; attacks in {threat['norm']} {radius_text(threat['eps'], threat['norm'])}"
        if threat["measure"] == "snr":
            under += f", {radius_text(threat['radius'], 'snr')} below a clip of median norm"
    model, data = facts["model"]["name"], f"{facts['data']['name']} ({facts['data']['split']})"
    error = "of the probes, of overlap over images" if "overlap" in asked["geometry"] else "of the probes"
    return f"{model} on {data}{under}; {asked['n_t']} probes, seed {asked['seed']}; ± standard error {error}"


def _print_condition(condition: str, rows: list[dict[str, Any]]) -> None:
    whole = [row for row in rows if row["manifold"] == "all"]
    title = f"{condition}: {whole[0]['P']} manifolds of {_counts(rows)} points"
    sizes = [row["M"] for row in rows if row["measure"] == "capacity" and row["manifold"] != "all"]
    if sizes:
        title += f"; capacity floor {2 / mean(sizes):.3g}"
    click.echo(wrapped(title, indent=2))
    measures = list(dict.fromkeys(row["measure"] for row in whole))
    for some in _side_by_side(measures, max(len(row["stage"]) for row in whole) + len("  1000")):
        Console(highlight=False).print(_table(whole, some))
    click.echo()


def _counts(rows: list[dict[str, Any]]) -> str:
    """Return how many points the manifolds have, in words; pairs of manifolds do not count."""
    counts = {row["M"] for row in rows if row["P"] != 2 or row["manifold"] == "all"}
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _print_ratios(found: Analysis) -> None:
    rows = [row for row in found.table.to_pylist() if row["manifold"] == "all"]
    measures = [m for m in dict.fromkeys(row["measure"] for row in rows) if _has_ratio(m)]
    ratios = {m: by for m in measures if (by := found.ratio(m, "attack", "noise"))}
    stages = [
        s for s in dict.fromkeys(row["stage"] for row in rows) if any(s in by for by in ratios.values())
    ]
    for some in _side_by_side(list(ratios), max(map(len, [*stages, "attack over noise"]))):
        table = _columns("attack over noise", *some)
        for stage in stages:
            table.add_row(stage, *(f"{ratios[m][stage]:.3g}" if stage in ratios[m] else "-" for m in some))
        Console(highlight=False).print(table)
    click.echo()


def _has_ratio(measure: str) -> bool:
    """Return whether a ratio says something: not of signed terms, of references and of shares of draws."""
    known = MEASURES.get(measure)
    return (
        known is not None
        and known.low >= 0
        and not measure.endswith(("_floor", "_draws", "shuffled_capacity"))
    )


def _side_by_side(measures: list[str], taken: int) -> Iterator[list[str]]:
    """Yield the measures in groups whose columns fit beside `taken` columns."""
    some: list[str] = []
    for name in measures:
        if some and taken + sum(max(len(m), _NARROWEST) + 1 for m in [*some, name]) > _WIDTH:
            yield some
            some = []
        some.append(name)
    yield some


def _columns(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _table(rows: list[dict[str, Any]], measures: list[str]) -> Table:
    table = _columns("stage", "N", *measures)
    for stage in dict.fromkeys(row["stage"] for row in rows):
        here = {row["measure"]: row for row in rows if row["stage"] == stage}
        width = max(row["N"] for row in here.values())
        table.add_row(stage, str(width), *(_cell(here.get(measure)) for measure in measures))
    return table


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    return f"{row['value']:.3g} ± {row['se']:.1g}" if row["se"] else f"{row['value']:.3g}"
