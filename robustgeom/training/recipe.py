"""A training recipe: everything needed to train a zoo model again, as TOML."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from robustgeom.files import read_toml

__all__ = ["Recipe", "read_recipe"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Architecture(_Section):
    """An architecture's name and its arguments."""

    name: Literal["cnn", "preact_resnet"]
    arguments: dict[str, Any] = {}


class Objective(_Section):
    """What is minimised; norm, eps, steps and step_size belong to pgd_at and are in the input's units."""

    name: Literal["standard", "pgd_at"]
    norm: Literal["linf", "l2"] = "linf"
    eps: float = Field(0.0, ge=0)
    steps: PositiveInt = 5
    step_size: PositiveFloat | None = None


class Optimiser(_Section):
    """SGD with Nesterov momentum under a one-cycle schedule; `lr` is its peak."""

    epochs: PositiveInt
    batch_size: PositiveInt = 256
    lr: PositiveFloat = 0.1
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)


class Augmentation(_Section):
    """Random left-right flips, and random shifts by up to `shift` pixels."""

    flip: bool = True
    shift: NonNegativeInt = 0


class Recipe(_Section):
    """One training run; `seed` fixes initialisation, order, augmentation, noise and attacks."""

    name: str
    family: str
    seed: int = 0
    data: Literal["fashion-mnist"] = "fashion-mnist"
    architecture: Architecture
    objective: Objective
    optimiser: Optimiser
    augmentation: Augmentation = Augmentation(shift=0)


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe; raises `ContentError` that names the first field that does not fit."""
    return read_toml(path, Recipe, "recipe", fix="a recipe of the zoo")
