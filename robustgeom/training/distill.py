"""Distil a robust teacher into a student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robustgeom import content
from robustgeom.data.dataset import Dataset
from robustgeom.data.load import load_dataset
from robustgeom.data.threats import threat_table
from robustgeom.errors import InputError, UserError, unknown
from robustgeom.files import parsed
from robustgeom.harness.chosen import usual_data
from robustgeom.models.build import ARCHITECTURES, arguments_of
from robustgeom.models.card import card_file, objective_of, read_card
from robustgeom.training.objectives import OBJECTIVES, objective_needs
from robustgeom.training.recipe import Recipe, read_recipe
from robustgeom.training.train import Hooks, train

__all__ = ["METHODS", "companions", "distill", "distillation", "untaught"]

METHODS = tuple(name for name in OBJECTIVES if "teacher" in objective_needs(name))
_KEPT = (
    "architecture",
    "optimiser",
    "augmentation",
    "averaging",
    "validation",
    "precision",
    "family",
    "data",
)
_ALONE = {"epochs": 15, "batch_size": 256}  # where the student is no network of the zoo


def distill(
    teacher: str,
    student: str,
    *,
    out: str | Path,
    device: str = "cpu",
    hooks: Hooks | None = None,
    **asked: Any,
) -> Path:
    """Train a student on what a teacher says and write it as the zoo folder `out`; return the folder.

    teacher: a name of the zoo, a folder, "file.py:attr" or another reference. student: a name of the zoo, a folder or a
    recipe.toml, whose architecture, optimiser and augmentation are taken, or an architecture. `asked` are the arguments
    of `distillation`, and data_dir. Goes on where it was cut off. Raises as `distillation` and `train`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     distill("fmnist-cnn-pgd-at", "cnn", method="rslat", out=f"{place}/student")
    Traceback (most recent call last):
    ...
    robustgeom.errors.UnknownNameError: expected the name of a known method, got 'rslat'; try rslad
    """
    data_dir = asked.pop("data_dir", None)
    recipe = distillation(teacher, student, name=Path(out).name, data_dir=data_dir, **asked)
    return train(recipe, out=out, device=device, data_dir=data_dir, hooks=hooks)


def distillation(
    teacher: str,
    student: str,
    *,
    name: str,
    method: str = "rslad",
    data: str | None = None,
    norm: str = "linf",
    eps: str | float | None = None,
    manipulations: Sequence[Mapping[str, Any]] = (),
    other: str = "",
    arguments: Mapping[str, Any] | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    data_dir: str | None = None,
) -> Recipe:
    """Return the recipe of a student.

    method: kd_clean, ard, rslad, adaad or iad, with its `arguments`. data: by default what the student's recipe names,
    else what the teacher was trained on. norm, eps: what the student is to withstand, by default the strictest headline
    radius of the data; kd_clean perturbs nothing. manipulations: mappings of name and arguments, applied in turn;
    other: a second network that they compare with. epochs, lr (at its peak): in place of those of the student's recipe.
    Raises `UnknownNameError`, and `ContentError` on settings that do not fit.

    >>> found = distillation("fmnist-cnn-pgd-at", "fmnist-cnn-standard", name="mine")
    >>> found.objective.name, found.objective.eps, found.optimiser.epochs
    ('rslad', 0.1, 25)
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    fields = _base(student, teacher, data, data_dir)
    changes = {key: value for key, value in (("epochs", epochs), ("lr", lr)) if value is not None}
    fields["optimiser"] = {**fields["optimiser"], **changes}
    threat: dict[str, Any] = {}
    if "threat" in objective_needs(method):
        table = threat_table(fields["data"], norm, eps=eps)  # type: ignore[arg-type]
        threat = {"norm": norm, "eps": max(table.headlines)}
    elif eps is not None:
        raise InputError(f"no radius, as {method} perturbs no inputs", got=f"eps {eps}", fix="rslad")
    fields |= {
        "name": name,
        "seed": seed,
        "objective": {"name": method, **threat, "arguments": dict(arguments or {})},
        "teacher": {"model": teacher, "other": other, "manipulations": [dict(m) for m in manipulations]},
    }
    return parsed(fields, "these options", Recipe, "distillation")


def untaught(recipe: Recipe, name: str) -> Recipe:
    """Return the recipe of the same student without its teacher: PGD-trained where it is to withstand, else plainly."""
    threat = {"norm": recipe.objective.norm, "eps": recipe.objective.eps} if recipe.objective.eps else {}
    fields = recipe.model_dump(exclude={"teacher"}, exclude_none=True)
    arguments = {"steps": recipe.objective.arguments.get("steps", 10)} if threat else {}
    fields["objective"] = {"name": "pgd_at" if threat else "standard", **threat, "arguments": arguments}
    return parsed({**fields, "name": name, "title": ""}, "these options", Recipe, "recipe")


def companions(recipe: Recipe) -> list[str]:
    """Return the networks of the zoo that are the student without a teacher: same architecture and data, seed 0.

    One for each objective and threat, the first by name.
    """
    found: dict[tuple[str, str], str] = {}
    for card in map(read_card, content.names("model")):
        built = card.architecture.model_dump() == recipe.architecture.model_dump()
        if built and (card.data, card.seed, card.teacher) == (recipe.data, 0, None):
            found.setdefault((objective_of(card.name), card.threat), card.name)
    return list(found.values())


def _base(student: str, teacher: str, data: str | None, data_dir: str | None) -> dict[str, Any]:
    """Return the sections that the student's recipe gives, or those of an architecture for the data."""
    if student in ARCHITECTURES:
        chosen = usual_data(teacher) if data is None else data
        samples = load_dataset(chosen, split="eval", limit=2, data_dir=data_dir)
        return {
            "family": f"{chosen}-{student}",
            "data": chosen,
            "architecture": {"name": student, "arguments": _sized(student, samples)},
            "optimiser": dict(_ALONE),
            "augmentation": {"flip": samples.inputs.dim() == 4},
        }
    found = read_recipe(_recipe_file(student)).model_dump(exclude_none=True)
    return {key: found[key] for key in _KEPT} | ({} if data is None else {"data": data})


def _recipe_file(student: str) -> Path:
    if student.endswith(".toml"):
        return Path(student)
    try:
        return card_file(student).with_name("recipe.toml")
    except UserError as error:
        raise unknown("student", student, [*ARCHITECTURES, *content.names("model")]) from error


def _sized(architecture: str, data: Dataset) -> dict[str, Any]:
    """Return the arguments that fit an architecture to samples, of those that it has."""
    shape = tuple(data.inputs.shape[1:])
    sizes: dict[str, Any] = {"classes": len(data.classes)}
    if len(shape) == 3:
        sizes |= {"channels": shape[0], "size": shape[1] if shape[1] == shape[2] else list(shape[1:])}
    else:
        sizes |= {"samples": shape[0], "rate": data.rate}
    return {key: value for key, value in sizes.items() if key in arguments_of(architecture)}
