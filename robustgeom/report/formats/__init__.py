"""What a comparison is written as for others: one file a format, each a function from a comparison to texts by name."""

from __future__ import annotations

from robustgeom.registry import Registry

__all__ = ["FORMATS"]

_NAMES = ("huggingface", "latex", "markdown", "robustbench")

FORMATS = Registry("format", {name: f"robustgeom.report.formats.{name}:{name}" for name in _NAMES})
