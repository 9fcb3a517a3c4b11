"""What an attack promises: the worst point inside the radius (fixed budget), or the nearest one (minimum norm)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["FIXED_BUDGET", "MINIMUM_NORM", "kind_of", "minimum_norm"]

FIXED_BUDGET, MINIMUM_NORM = "fixed budget", "minimum norm"
_Attack = TypeVar("_Attack", bound=Callable[..., Any])


def minimum_norm(attack: _Attack) -> _Attack:
    """Declare that `attack` returns the nearest point that fools, whatever the radius: it is then run only once.

    >>> kind_of(minimum_norm(lambda model, inputs, labels, *, threat: inputs))
    'minimum norm'
    """
    attack.kind = MINIMUM_NORM  # type: ignore[attr-defined]
    return attack


def kind_of(attack: Callable[..., Any]) -> str:
    """Return the attack's kind: fixed budget unless it was declared otherwise."""
    return getattr(attack, "kind", FIXED_BUDGET)
