"""A LaTeX table of the models, for booktabs."""

from __future__ import annotations

from robustgeom.report.compare import Comparison
from robustgeom.report.formats._rows import caption, heads, rows

__all__ = ["latex"]

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # after a row's end it would be that one's argument, as would a star
    "*": "{*}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


def latex(comparison: Comparison) -> dict[str, str]:
    """Return {"comparison.tex": a table environment with accuracies in %, which needs the package booktabs}."""
    head = heads(comparison)
    body = [_line(row) for row in rows(comparison)]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escaped(caption(comparison))}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(head) - 2)}l}}",
        r"\toprule",
        _line(head),
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return {"comparison.tex": "\n".join(lines) + "\n"}


def _line(cells: list[str]) -> str:
    return " & ".join(map(_escaped, cells)) + r" \\"


def _escaped(text: str) -> str:
    return " ".join("".join(_SPECIAL.get(c, c) for c in text).split())
