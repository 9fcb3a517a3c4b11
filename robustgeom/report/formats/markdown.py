"""A Markdown table of the models."""

from __future__ import annotations

from robustgeom.report.compare import Comparison
from robustgeom.report.formats._rows import caption, heads, rows

__all__ = ["escaped", "markdown"]


def markdown(comparison: Comparison) -> dict[str, str]:
    """Return {"comparison.md": a pipe table with accuracies in %}."""
    head = heads(comparison)
    lines = [head, ["---", *["---:"] * (len(head) - 2), "---"], *rows(comparison)]
    table = "\n".join("| " + " | ".join(map(escaped, line)) + " |" for line in lines)
    return {"comparison.md": f"{table}\n\n{escaped(caption(comparison))}\n"}


def escaped(text: str) -> str:
    """Return text in which nothing is markup: names are others'."""
    for character in "\\|`*_[]<>":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
