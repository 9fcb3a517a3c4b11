"""Objectives by name, and what each of them takes."""

from __future__ import annotations

import inspect
from typing import Any

from robustgeom.registry import Registry

__all__ = ["OBJECTIVES", "objective_needs", "objective_settings"]

_NAMES = (
    "fast_at",
    "free_at",
    "gradient_norm",
    "label_smoothing",
    "logit_squeezing",
    "mart",
    "noise_augmented",
    "pgd_at",
    "standard",
    "trades",
)

OBJECTIVES = Registry("objective", {name: f"robustgeom.training.{name}:{name}" for name in _NAMES})


def objective_settings(name: str) -> dict[str, Any]:
    """Return the settings of an objective with their defaults; raises `UnknownNameError`.

    >>> objective_settings("label_smoothing")
    {'smoothing': 0.1}
    """
    return {n: p.default for n, p in _keywords(name).items() if p.default is not p.empty}


def objective_needs(name: str) -> frozenset[str]:
    """Return what the loop must give an objective, of generator, threat and memory; raises `UnknownNameError`.

    >>> sorted(objective_needs("free_at"))
    ['generator', 'memory', 'threat']
    """
    return frozenset(n for n, p in _keywords(name).items() if p.default is p.empty)


def _keywords(name: str) -> dict[str, inspect.Parameter]:
    found = inspect.signature(OBJECTIVES[name]).parameters
    return {n: p for n, p in found.items() if p.kind is p.KEYWORD_ONLY}
