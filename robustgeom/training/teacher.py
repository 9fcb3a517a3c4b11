"""A network that teaches another: what it says of a batch, manipulated, and whether it is fit to teach."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from robustgeom import checks
from robustgeom.data.dataset import Dataset
from robustgeom.errors import InputError
from robustgeom.models.card import Lineage
from robustgeom.models.load import load_model, model_digest
from robustgeom.models.noise import reseed_noise
from robustgeom.refs import without_folders
from robustgeom.registry import needs_of, settings_of
from robustgeom.seeds import seed_of
from robustgeom.stats import clopper_pearson
from robustgeom.threat import ThreatModel
from robustgeom.training._terms import Teacher
from robustgeom.training.manipulations import MANIPULATIONS
from robustgeom.training.objectives import OBJECTIVES
from robustgeom.training.recipe import Recipe
from robustgeom.training.spelling import written
from robustgeom.training.validate import share_correct, share_robust

__all__ = ["Lessons", "lessons", "lineage"]

_BATCH = 500


@dataclass(frozen=True)
class _Step:
    """A manipulation with its settings, and the training logits that it goes by."""

    name: str
    arguments: dict[str, Any]
    references: dict[str, Tensor]

    def __call__(self, logits: Tensor, labels: Tensor, other: Tensor | None, generator: Generator) -> Tensor:
        given = {**self.references, "labels": labels, "other": other, "generator": generator}
        function = MANIPULATIONS[self.name]
        found: Tensor = function(logits, **{key: given[key] for key in needs_of(function)}, **self.arguments)
        return found


@dataclass(frozen=True)
class Lessons:
    """A frozen teacher; `digest` is that of its weights and of the other network's."""

    network: nn.Module
    other: nn.Module | None
    steps: tuple[_Step, ...]
    digest: str

    def about(self, labels: Tensor, seed: int) -> Teacher:
        """Return what tells the teacher's logits of a batch with these labels (n,), alike in every call."""
        return partial(self._tell, labels, seed)

    def _tell(self, labels: Tensor, seed: int, inputs: Tensor) -> Tensor:
        reseed_noise(self.network, seed)
        logits: Tensor = self.network(inputs)
        other: Tensor | None = None if self.other is None else self.other(inputs)
        generator = Generator(inputs.device).manual_seed(seed)
        for step in self.steps:
            logits = step(logits, labels, other, generator)
        return logits


def lessons(recipe: Recipe, data: Dataset, device: str) -> Lessons | None:
    """Return the recipe's teacher, or None where it has none; `data` are the training samples.

    Manipulations go by its logits on all of them, as the manipulations before have left those. Raises `InputError` on
    teachers of other inputs or classes, and that return probabilities or what is not finite.
    """
    if recipe.teacher is None:
        return None
    asked = recipe.teacher
    network = _frozen(asked.model, data, device)
    other = _frozen(asked.other, data, device) if asked.other else None
    networks = [network] if other is None else [network, other]
    digest = " ".join(model_digest(each) for each in networks)
    needed = {need for m in asked.manipulations for need in needs_of(MANIPULATIONS[m.name])}
    labels = data.labels.to(device)
    logits = _answers(network, data, device) if needed & {"reference", "other_reference"} else None
    others = _answers(other, data, device) if other is not None else None
    steps: list[_Step] = []
    for index, manipulation in enumerate(asked.manipulations):
        known = {"reference": logits, "other_reference": others}
        references = {key: value for key, value in known.items() if value is not None}
        steps.append(_Step(manipulation.name, manipulation.arguments, references))
        if logits is not None:
            generator = Generator(device).manual_seed(seed_of(recipe.seed, "teacher", index))
            logits = steps[-1](logits, labels, others, generator)
    return Lessons(network, other, tuple(steps), digest)


def lineage(recipe: Recipe, data: Dataset, validation: Dataset, device: str) -> Lineage | None:
    """Return who teaches, with its accuracies on validation samples, clean and under the attack of the objective.

    Raises `InputError` as `lessons`, and where the teacher is no better than chance, clean or attacked: it has nothing
    to teach, or was given other inputs than it knows.
    """
    if recipe.teacher is None:
        return None
    asked, network = recipe.teacher, _frozen(recipe.teacher.model, data, device)
    samples = validation.balanced(min(recipe.validation.images, len(validation)))
    clean, robust = share_correct(network, samples), None
    fix = "a trained teacher, with normalisation inside and the classes in this order"
    _refuse_chance("a teacher", clean, samples, fix)
    if recipe.objective.eps > 0:
        threat = ThreatModel(recipe.objective.norm, recipe.objective.eps, data.domain)
        generator = Generator(device).manual_seed(seed_of(recipe.seed, "teacher", "grades"))
        robust = share_robust(network, samples, threat, steps=recipe.validation.steps, generator=generator)
        _refuse_chance("under attack a teacher", robust, samples, "an adversarially trained one, or kd_clean")
    objective = recipe.objective
    return Lineage(
        model=without_folders(asked.model),
        digest=model_digest(network),
        other=without_folders(asked.other) if asked.other else "",
        other_digest=model_digest(_frozen(asked.other, data, device)) if asked.other else "",
        settings=written(objective.arguments, settings_of(OBJECTIVES[objective.name])),
        manipulations=[str(m) for m in asked.manipulations],
        accuracy=round(clean, 4),
        robust_accuracy=None if robust is None else round(robust, 4),
    )


def _refuse_chance(who: str, share: float, data: Dataset, fix: str) -> None:
    n, chance = len(data), 1 / len(data.classes)
    if clopper_pearson(round(share * n), n).low <= chance:
        got = f"{100 * share:.1f} % of {n} validation samples"
        raise InputError(f"{who} that is right more often than by chance", got=got, fix=fix)


def _frozen(reference: str, data: Dataset, device: str) -> nn.Module:
    """Return a network in eval mode that has been asked of two samples."""
    network = load_model(reference).to(device).eval().requires_grad_(False)
    with torch.no_grad():
        try:
            answer = network(data.inputs[:2].to(device))
        except Exception as error:  # whatever a layer says to a shape that it does not take
            wanted = f"a teacher that takes inputs {tuple(data.inputs.shape[1:])}"
            got = f"{reference}: {type(error).__name__}: {error}"
            raise InputError(wanted, got=got, fix=f"a teacher of {data.name}") from error
    logits = checks.logits(answer, rows=2, classes=len(data.classes))
    if checks.look_like_probabilities(logits):
        got = f"{reference}, whose outputs are probabilities"
        raise InputError("a teacher that returns logits", got=got, fix="removing its last softmax")
    return network


def _answers(network: nn.Module, data: Dataset, device: str) -> Tensor:
    with torch.no_grad():
        return torch.cat([network(x.to(device)) for x in torch.split(data.inputs, _BATCH)])
