"""Tables of the functional graphs of networks: a row a network and condition, beside chance; no torch."""

from __future__ import annotations

from collections.abc import Sequence

from robustgeom.records import RunRecord
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
    "same images."
)
CHANGED = (
    "What the attack, and noise of its norm and size, do to the graph: how far its communities agree with those of the "
    "unchanged images (normalised mutual information), the root mean square change of correlations, and the change of "
    "mean absolute ones."
)


def graph_sheets(records: Sequence[RunRecord]) -> list[tuple[str, Sheet]]:
    """Return the table of graphs and that of what changes them; none where no network's graph was measured."""
    rows, changes = [], []
    for record in (r for r in records if r.header.status == "complete"):
        for condition in CONDITIONS:
            found = graph_values(record, condition)
            if "graph_modularity" in found:
                rows.append((record.name, condition, *_cells(found)))
            if "edge_change" in found:
                changes.append((record.name, condition, *(f"{found[name]:.3g}" for name in CHANGES)))
    heads = (
        "network",
        "images",
        *(name.replace("graph_", "").replace("_", " ") for name in (*PAIRED, *SINGLE)),
    )
    sheets = [("Graphs of units", Sheet(CAPTION, heads, tuple(rows)))] if rows else []
    told = ("network", "images", *(name.replace("_", " ") for name in CHANGES))
    return [*sheets, ("What changes them", Sheet(CHANGED, told, tuple(changes)))] if changes else sheets


def _cells(found: dict[str, float]) -> list[str]:
    return [_beside(found, name) if name in found else "" for name in (*PAIRED, *SINGLE)]


def _beside(found: dict[str, float], name: str) -> str:
    chance = found.get(f"{name}_chance")
    return f"{found[name]:.3g}" + ("" if chance is None else f" ({chance:.3g})")
