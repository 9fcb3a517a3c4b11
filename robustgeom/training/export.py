"""From a trained network to a zoo folder: card, recipe, weights, and the numbers a test reproduces."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import tomli_w
import torch
from safetensors.torch import save
from torch import nn

from robustgeom.data.dataset import Dataset
from robustgeom.data.load import load_dataset
from robustgeom.files import new_folder
from robustgeom.harness.evaluate import evaluate
from robustgeom.harness.options import RunOptions
from robustgeom.harness.plan import chunks
from robustgeom.harness.target import Target
from robustgeom.models.card import Architecture, ModelCard, Weights
from robustgeom.models.noise import has_noise, noise_ratio
from robustgeom.models.variants import variant_names
from robustgeom.training.recipe import Recipe

__all__ = ["expected", "probe_logits", "write_zoo_folder"]

PROBES = 8
SUITE, SAMPLES = "quick-linf", 200


def write_zoo_folder(recipe: Recipe, model: nn.Module, out: str | Path) -> Path:
    """Write card.toml, recipe.toml, model.safetensors and expected.json as the folder `out`, all or nothing.

    Raises `OutputError` where `out` exists or cannot be written.
    """
    files = _files(recipe, model)
    with new_folder(out) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
    return Path(out)


def _files(recipe: Recipe, model: nn.Module) -> dict[str, bytes]:
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    weights = save(state)
    card = _card(recipe, model, weights)
    numbers = json.dumps(expected(model), indent=1) + "\n"
    return {
        "card.toml": tomli_w.dumps(card.model_dump(mode="json")).encode(),
        "recipe.toml": tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True)).encode(),
        "model.safetensors": weights,
        "expected.json": numbers.encode(),
    }


def _card(recipe: Recipe, model: nn.Module, weights: bytes) -> ModelCard:
    data = load_dataset(recipe.data, split="eval")
    objective, rho = recipe.objective, noise_ratio(model)
    threat = "none" if objective.name == "standard" else f"{objective.norm} {objective.eps:g}"
    kind = "Gaussian noise" if rho > 0 else "standard" if threat == "none" else f"PGD-trained at {threat}"
    return ModelCard(
        name=recipe.name,
        title=f"{recipe.architecture.name} on {recipe.data}, {kind}",
        family=recipe.family,
        seed=recipe.seed,
        data=recipe.data,
        input_shape=tuple(data.inputs.shape[1:]),
        classes=list(data.classes),
        threat=threat,
        rho=rho,
        variants=variant_names(model),
        origin=f"trained by `robustgeom train` from the recipe beside this card; {recipe.data} is MIT-licensed",
        paper="Madry et al. 2018, arXiv:1706.06083" if objective.name == "pgd_at" else "",
        architecture=Architecture(name=recipe.architecture.name, arguments=recipe.architecture.arguments),
        weights=Weights(bytes=len(weights), sha256=hashlib.sha256(weights).hexdigest()),
    )


def probe_logits(model: nn.Module, data: Dataset) -> list[list[float]]:
    """Return the logits of the first 8 samples, under keyed noise draw 0 where the model has noise."""
    few = data.take(torch.arange(PROBES))
    with torch.no_grad():
        logits = _target(model, few)(few.inputs)
    return [[round(v, 6) for v in row] for row in logits.tolist()]


def expected(model: nn.Module, *, full: bool = True) -> dict[str, Any]:
    """Return the numbers that the zoo promises: probe logits, counts of right and of robust samples.

    With `full`, also the count on all 10,000 test images.
    """
    data = load_dataset("fashion-mnist", split="eval")
    record = evaluate(model, data, SUITE, options=RunOptions(n=SAMPLES, analyze=False))
    robust = {f"{r:.6g}": int(record.robust_mask(r).sum()) for r in record.header.threat.grid}
    found: dict[str, Any] = {
        "probe_ids": list(data.ids[:PROBES]),
        "probe_logits": probe_logits(model, data),
        "eval_correct": _correct(model, data),
        "eval_n": len(data),
        "suite": {"name": SUITE, "version": record.header.suite.version, "n": SAMPLES, "robust": robust},
    }
    if full:
        test = load_dataset("fashion-mnist", split="test")
        found |= {"test_correct": _correct(model, test), "test_n": len(test)}
    return found


def _target(model: nn.Module, data: Dataset) -> Target:
    return Target(model, data.ids, "keyed" if has_noise(model) else "none", seed=0)


def _correct(model: nn.Module, data: Dataset) -> int:
    """Count right predictions, one keyed noise draw a sample where the model has noise."""
    total = 0
    with torch.no_grad():
        for rows in chunks(torch.arange(len(data)), 512):
            part = data.take(rows)
            logits = _target(model, part)(part.inputs)
            total += int((logits.argmax(1) == part.labels).sum())
    return total
