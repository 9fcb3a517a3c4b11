"""The model under evaluation, with the facts that go into its record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustgeom import checks
from robustgeom.harness.target import Noise, Target
from robustgeom.models.card import read_card
from robustgeom.models.load import load_model, model_digest
from robustgeom.models.noise import noise_ratio
from robustgeom.records import ModelInfo
from robustgeom.refs import is_reference, source_file

__all__ = ["Subject", "subject"]


@dataclass(frozen=True)
class Subject:
    """A network in eval mode on its device, and what the record says of it."""

    module: nn.Module
    info: ModelInfo
    device: torch.device

    @property
    def noise(self) -> Noise:
        """Where the network's noise comes from: our keyed layers, code of its own, or nowhere."""
        return self.info.noise

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of inputs (n, ...)."""
        logits: Tensor = self.module(x)
        return logits


def subject(model: str | nn.Module, sample: Tensor, *, classes: int, device: str) -> Subject:
    """Return the model that `model` names or is, checked on `sample` (n, ...).

    Raises `InputError` in training mode, on outputs that are not one finite row of `classes` logits a sample.
    """
    module = load_model(model) if isinstance(model, str) else model
    checks.eval_mode(module)
    place = torch.device(device)
    module = module.to(place)
    noise = _noise(module, sample.to(place), classes)
    return Subject(module, _info(model, module, noise), place)


def _noise(module: nn.Module, sample: Tensor, classes: int) -> Noise:
    """Find out whether two passes differ, without touching the caller's random stream."""
    if noise_ratio(module) > 0:
        return "keyed"
    target = Target(module, range(len(sample)), "batch", seed=0, classes=classes)
    rows = torch.arange(len(sample))
    with torch.no_grad():
        first, second = (target.query(sample, rows, torch.full_like(rows, draw)) for draw in (0, 1))
    return "none" if torch.equal(first, second) else "batch"


def _info(model: str | nn.Module, module: nn.Module, noise: Noise) -> ModelInfo:
    common: dict[str, Any] = {
        "digest": model_digest(module),
        "parameters": sum(p.numel() for p in module.parameters()),
        "noise": noise,
        # As captured: a model that declares no stages is described by its geometry table alone.
        "stages": [*stages, "logits"] if (stages := getattr(module, "stages", ())) else [],
    }
    if isinstance(model, str) and not is_reference(model):
        card = read_card(model)
        facts = card.model_dump(include={"name", "family", "seed", "rho", "front_end", "threat"})
        return ModelInfo(reference=model, **facts, **common)
    if isinstance(model, str):
        file = source_file(model)
        name = file.stem if file is not None else model.replace(":", ".")
        return ModelInfo(name=name, reference=_relative(model, file), rho=noise_ratio(module), **common)
    name = type(module).__name__
    return ModelInfo(name=name, reference=f"object:{name}", rho=noise_ratio(module), **common)


def _relative(reference: str, file: Path | None) -> str:
    """Keep folders of the user's machine out of records that may be published."""
    return reference if file is None else f"{file.name}:{reference.rpartition(':')[2]}"
