"""From a trained network to a zoo folder: card, recipe, weights, and the numbers a test reproduces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w
import torch
from safetensors.torch import save
from torch import Tensor, nn

from robustgeom.data.dataset import Dataset
from robustgeom.data.load import load_dataset
from robustgeom.files import new_folder
from robustgeom.harness.evaluate import evaluate
from robustgeom.harness.options import RunOptions
from robustgeom.harness.plan import chunks
from robustgeom.harness.target import Target
from robustgeom.models.card import Architecture, Lineage, ModelCard, Training, Weights
from robustgeom.models.noise import has_noise, noise_ratio
from robustgeom.models.variants import variant_names
from robustgeom.training.log import log_line
from robustgeom.training.recipe import Recipe
from robustgeom.training.run import EpochDone

__all__ = ["count_correct", "expected", "probe_logits", "round_large", "suite_counts", "write_zoo_folder"]

PROBES = 16
_LARGE = 1_000_000  # bytes of weights, beyond which they are stored in half precision
SUITE, SAMPLES = "quick-linf", 100


def write_zoo_folder(
    recipe: Recipe,
    model: nn.Module,
    out: str | Path,
    history: Sequence[EpochDone] = (),
    device: str = "cpu",
    data_dir: str | None = None,
    teacher: Lineage | None = None,
) -> Path:
    """Write card.toml, recipe.toml, model.safetensors, expected.json and training.jsonl as the folder `out`.

    All or nothing; `history` is what every epoch told, `teacher` who taught the network. Weights of more than 1 MB are
    rounded to half precision first, in `model` too. Raises `OutputError` where `out` exists or cannot be written.
    """
    kept = round_large(model)
    data, test = (load_dataset(recipe.data, split=split, data_dir=data_dir) for split in ("eval", "test"))
    files = {
        **_files(recipe, model, kept, data, _cost(recipe, history, device), teacher),
        "expected.json": (json.dumps(expected(model, data, test), indent=1) + "\n").encode(),
        "training.jsonl": "".join(map(log_line, history)).encode(),
    }
    with new_folder(out) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
    return Path(out)


def round_large(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights to store: beyond 1 MB in half precision, to which those of `model` are rounded.

    >>> layer = nn.Linear(1000, 300)
    >>> round_large(layer)["weight"].dtype, layer.weight.dtype
    (torch.float16, torch.float32)
    """
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    if sum(value.nbytes for value in state.values()) <= _LARGE:
        return state
    state = {name: v.half() if v.dtype == torch.float32 else v for name, v in state.items()}
    model.load_state_dict(state)
    return state


def _files(
    recipe: Recipe,
    model: nn.Module,
    kept: dict[str, Tensor],
    data: Dataset,
    cost: Training | None,
    teacher: Lineage | None,
) -> dict[str, bytes]:
    weights = save(kept)
    card = _card(recipe, model, weights, data, cost).model_copy(update={"teacher": teacher})
    return {
        "card.toml": tomli_w.dumps(card.model_dump(mode="json", exclude_none=True)).encode(),
        "recipe.toml": tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True)).encode(),
        "model.safetensors": weights,
    }


def _cost(recipe: Recipe, history: Sequence[EpochDone], device: str) -> Training | None:
    if not history:
        return None
    seconds = sum(done.seconds for done in history)
    speed = sum(done.images_per_second * done.seconds for done in history) / seconds
    named = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else "CPU"
    return Training(
        objective=_learned(recipe),
        epochs=len(history),
        seconds=round(seconds, 1),
        images_per_second=round(speed, 1),
        device=named,
        threads=torch.get_num_threads(),
    )


def _learned(recipe: Recipe) -> str:
    first = recipe.pretraining
    return recipe.objective.name if first is None else f"{first}, then {recipe.objective.name}"


def _card(
    recipe: Recipe, model: nn.Module, weights: bytes, data: Dataset, cost: Training | None
) -> ModelCard:
    first = recipe.pretraining
    objective = first.objective if first is not None and not recipe.objective.eps else recipe.objective
    threat = f"{objective.norm} {objective.eps:g}" if objective.eps else "none"
    what = recipe.title or _learned(recipe) + (f" at {threat}" if recipe.objective.eps else "")
    what += f", taught by {recipe.teacher.model}" if recipe.teacher and not recipe.title else ""
    return ModelCard(
        name=recipe.name,
        title=f"{recipe.architecture.name} on {recipe.data}, {what}",
        family=recipe.family,
        seed=recipe.seed,
        data=recipe.data,
        input_shape=tuple(data.inputs.shape[1:]),
        classes=list(data.classes),
        threat=threat,
        rho=noise_ratio(model),
        front_end=_front_end(recipe),
        variants=variant_names(model),
        origin=f"trained by `robustgeom train` from the recipe beside this card, on {recipe.data}",
        paper=recipe.paper,
        architecture=Architecture(name=recipe.architecture.name, arguments=recipe.architecture.arguments),
        weights=Weights(bytes=len(weights), sha256=hashlib.sha256(weights).hexdigest()),
        training=cost,
    )


def _front_end(recipe: Recipe) -> str:
    """Return the front end's name; other noise, or noise elsewhere, makes it another, which sweeps keep apart."""
    found = {"vone": "vone", "cochlear": "cochlea"}.get(recipe.architecture.name, "none")
    front = recipe.architecture.arguments.get("front", {}) if found != "none" else {}
    usual = {"kind": "cochleagram", "noise": "gaussian", "noisy": "after"}
    return "-".join([found, *(front[key] for key, said in usual.items() if front.get(key, said) != said)])


def probe_logits(model: nn.Module, data: Dataset) -> list[list[float]]:
    """Return the logits of the first 16 samples, under keyed noise draw 0 where the model has noise."""
    few = data.take(torch.arange(PROBES))
    with torch.no_grad():
        logits = _target(model, few)(few.inputs)
    return [[round(v, 6) for v in row] for row in logits.tolist()]


def expected(model: nn.Module, data: Dataset, test: Dataset) -> dict[str, Any]:
    """Return the numbers that the zoo promises: probe logits, counts of right and of robust samples."""
    return {
        "probe_ids": list(data.ids[:PROBES]),
        "probe_logits": probe_logits(model, data),
        "eval_correct": count_correct(model, data),
        "eval_n": len(data),
        "suite": suite_counts(model, data),
        "test_correct": count_correct(model, test),
        "test_n": len(test),
    }


def suite_counts(model: nn.Module, data: Dataset) -> dict[str, Any]:
    """Return how many of 100 samples stand at each radius under the suite quick-linf."""
    record = evaluate(model, data, SUITE, options=RunOptions(n=SAMPLES, analyze=False))
    robust = {f"{r:.6g}": int(record.robust_mask(r).sum()) for r in record.header.threat.grid}
    return {"name": SUITE, "version": record.header.suite.version, "n": SAMPLES, "robust": robust}


def count_correct(model: nn.Module, data: Dataset) -> int:
    """Count right predictions, one keyed noise draw a sample where the model has noise."""
    total = 0
    with torch.no_grad():
        for rows in chunks(torch.arange(len(data)), 512):
            part = data.take(rows)
            logits = _target(model, part)(part.inputs)
            total += int((logits.argmax(1) == part.labels).sum())
    return total


def _target(model: nn.Module, data: Dataset) -> Target:
    return Target(model, data.ids, "keyed" if has_noise(model) else "none", seed=0)
