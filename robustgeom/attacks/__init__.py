"""Attacks: one attack, one file, one pure function; `ATTACKS` finds them by name."""

from robustgeom.registry import Registry

__all__ = ["ATTACKS"]

_NAMES = ("apgd", "pgd")

ATTACKS = Registry("attack", {name: f"robustgeom.attacks.{name}:{name}" for name in _NAMES})
