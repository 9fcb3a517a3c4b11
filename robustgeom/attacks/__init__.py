"""Attacks: one attack, one file, one pure function; `ATTACKS` finds them by name."""

from robustgeom.registry import Registry

__all__ = ["ATTACKS"]

_NAMES = (
    "apgd",
    "apgd_t",
    "ddn",
    "fab_t",
    "fgsm",
    "fmn",
    "hop_skip_jump",
    "mifgsm",
    "pdpgd",
    "pgd",
    "random_search",
    "sigma_zero",
    "spatial",
    "spsa",
    "square",
)

ATTACKS = Registry("attack", {name: f"robustgeom.attacks.{name}:{name}" for name in _NAMES})
