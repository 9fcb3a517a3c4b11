"""A zoo model's card: what it is, what it was trained for, where its weights are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from robustgeom import content
from robustgeom.errors import ContentError
from robustgeom.files import read_toml
from robustgeom.schema import TeacherInfo

__all__ = ["ModelCard", "card_file", "objective_of", "read_card"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Architecture(_Section):
    """An architecture's name and its arguments."""

    name: str
    arguments: dict[str, Any] = {}


class Weights(_Section):
    """The weight file beside the card, with its size in bytes and sha256."""

    file: str = "model.safetensors"
    bytes: int
    sha256: str


class Training(_Section):
    """What training cost: seconds on `device` (with so many `threads`), epochs gone through, images a second."""

    objective: str
    epochs: int
    seconds: float
    images_per_second: float
    device: str
    threads: int


class Lineage(TeacherInfo):
    """Who taught a student: the teacher and its digest, and what was done to its logits, in turn, as on a command line.

    Accuracies are shares of validation samples on which the teacher is right, clean and under the attack that the
    student is to withstand.
    """

    accuracy: float
    robust_accuracy: float | None = None


class Figure(_Section):
    """One measured accuracy: the share `value` of `n` images with its 95 % interval.

    At eps 0 it is clean accuracy. `suite`, `version`, `eot` and `verdict` say how it was attacked, and whether the
    failure checks let the number stand.
    """

    norm: str
    eps: float
    value: float
    low: float
    high: float
    n: int
    suite: str
    version: int
    eot: int
    verdict: str


class _Named(BaseModel):
    name: str


class _Recipe(BaseModel):
    """What a card's reader wants of a recipe, which training alone reads whole."""

    objective: _Named


class ModelCard(_Section):
    """The facts about a model that records and reports group by.

    `threat` is none or the norm and radius it was trained against; `rho` the noise-to-signal variance ratio.
    """

    name: str
    title: str
    family: str
    seed: int
    data: str
    input_shape: tuple[int, ...]
    classes: list[str]
    threat: str = "none"
    rho: float = 0.0
    front_end: str = "none"
    variants: list[str] = []
    licence: str = "MIT"
    origin: str
    paper: str = ""
    architecture: Architecture
    weights: Weights
    training: Training | None = None
    teacher: Lineage | None = None
    figures: list[Figure] = []


def card_file(name: str) -> Path:
    """Return the card of the zoo model `name`, or of the folder `name`, as `robustgeom train` writes one anywhere.

    A name of the zoo is never a folder here by accident; ./NAME is. Raises `UnknownNameError` with the closest names,
    `ContentError` on a folder without a card.

    >>> card_file("fmnist-cnn-standard").name
    'card.toml'
    """
    if name in content.names("model") or not ("/" in name or Path(name).is_dir()):
        return content.find("model", name)
    if not Path(name, "card.toml").is_file():
        raise ContentError(
            "a folder with card.toml and weights", got=f"no {name}/card.toml", fix="a name of the zoo"
        )
    return Path(name, "card.toml")


def read_card(name: str) -> ModelCard:
    """Read the card of the zoo model or folder `name`; a folder outside the zoo may have another name than its card.

    Raises `UnknownNameError` with the closest names, and `ContentError` that names a field that does not fit.

    >>> read_card("fmnist-cnn-standard").family
    'fmnist-cnn'
    """
    path = card_file(name)
    card = parse_card(path)
    if card.name != name and name in content.names("model"):
        raise ContentError(f"the name {name!r} in {path}", got=repr(card.name), fix="renaming either")
    return card


def objective_of(name: str) -> str:
    """Return what a zoo model or folder was trained by, as its card says, else the recipe beside it; empty if neither.

    >>> objective_of("fmnist-cnn-pgd-at")
    'pgd_at'
    """
    card, recipe = read_card(name), card_file(name).with_name("recipe.toml")
    if card.training is not None:
        return card.training.objective
    if not recipe.is_file():
        return ""
    return read_toml(recipe, _Recipe, "recipe", fix="installing the zoo again").objective.name


def parse_card(path: Path) -> ModelCard:
    """Read a card file; raises `ContentError` that names the first field that does not fit."""
    return read_toml(path, ModelCard, "card", fix="installing the zoo again")
