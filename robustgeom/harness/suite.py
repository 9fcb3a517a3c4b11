"""Attack suites: TOML files that say what to attack with; the radii come from the data set's threat table."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, TypeAdapter, ValidationError

from robustgeom import content
from robustgeom.attacks import ATTACKS
from robustgeom.errors import ContentError, closest
from robustgeom.files import read_toml
from robustgeom.records import CLEAN
from robustgeom.threat import Norm, ThreatModel

__all__ = ["Analysis", "AttackSpec", "Suite", "load_suite"]

NORMS = ("linf", "l2")
_HARNESS_SETS = {"return", "model", "inputs", "labels", "threat", "generator", "watch", "source", "eot"}


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AttackSpec(_Section):
    """One attack of a suite: function, settings, and the variant its gradients come from, if any.

    An attack whose `source` is a variant that the model does not have is left out for that model.
    """

    name: str
    attack: str
    settings: dict[str, Any] = {}
    source: str | None = None


class Analysis(_Section):
    """What the analyzers get: images a class, random features, probes, and steps of the attack."""

    points: int = Field(default=50, ge=2)
    features: PositiveInt = 1000
    n_t: int = Field(default=200, ge=2)
    steps: PositiveInt = 20


class Suite(_Section):
    """A versioned list of attacks; `eot` and `judge_draws` are noise draws, used for stochastic models only."""

    name: str
    version: PositiveInt
    description: str
    norm: Literal["linf", "l2"]
    n: PositiveInt = 1000
    eot: PositiveInt = 8
    judge_draws: PositiveInt = 32
    attacks: list[AttackSpec] = Field(min_length=1)
    analysis: Analysis = Analysis()

    @property
    def digest(self) -> str:
        """The sha256 of everything in the suite."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


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


def check_settings(spec: AttackSpec, norm: Norm, path: Path) -> None:
    """Raise unless the attack exists and takes the settings, which a call without samples finds out."""
    attack = ATTACKS[spec.attack]
    kinds = get_type_hints(attack)
    known = set(kinds) - _HARNESS_SETS
    for name, value in spec.settings.items():
        if name not in known:
            got = f"{name!r} in {path}"
            raise ContentError(f"a setting of {spec.attack}", got=got, fix=closest(name, known))
        try:
            TypeAdapter(kinds[name], config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError as error:
            wanted = f"{name} of {spec.attack} as its type asks"
            got = f"{value!r} in {path} ({error.errors()[0]['msg']})"
            raise ContentError(wanted, got=got, fix=f"robustgeom show {spec.attack}") from error
    none = torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64)
    attack(torch.nn.Identity(), *none, threat=ThreatModel(norm, 0), **spec.settings)
