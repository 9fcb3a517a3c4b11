"""What a suite says: which attacks with which settings, and how they are run."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from robustgeom.harness.judge import SINGLE_DRAWS
from robustgeom.threat import Measure

__all__ = ["Analysis", "AttackSpec", "Certification", "Suite"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AttackSpec(_Section):
    """One attack of a suite: function, settings, and where its gradients come from, if not from the model.

    `attack` is a name, "corruption:NAME", "torchattacks:NAME" or a reference. `source` is a variant of the model, or
    "model:REF", a surrogate; an attack whose source this model does not have, or is, is left out for it.
    """

    name: str
    attack: str
    settings: dict[str, Any] = {}
    source: str | None = None


class Analysis(_Section):
    """What the analyzers get: images a class, versions of single images, random features, probes, steps of the attack.

    Perturbation manifolds are `versions` of each of `images` samples; with no images there are none.
    """

    points: int = Field(default=50, ge=2)
    images: NonNegativeInt = 50
    versions: int = Field(default=50, ge=2)
    features: PositiveInt = 1000
    n_t: int = Field(default=200, ge=2)
    steps: PositiveInt = 20


class Certification(_Section):
    """What a certificate of a smoothed network takes: noise draws that choose a class, others that bound it, and alpha.

    Each certificate is wrong with probability `alpha` at most. A sample takes `selection_draws` + `draws` passes.
    """

    draws: PositiveInt = 1000
    selection_draws: PositiveInt = 100
    alpha: float = Field(default=0.001, gt=0, lt=0.5)


class Suite(_Section):
    """A versioned list of attacks.

    For stochastic models only, `eot` is noise draws a gradient and `judge_draws` the most draws a decision.
    It meets the radii of the threat table's grid, or only its headlines. An `exhaustive` suite spares no sample that
    has fallen, so that the accuracy under each attack by itself can be read off. With `certify`, models that offer a
    certificate are certified too.
    """

    name: str
    version: PositiveInt
    description: str
    norm: Measure
    n: PositiveInt = 1000
    radii: Literal["grid", "headlines"] = "grid"
    exhaustive: bool = False
    eot: PositiveInt = 8
    judge_draws: int = Field(default=128, ge=SINGLE_DRAWS)
    attacks: list[AttackSpec] = Field(min_length=1)
    analysis: Analysis = Analysis()
    certify: Certification | None = None

    @property
    def digest(self) -> str:
        """The sha256 of everything in the suite but `certify`, which changes nothing that attacks meet."""
        return hashlib.sha256(self.model_dump_json(exclude={"certify"}).encode()).hexdigest()
