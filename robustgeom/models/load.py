"""Models by reference: a zoo name or folder, "file.py:attr", "pkg.mod:attr", or a name in another package's zoo."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from robustgeom.errors import ContentError, InputError
from robustgeom.models.build import build
from robustgeom.models.card import ModelCard, card_file, read_card
from robustgeom.refs import called, is_reference, resolve, source_of
from robustgeom.registry import Registry

__all__ = ["load_model"]

_LOADERS = Registry(
    "kind of reference",
    {
        "hf": "robustgeom.models.timm_models:load_hf",
        "robustbench": "robustgeom.models.robustbench:load_robustbench",
        "timm": "robustgeom.models.timm_models:load_timm",
        "torchvision": "robustgeom.models.torchvision_models:load_torchvision",
    },
)


def load_model(reference: str) -> nn.Module:
    """Return the network that `reference` names: a zoo name or a folder like its, "file.py:attr" or "pkg.mod:attr".

    "torchvision:NAME", "timm:NAME", "hf:REPO" and "robustbench:NAME@DATASET/THREAT" are models of other packages,
    whose weights are downloaded where they are not there yet. A function or class is called without arguments. A model
    of your own comes as your code made it, every other in eval mode. Weights of a zoo folder are read as safetensors,
    checked against the card's sha256. Raises `UnknownNameError`, `ReferenceNotFoundError`, `ContentError` on damaged
    weights, `InputError` on no model.

    >>> load_model("fmnist-cnn-standard")(torch.zeros(1, 1, 28, 28)).shape
    torch.Size([1, 10])
    """
    source = source_of(reference)
    if source is not None:
        found: nn.Module = _LOADERS[source](reference)
        return found
    if is_reference(reference):
        return _load_own(reference)
    card = read_card(reference)
    with torch.random.fork_rng(devices=[]):  # a new network draws weights; the caller's stream is not ours
        model = build(card.architecture.name, card.architecture.arguments)
    _load_weights(model, card, card_file(reference).parent)
    return model.eval()


def _load_own(reference: str) -> nn.Module:
    found = resolve(reference)
    if not isinstance(found, nn.Module) and callable(found):
        found = called(found, reference, wanted="a model")
    if not isinstance(found, nn.Module):
        raise InputError(
            f"a torch.nn.Module from {reference}", got=type(found).__name__, fix="a build() that returns one"
        )
    return found


def _load_weights(model: nn.Module, card: ModelCard, folder: Path) -> None:
    path, advice = folder / card.weights.file, "installing the zoo again, or training it again"
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ContentError(f"weights of {card.name}", got=str(error), fix=advice) from error
    found = hashlib.sha256(raw).hexdigest()
    if found != card.weights.sha256:
        got = f"{found[:12]}... in {path}"
        raise ContentError(f"weights with sha256 {card.weights.sha256[:12]}...", got=got, fix=advice)
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise ContentError(
            f"weights that fit {card.architecture.name}", got=str(error), fix=advice
        ) from error


def model_digest(model: nn.Module) -> str:
    """Return the sha256 of a model's description and weights.

    >>> len(model_digest(nn.Linear(1, 1)))
    64
    """
    digest = hashlib.sha256(repr(model).encode())
    for name, value in sorted(model.state_dict().items()):
        if not isinstance(value, Tensor):  # what a module's get_extra_state returns
            digest.update(f"{name}{value!r}".encode())
            continue
        value = value.to_dense() if value.layout != torch.strided else value  # noqa: PLW2901
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
