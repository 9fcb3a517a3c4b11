"""Tables of the functional graphs of networks: a row a recipe and condition, beside chance; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from robustgeom.report.crowd import Group
from robustgeom.report.geometry import Sheet
from robustgeom.report.graph_rules import graph_values

__all__ = ["graph_sheets"]

CONDITIONS = ("clean", "attacked", "noisy")
SINGLE = ("graph_strength", "class_modularity", "small_world", "rich_club", "controllability")
PAIRED = ("graph_modularity", "graph_participation", "graph_efficiency", "graph_clustering")
CHANGES = ("community_agreement", "edge_change", "strength_change")
CAPTION = (
    "Of all stages' units together, channels averaged over positions, correlated over images; measures of edges are "
    "means over graphs of the strongest 5, 10, 20 and 30 % of absolute correlations. In brackets: rewired graphs of "
    "the same degrees, or, of strength, permuted responses. Attacked and noisy are at the strictest radius, on the "
    "same images. Means over training seeds with their standard deviation."
)
CHANGED = (
    "What the attack, and noise of its norm and size, do to the graph: how far its communities agree with those of the "
    "unchanged images (normalised mutual information), the root mean square change of correlations, and the change of "
    "mean absolute ones. Means over training seeds with their standard deviation."
)


def graph_sheets(groups: Sequence[Group]) -> list[tuple[str, Sheet]]:
    """Return the table of graphs and that of what changes them; none where no network's graph was measured."""
    rows: list[tuple[str | int, ...]] = []
    changes: list[tuple[str | int, ...]] = []
    for group in groups:
        for condition in CONDITIONS:
            found = [graph_values(m.record, condition) for m in group.models if not m.partial]
            for table, needed, names in (
                (rows, "graph_modularity", (*PAIRED, *SINGLE)),
                (changes, "edge_change", CHANGES),
            ):
                if own := [f for f in found if needed in f]:  # of seeds without a graph none is told
                    table.append((group.name, len(own), condition, *(_cell(own, name) for name in names)))
    heads = ("network", "seeds", "images")
    told = [name.replace("graph_", "").replace("_", " ") for name in (*PAIRED, *SINGLE, *CHANGES)]
    measured, changed = told[: -len(CHANGES)], told[-len(CHANGES) :]
    sheets = [("Graphs of units", Sheet(CAPTION, (*heads, *measured), tuple(rows)))] if rows else []
    more = [("What changes them", Sheet(CHANGED, (*heads, *changed), tuple(changes)))] if changes else []
    return [*sheets, *more]


def _cell(found: list[dict[str, float]], name: str) -> str:
    """Return a measure's mean over seeds, its standard deviation where there are several, and in brackets chance."""
    values, chance = ([f[key] for f in found if key in f] for key in (name, f"{name}_chance"))
    if not values:
        return ""
    spread = f" ± {stdev(values):.1g}" if len(values) > 1 else ""
    return f"{fmean(values):.3g}{spread}" + (f" ({fmean(chance):.3g})" if chance else "")
