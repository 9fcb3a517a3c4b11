"""What shows before the first step that a recipe cannot be trained."""

from __future__ import annotations

import torch
from torch import Generator, nn

from robustgeom.data.dataset import Dataset
from robustgeom.data.load import load_dataset
from robustgeom.errors import InputError, UserError
from robustgeom.models.build import build
from robustgeom.training.objectives import OBJECTIVES, OVER_FRAMES, objective_needs
from robustgeom.training.recipe import Augmentation, Objective, Recipe

__all__ = ["refuse_misfit"]


def refuse_misfit(recipe: Recipe, data: Dataset | None = None, *, labelled: bool = True) -> None:
    """Raise `InputError` where the recipe's network does not take the data, or augmentation or threat do not suit it.

    data: a split of the recipe's data set; by default the one that is evaluated on, or none where its files are not
    here: then the network is built and no more; not `labelled`, it need not tell the data's classes. Nothing is
    trained, and torch's random stream stays where it was.
    """
    with torch.random.fork_rng(devices=[]):
        model = build(recipe.architecture.name, recipe.architecture.arguments).eval()
        samples = _here(recipe) if data is None else data
        if samples is not None:
            _refuse_augmentation(recipe.augmentation, samples)
            _refuse_radius(recipe.objective, samples)
            if labelled:
                _refuse_clips(recipe.objective)
                _refuse_shapes(model, recipe.architecture.name, samples)
            _refuse_objective(model, recipe.objective, samples)


def _here(recipe: Recipe) -> Dataset | None:
    try:
        return load_dataset(recipe.data, split="eval", limit=2)
    except UserError:
        return None


def _refuse_augmentation(settings: Augmentation, data: Dataset) -> None:
    waves = data.inputs.dim() == 2
    name, fix = ("flip", "flip = false") if waves else ("stretch", "stretch = 0")
    if getattr(settings, name):
        kind = "waveforms" if waves else "images"
        got = f"augmentation.{name} = {getattr(settings, name)}"
        raise InputError(f"no {name} of the {kind} of {data.name}", got=got, fix=fix)
    if settings.shift >= min(data.inputs.shape[-1:] if waves else data.inputs.shape[-2:]):
        wanted = f"shifts that leave something of {tuple(data.inputs.shape[1:])}"
        raise InputError(wanted, got=f"augmentation.shift = {settings.shift}", fix="a smaller one")


def _refuse_radius(objective: Objective, data: Dataset) -> None:
    low, high = data.domain
    if objective.norm == "linf" and objective.eps > high - low:
        wanted = f"a linf radius within the domain [{low:g}, {high:g}]"
        raise InputError(wanted, got=f"objective.eps = {objective.eps:g}", fix="eps = 0.03 for 8/255")


def _refuse_clips(objective: Objective) -> None:
    if objective.name in OVER_FRAMES:
        wanted = f"{objective.name} in [pretraining], on clips"
        raise InputError(wanted, got="the recipe's own objective", fix="linear_probe after it")


def _refuse_shapes(model: nn.Module, name: str, data: Dataset) -> None:
    wanted = (
        f"a network that takes inputs {tuple(data.inputs.shape[1:])} and tells {len(data.classes)} classes"
    )
    fix = "other architecture.arguments"
    try:
        with torch.no_grad():
            found = tuple(model(data.inputs[:2]).shape)
    except UserError:
        raise
    except Exception as error:  # whatever a layer says to a shape that it does not take
        raise InputError(wanted, got=f"{name}: {type(error).__name__}: {error}", fix=fix) from error
    if found[1:] != (len(data.classes),):
        raise InputError(wanted, got=f"{name} with outputs {found[1:]}", fix=fix)


def _refuse_objective(model: nn.Module, objective: Objective, data: Dataset) -> None:
    """Ask an objective that needs nothing else about two samples: a learning rule may not suit the network."""
    if objective_needs(objective.name) == {"generator"}:
        given = {"generator": Generator().manual_seed(0), **objective.arguments}
        two = data.balanced(2)
        OBJECTIVES[objective.name](model, two.inputs, two.labels, **given)
