"""Training objectives by name, and what a recipe may set for each."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

from robustgeom.registry import Registry

__all__ = ["OBJECTIVES", "Settings", "objective_settings"]

OBJECTIVES = Registry(
    "objective",
    {
        "pgd_at": "robustgeom.training.pgd_at:pgd_at",
        "standard": "robustgeom.training.standard:standard",
    },
)


class Settings(NamedTuple):
    """What an objective takes: arguments with their defaults, whether a threat, whether memory over batches."""

    arguments: dict[str, Any]
    threat: bool
    memory: bool


def objective_settings(name: str) -> Settings:
    """Return what the objective `name` takes, from its signature; raises `UnknownNameError`.

    >>> objective_settings("standard")
    Settings(arguments={}, threat=False, memory=False)
    """
    given = inspect.signature(OBJECTIVES[name]).parameters.values()
    named = {p.name: p.default for p in given if p.kind is inspect.Parameter.KEYWORD_ONLY}
    arguments = {n: d for n, d in named.items() if n not in ("threat", "memory", "generator")}
    return Settings(arguments, "threat" in named, "memory" in named)
