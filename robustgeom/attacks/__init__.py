"""Attacks: one attack, one file, one pure function; `ATTACKS` finds them by name."""

from robustgeom.registry import Registry

__all__ = ["ATTACKS"]

ATTACKS = Registry("attack", {"apgd": "robustgeom.attacks.apgd:apgd", "pgd": "robustgeom.attacks.pgd:pgd"})
