"""Attack suites: TOML files that say what to attack with; the radii come from the data set's threat table."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from robustgeom import content
from robustgeom.errors import ContentError, closest
from robustgeom.files import read_toml
from robustgeom.harness.find import find_attack, is_own, look_up
from robustgeom.harness.spec import Analysis, AttackSpec, Certification, Suite
from robustgeom.records import CLEAN
from robustgeom.threat import Measure, ThreatModel, ball_of

__all__ = ["Analysis", "AttackSpec", "Certification", "Suite", "check_settings", "load_suite"]

_HARNESS_SETS = {"return", "model", "inputs", "labels", "threat", "generator", "watch", "source", "eot"}


def load_suite(reference: str) -> Suite:
    """Return a suite by name, or from a .toml file of your own.

    Raises `UnknownNameError` with the closest names, and `ContentError` that names what does not fit.

    >>> load_suite("quick-linf").norm
    'linf'
    """
    path = Path(reference) if reference.endswith(".toml") else content.find("suite", reference)
    suite = read_toml(path, Suite, "suite", fix="robustgeom ls suites")
    for spec in suite.attacks:
        check_settings(spec, suite.norm, path)
    names = {spec.name for spec in suite.attacks}
    if len(names) < len(suite.attacks) or CLEAN in names:
        wanted = f"attacks with distinct names, none of them {CLEAN!r}"
        raise ContentError(wanted, got=f"others in {path}", fix="renaming one")
    return suite


def check_settings(spec: AttackSpec, norm: Measure, path: Path) -> None:
    """Raise unless the attack exists and takes the settings, which a call without samples finds out."""
    attack = look_up(spec.attack)
    if not is_own(spec):
        kinds = get_type_hints(attack)
        known = set(kinds) - _HARNESS_SETS
        for name, value in spec.settings.items():
            _check_setting(spec, name, value, kinds, known, path)
    taken = signature(find_attack(spec)).parameters
    if spec.source is not None and "source" not in taken:
        got = f"source = {spec.source!r} in {path}"
        raise ContentError(f"no source for {spec.attack}, which takes none", got=got, fix="leaving it out")
    none = torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64)
    if not is_own(spec):
        attack(_flat, *none, threat=ThreatModel(ball_of(norm), 0), **spec.settings)


def _flat(x: Tensor) -> Tensor:
    return x.flatten(1)


def _check_setting(
    spec: AttackSpec, name: str, value: object, kinds: dict[str, Any], known: set[str], path: Path
) -> None:
    if name not in known:
        got = f"{name!r} in {path}"
        raise ContentError(f"a setting of {spec.attack}", got=got, fix=closest(name, known))
    try:
        TypeAdapter(kinds[name], config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError as error:
        wanted = f"{name} of {spec.attack} as its type asks"
        got = f"{value!r} in {path} ({error.errors()[0]['msg']})"
        raise ContentError(wanted, got=got, fix=f"robustgeom show {spec.attack}") from error
