"""Classifiers of torchvision: "torchvision:NAME", "torchvision:NAME@WEIGHTS", "torchvision:NAME@FILE"."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustgeom.errors import unknown
from robustgeom.models.pretrained import Pretrained, package, split
from robustgeom.models.weights import fetch, fill, read_state

__all__ = ["load_torchvision", "torchvision_names"]

# torchvision names these parts so in its own files, and drops or renames them itself when it loads one.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
_OLD_DENSE = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classifiers.

    >>> "shufflenet_v2_x0_5" in torchvision_names()
    True
    """
    models = _models()
    found: list[str] = models.list_models(module=models)
    return found


def load_torchvision(reference: str) -> nn.Module:
    """Return the classifier that "torchvision:NAME", "...@WEIGHTS" or "...@FILE" names, in eval mode.

    Without FILE the weights, by default torchvision's own choice, are downloaded once into torch's cache. Images are
    (n, 3, h, w) in [0, 1], h and w the crop that the weights were made for; mean and deviation are theirs. Raises
    `UnknownNameError` with the closest names, and `ContentError` on a failed download or weights that do not fit.
    """
    name, rest = split(reference)
    known = torchvision_names()
    if name not in known:
        raise unknown("torchvision classifier", name, known)
    weights, file = _weights(name, rest)
    if file is None:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        file = fetch(weights.url, folder, instead=f"a local file: torchvision:{name}@FILE")
    with torch.random.fork_rng(devices=[]):  # a new network draws weights; the caller's stream is not ours
        net: nn.Module = _models().get_model(name, weights=None, **_arguments(name, weights))
    fill(net, _renamed(read_state(file)), file.name)
    return _wrapped(net, weights)


def _models() -> Any:
    return package("torchvision.models", "all")


def _weights(name: str, rest: str) -> tuple[Any, Path | None]:
    """Return the weights' entry, of the default ones for a file, and the file, if `rest` is one."""
    entries = _models().get_model_weights(name)
    # Without class names they are no classifier's: torchvision has one such entry.
    known = {entry.name: entry for entry in entries if entry.meta["categories"]}
    if not rest or rest in known:
        return known.get(rest, entries.DEFAULT), None
    if Path(rest).suffix or "/" in rest:
        return entries.DEFAULT, Path(rest)
    raise unknown(f"set of weights of {name}, or a file", rest, known)


def _arguments(name: str, weights: Any) -> dict[str, Any]:
    """Return what torchvision's own builder sets to fit the weights."""
    arguments: dict[str, Any] = {"num_classes": len(weights.meta["categories"])}
    size = weights.meta["min_size"]
    if name.startswith("vit_"):
        arguments["image_size"] = size[0]
    elif name.startswith("maxvit"):
        arguments["input_size"] = size
    elif name in ("googlenet", "inception_v3"):
        arguments |= {"transform_input": True, "aux_logits": False, "init_weights": False}
    return arguments


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop heads that only training uses, and bring old names up to date, in place: versions are attached to it."""
    for name in list(state):
        value = state.pop(name)
        if not name.startswith(_AUXILIARY):
            state[_OLD_DENSE.sub(r"\1\2", name)] = value
    return state


def _wrapped(net: nn.Module, weights: Any) -> nn.Module:
    preset = weights.transforms()
    side = preset.crop_size[0]
    return Pretrained(
        net,
        mean=preset.mean,
        deviation=preset.std,
        input_shape=(len(preset.mean), side, side),
        classes=weights.meta["categories"],
    ).eval()
