"""The training loop: one readable loop for every recipe, resumed from its last epoch where it was cut off."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from robustgeom.data.dataset import Dataset
from robustgeom.errors import ContentError
from robustgeom.models.build import build
from robustgeom.models.noise import reseed_noise
from robustgeom.threat import ThreatModel
from robustgeom.training.pgd_at import pgd_at
from robustgeom.training.recipe import Augmentation, Recipe
from robustgeom.training.standard import standard

__all__ = ["EpochDone", "fit", "share_correct"]


@dataclass(frozen=True)
class EpochDone:
    """What a progress callback is told after each epoch; accuracies are shares, on validation images."""

    epoch: int
    epochs: int
    loss: float
    validation_accuracy: float
    seconds: float


def fit(
    recipe: Recipe,
    data: Dataset,
    validation: Dataset,
    *,
    checkpoint: str | Path | None = None,
    progress: Callable[[EpochDone], None] | None = None,
) -> nn.Module:
    """Return the network that `recipe` trains on `data`, in eval mode.

    With `checkpoint`, state is kept there after every epoch and a run that was cut off goes on from it; the
    result is the same as without the cut. Raises `ContentError` where the checkpoint is damaged or of another
    recipe.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)  # initialisation: torch's layers offer no generator
        model = build(recipe.architecture.name, recipe.architecture.arguments)
    settings, steps = recipe.optimiser, -(-len(data) // recipe.optimiser.batch_size)
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.momentum > 0,
    )
    schedule = OneCycleLR(optimiser, settings.lr, total_steps=steps * settings.epochs, pct_start=0.3)
    objective = _objective(recipe, data)
    parts = {"model": model, "optimiser": optimiser, "schedule": schedule}
    digest = hashlib.sha256(f"{recipe.model_dump_json()}{data.hash}".encode()).hexdigest()
    done = _resume(parts, checkpoint, digest)
    for epoch in range(done, settings.epochs):
        began, total = perf_counter(), 0.0
        generator = Generator().manual_seed(recipe.seed * 10_000 + epoch)
        reseed_noise(model, recipe.seed * 10_000 + epoch)
        model.train()
        for rows in torch.split(torch.randperm(len(data), generator=generator), settings.batch_size):
            inputs = augment(data.inputs[rows], recipe.augmentation, generator)
            loss = objective(model, inputs, data.labels[rows], generator=generator)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += loss.item() * len(rows)
        model.eval()
        accuracy = share_correct(model, validation)
        _save(parts, epoch + 1, checkpoint, digest)
        if progress is not None:
            progress(
                EpochDone(epoch + 1, settings.epochs, total / len(data), accuracy, perf_counter() - began)
            )
    return model.eval()


def _objective(recipe: Recipe, data: Dataset) -> Callable[..., Tensor]:
    chosen = recipe.objective
    if chosen.name == "standard":
        return standard
    threat = ThreatModel(chosen.norm, chosen.eps, data.domain)
    return partial(pgd_at, threat=threat, steps=chosen.steps, step_size=chosen.step_size)


def augment(images: Tensor, settings: Augmentation, generator: Generator) -> Tensor:
    """Return images (n, c, h, w), each flipped or not and shifted by whole pixels (zeros come in).

    >>> augment(torch.ones(2, 1, 4, 4), Augmentation(flip=True, shift=0), Generator()).min().item()
    1.0
    """
    if settings.flip:
        flipped = torch.rand(len(images), generator=generator) < 0.5
        images = torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)
    if settings.shift:
        n, _, h, w = images.shape
        padded = nn.functional.pad(images, [settings.shift] * 4)
        dy, dx = torch.randint(0, 2 * settings.shift + 1, (2, n), generator=generator)
        rows = (dy[:, None] + torch.arange(h)).view(n, 1, h, 1)
        columns = (dx[:, None] + torch.arange(w)).view(n, 1, 1, w)
        images = padded[
            torch.arange(n).view(n, 1, 1, 1), torch.arange(images.shape[1]).view(1, -1, 1, 1), rows, columns
        ]
    return images


def share_correct(model: nn.Module, data: Dataset) -> float:
    """Return the share of `data` on which one pass of `model` predicts the label."""
    with torch.no_grad():
        right = [
            int((model(x).argmax(1) == y).sum())
            for x, y in (
                (data.inputs[i : i + 500], data.labels[i : i + 500]) for i in range(0, len(data), 500)
            )
        ]
    return sum(right) / len(data)


def _resume(parts: dict[str, Any], checkpoint: str | Path | None, digest: str) -> int:
    if checkpoint is None or not Path(checkpoint).is_file():
        return 0
    try:
        state = torch.load(checkpoint, weights_only=True)
        epoch, found = int(state["epoch"]), state["digest"]
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        got = f"{checkpoint}: {str(error).partition(chr(10))[0]}"
        raise ContentError("an intact checkpoint", got=got, fix="removing it") from error
    if found != digest:
        got = f"another's in {checkpoint}"
        raise ContentError(
            "a checkpoint of this recipe and data", got=got, fix="removing it, or another --out"
        )
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return epoch


def _save(parts: dict[str, Any], epoch: int, checkpoint: str | Path | None, digest: str) -> None:
    if checkpoint is None:
        return
    state = {name: part.state_dict() for name, part in parts.items()}
    staged = Path(f"{checkpoint}.part")
    torch.save({**state, "epoch": epoch, "digest": digest}, staged)
    staged.replace(checkpoint)
