"""A training recipe: everything needed to train a zoo model again, as TOML; and families of recipes."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from robustgeom.data.load import DATASETS
from robustgeom.errors import ContentError, InputError
from robustgeom.files import parsed, read_toml
from robustgeom.models.build import ARCHITECTURES
from robustgeom.registry import needs_of, settings_of
from robustgeom.threat import ThreatModel
from robustgeom.training.manipulations import MANIPULATIONS, try_manipulation
from robustgeom.training.objectives import (
    OBJECTIVES,
    OVER_FRAMES,
    objective_needs,
    objective_settings,
    try_objective,
)
from robustgeom.training.spelling import written

__all__ = ["Family", "Recipe", "is_family", "read_family", "read_recipe"]

CLIPS = "retinal-waves"  # what the names of data sets of clips begin with


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


def _known(kind: str, name: str, names: Mapping[str, Any]) -> None:
    if name not in names:
        raise ValueError(f"unknown {kind} {name!r}; known: {', '.join(names)}")


class Architecture(_Section):
    """An architecture's name and its arguments."""

    name: str
    arguments: dict[str, Any] = {}

    @model_validator(mode="after")
    def _exists(self) -> Architecture:
        _known("architecture", self.name, ARCHITECTURES)
        return self


class Objective(_Section):
    """What is minimised: an objective's name, its threat (norm and eps in the input's units), other arguments.

    Arguments are checked against the objective's signature and by asking it for a loss on a toy; a threat is given
    exactly where the objective has one.
    """

    name: str
    norm: Literal["linf", "l2", "l1"] = "linf"
    eps: float = Field(0.0, ge=0)
    arguments: dict[str, Any] = {}

    @model_validator(mode="after")
    def _fits(self) -> Objective:
        _known("objective", self.name, OBJECTIVES)
        settings, threatened = objective_settings(self.name), "threat" in objective_needs(self.name)
        for argument in self.arguments:
            _known(f"argument of {self.name}", argument, settings)
        if self.norm != "linf" and not threatened:
            raise ValueError(f"{self.name} takes no norm, got norm = {self.norm!r}")
        if threatened != (self.eps > 0):
            raise ValueError(
                f"{self.name} takes {'eps > 0' if threatened else 'no eps'}, got eps = {self.eps:g}"
            )
        try:
            try_objective(self.name, ThreatModel(self.norm, self.eps), self.arguments)
        except (InputError, TypeError) as error:
            raise ValueError(f"{self.name} cannot do with these: {error}") from error
        return self


class Manipulation(_Section):
    """What is done to a teacher's logits: a manipulation's name and its settings, tried out on a toy."""

    name: str
    arguments: dict[str, Any] = {}

    @model_validator(mode="after")
    def _fits(self) -> Manipulation:
        _known("manipulation", self.name, MANIPULATIONS)
        for argument in self.arguments:
            _known(f"argument of {self.name}", argument, settings_of(MANIPULATIONS[self.name]))
        try:
            try_manipulation(self.name, self.arguments)
        except (InputError, TypeError) as error:
            raise ValueError(f"{self.name} cannot do with these: {error}") from error
        return self

    @property
    def compares(self) -> bool:
        """Whether it goes by a second network."""
        return bool(needs_of(MANIPULATIONS[self.name]) & {"other", "other_reference"})

    def __str__(self) -> str:
        """Return it as `robustgeom distill --manipulate` takes it: name:key=value,..., without what is usual."""
        settings = written(self.arguments, settings_of(MANIPULATIONS[self.name]))
        return f"{self.name}:{settings}" if settings else self.name


class Teacher(_Section):
    """Who teaches: a name of the zoo, a folder or another reference, and what is done to its logits, one by one.

    other: a second network, given exactly where a manipulation compares the two.
    """

    model: str = Field(min_length=1)
    other: str = ""
    manipulations: list[Manipulation] = []

    @model_validator(mode="after")
    def _has_another(self) -> Teacher:
        names = [m.name for m in self.manipulations if m.compares]
        if names and not self.other:
            raise ValueError(f"{names[0]} compares two networks, got no teacher.other")
        if self.other and not names:
            raise ValueError(f"no manipulation takes teacher.other, got {self.other!r}")
        return self


class Optimiser(_Section):
    """SGD with Nesterov momentum, AdamW with that first beta, or LARS; `lr` is the peak of the schedule.

    one-cycle rises over the first 30 % of all steps and falls to 0, while momentum, of 0.05 or more, falls from 0.05
    above its value to 0.05 below and rises again; cosine falls from the start; constant stays.
    """

    name: Literal["sgd", "adamw", "lars"] = "sgd"
    epochs: PositiveInt
    batch_size: PositiveInt = 256
    lr: PositiveFloat = 0.1
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    schedule: Literal["one-cycle", "cosine", "constant"] = "one-cycle"


class Augmentation(_Section):
    """Random left-right flips of images, and random shifts by up to `shift` pixels, or samples of a waveform.

    Waveforms are also played at 1 - `stretch` to 1 + `stretch` times their pace.
    """

    flip: bool = True
    shift: NonNegativeInt = 0
    stretch: float = Field(default=0.0, ge=0, lt=1)


class Averaging(_Section):
    """Exponential averaging of weights and buffers over steps; the average is the result. 0: none."""

    decay: float = Field(0.0, ge=0, lt=1)


class Validation(_Section):
    """What is looked at after every epoch, on the first `images` of the validation split, classes balanced.

    steps: of PGD at the objective's threat; without a threat only clean accuracy is measured. keep: the last weights or
    those of the best epoch, by robust accuracy where there is a threat. patience: stop after so many epochs without
    a better one; 0: never.
    """

    images: PositiveInt = 1000
    steps: PositiveInt = 10
    keep: Literal["last", "best"] = "last"
    patience: NonNegativeInt = 0


class Precision(_Section):
    """Automatic mixed precision in the passes of training; none on processors without it is the quickest."""

    amp: Literal["none", "bfloat16", "float16"] = "none"


class Pretraining(_Section):
    """What the network learns first, on the training split of other data or the same; its probe starts anew after it.

    `seed` is one of its own: networks that differ in the recipe's seed alone share what was learned first.
    """

    data: str
    seed: int = 0
    objective: Objective
    optimiser: Optimiser
    augmentation: Augmentation = Augmentation(flip=False)

    def __str__(self) -> str:
        """Return it in words, without what is usual: mmcr:views=2 on fashion-mnist."""
        asked = self.objective
        settings = written(asked.arguments, objective_settings(asked.name))
        radius = f" at {asked.norm} {asked.eps:g}" if asked.eps else ""
        return f"{asked.name}{f':{settings}' if settings else ''}{radius} on {self.data}"

    @model_validator(mode="after")
    def _suits(self) -> Pretraining:
        _known("data set with training samples", self.data, DATASETS)
        if (self.objective.name in OVER_FRAMES) != self.data.startswith(CLIPS):
            wants = "clips" if self.objective.name in OVER_FRAMES else "no clips"
            raise ValueError(f"{self.objective.name} takes {wants}, got {self.data}")
        if "teacher" in objective_needs(self.objective.name):
            raise ValueError(f"pretraining has no teacher, got the objective {self.objective.name}")
        return self


class Recipe(_Section):
    """One training run; `seed` fixes initialisation, order, augmentation, noise and attacks.

    With `pretraining` the network starts from what that left, but for its probe.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
    family: str
    title: str = ""
    paper: str = ""
    seed: int = 0
    data: str = "fashion-mnist"
    architecture: Architecture
    objective: Objective
    teacher: Teacher | None = None
    optimiser: Optimiser
    augmentation: Augmentation = Augmentation()
    averaging: Averaging = Averaging(decay=0.0)
    validation: Validation = Validation()
    precision: Precision = Precision()
    pretraining: Pretraining | None = None

    @model_validator(mode="after")
    def _has_splits(self) -> Recipe:
        _known("data set with training images", self.data, DATASETS)
        return self

    @model_validator(mode="after")
    def _is_taught(self) -> Recipe:
        name = self.objective.name
        if ("teacher" in objective_needs(name)) != (self.teacher is not None):
            wants, has = ("a", "none") if self.teacher is None else ("no", self.teacher.model)
            raise ValueError(f"{name} takes {wants} teacher, got {has}")
        return self

    @model_validator(mode="after")
    def _has_a_probe(self) -> Recipe:
        if self.pretraining is not None and self.architecture.name != "self_supervised":
            raise ValueError(f"pretraining takes self_supervised, got {self.architecture.name}")
        return self

    @property
    def earlier(self) -> Recipe | None:
        """What is learned first, as a recipe of its own, which does not tell whose it is."""
        if (first := self.pretraining) is None:
            return None
        return Recipe(
            name="pretraining",
            family="pretraining",
            seed=first.seed,
            data=first.data,
            architecture=self.architecture,
            objective=first.objective,
            optimiser=first.optimiser,
            augmentation=first.augmentation,
            precision=self.precision,
        )


class Member(BaseModel):
    """One model of a family: a name, how many training seeds, and what differs from the family's sections."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str
    seeds: PositiveInt = 1


class Family(BaseModel):
    """Recipes that share sections, in the order of training: common sections, then [[models]]."""

    model_config = ConfigDict(frozen=True, extra="allow")
    models: list[Member] = Field(min_length=1)


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe; raises `ContentError` that names the first field that does not fit."""
    return read_toml(path, Recipe, "recipe", fix="a recipe of the zoo")


def is_family(path: str | Path) -> bool:
    """Return whether the file holds a family of recipes; False where it cannot be read."""
    try:
        return "models" in tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return False


def read_family(path: str | Path) -> list[Recipe]:
    """Return the recipes of a family file: NAME for seed 0, then NAME-s1, NAME-s2.

    A model's own sections are laid over the family's, field by field. Raises `ContentError` as `read_recipe`, and where
    two have one name.
    """
    family = read_toml(path, Family, "family of recipes", fix="zoo/family.toml")
    shared = family.model_extra or {}
    found = [
        _merged(shared, {**(member.model_extra or {}), "name": _named(member.name, seed), "seed": seed})
        for member in family.models
        for seed in range(member.seeds)
    ]
    recipes = [parsed(fields, path, Recipe, "recipe") for fields in found]
    twice = [name for name, count in Counter(r.name for r in recipes).items() if count > 1]
    if twice:
        raise ContentError("models of different names", got=f"two {twice[0]!r} in {path}", fix="renaming one")
    return recipes


def _named(name: str, seed: int) -> str:
    return f"{name}-s{seed}" if seed else name


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(below)
    for key, value in above.items():
        kept = both.get(key)
        both[key] = _merged(kept, value) if isinstance(kept, dict) and isinstance(value, dict) else value
    return both
