"""Classifiers of timm: "timm:NAME", "timm:NAME@FILE", and "hf:REPO" for a repository in timm's format."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustgeom.errors import ContentError, InputError, unknown
from robustgeom.models.hub import hub_file, read_config
from robustgeom.models.pretrained import Pretrained, package, split
from robustgeom.models.weights import fetch, fill, read_state

__all__ = ["load_hf", "load_timm", "timm_names"]

_FIELDS = (
    "input_size",
    "fixed_input_size",
    "mean",
    "std",
    "num_classes",
    "first_conv",
    "classifier",
    "pool_size",
)


def timm_names() -> list[str]:
    """Return the names of timm's networks, without and with the tags of their weights."""
    timm = package("timm", "timm")
    return sorted({*timm.list_models(), *timm.list_pretrained()})


def load_timm(reference: str) -> nn.Module:
    """Return the classifier that "timm:NAME" or "timm:NAME@FILE" names, in eval mode.

    NAME may carry the tag of its weights, as in resnet18.a1_in1k. Without FILE they are downloaded once, as safetensors
    into the hub's cache where they are there. Images are (n, 3, h, w) in [0, 1]; mean, deviation and size are those of
    timm's `pretrained_cfg`. Raises `UnknownNameError` with the closest names, `ReferenceNotFoundError` without timm,
    `InputError` on what is no classifier, `ContentError` on a failed download or weights that do not fit.
    """
    name, file = split(reference)
    config = _config(name)
    path = Path(file) if file else _download(name, config)
    return _loaded(name, config, {}, path)


def load_hf(reference: str) -> nn.Module:
    """Return the classifier in the hub's repository that "hf:REPO" names, in eval mode.

    Its config.json, in timm's format, names a network of timm; weights are read from its model.safetensors alone,
    and no code of the repository is run. Raises as `load_timm`.
    """
    repository = reference.partition(":")[2]
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise InputError("hf:OWNER/NAME", got=repr(reference), fix="hf:timm/resnet18.a1_in1k")
    given = read_config(hub_file(repository, "config.json"), repository)
    name, arguments = str(given["architecture"]), given.get("model_args") or {}
    if name not in package("timm", "timm").list_models():
        raise unknown("network of timm", name, timm_names())
    _refuse_settings(arguments, repository)
    facts = given.get("pretrained_cfg") or given
    config = {key: facts[key] for key in _FIELDS if key in facts}
    config |= {"num_classes": given.get("num_classes", config.get("num_classes", 1000))}
    config |= {"label_names": given.get("label_names") or facts.get("label_names")}
    weights = hub_file(repository, "model.safetensors")
    try:
        return _loaded(name, config, arguments, weights)
    except (TypeError, ValueError, AssertionError) as error:  # whatever the file says of sizes and settings
        got = f"{type(error).__name__}: {error}"
        raise ContentError(f"a config.json that fits {name}", got=got, fix="another repository") from error


def _refuse_settings(arguments: Mapping[str, Any], repository: str) -> None:
    """A repository may set what its network is like, not where timm takes weights from."""
    own = {"checkpoint_path", *inspect.signature(package("timm", "timm").create_model).parameters} - {
        "kwargs"
    }
    for name in arguments:
        if name in own:
            raise ContentError(f"settings of a network in {repository}", got=name, fix="another repository")


def _config(name: str) -> dict[str, Any]:
    """Return timm's own facts on the weights of `name`, as plain values."""
    timm, known = package("timm", "timm"), timm_names()
    if name not in known:
        raise unknown("network of timm", name, known)
    found = timm.get_pretrained_cfg(name)
    config: dict[str, Any] = {} if found is None else found.to_dict(remove_null=False)
    # Those with a file name of their own are text-image encoders: what they put out are embeddings.
    if config.get("num_classes", 1000) < 2 or config.get("hf_hub_filename"):
        raise InputError("a classifier", got=f"timm:{name}, whose weights have no classes", fix="another tag")
    return config


def _download(name: str, config: Mapping[str, Any]) -> Path:
    instead = f"a local file: timm:{name}@FILE"
    if config.get("hf_hub_id"):
        return hub_file(config["hf_hub_id"], "model.safetensors", instead=instead)
    if config.get("url"):
        return fetch(config["url"], Path(torch.hub.get_dir()) / "checkpoints", instead=instead)
    raise ContentError("a network with weights", got=f"timm:{name}, for which timm has none", fix=instead)


def _loaded(name: str, config: Mapping[str, Any], arguments: Mapping[str, Any], path: Path) -> nn.Module:
    state = read_state(path)
    facts = {key: value for key, value in config.items() if key in (*_FIELDS, "architecture", "tag")}
    with _quiet(), torch.random.fork_rng(devices=[]):
        net = _new(name, facts, arguments)
        try:
            fill(net, state, path.name)
        except ContentError as error:
            net = _converted(name, facts, arguments, state, error)
    shape = tuple(net.pretrained_cfg["input_size"])  # with timm's own defaults for what was not said
    return Pretrained(
        net,
        mean=net.pretrained_cfg["mean"],
        deviation=net.pretrained_cfg["std"],
        input_shape=shape,
        classes=_labels(config.get("label_names"), net.num_classes),
    ).eval()


def _new(name: str, facts: Mapping[str, Any], arguments: Mapping[str, Any], **more: Any) -> Any:
    architecture = name.partition(".")[0]
    config = {**facts, **more}
    return package("timm", "timm").create_model(
        architecture, pretrained=bool(more), pretrained_cfg=config, **arguments
    )


def _converted(
    name: str,
    facts: Mapping[str, Any],
    arguments: Mapping[str, Any],
    state: dict[str, Tensor],
    error: ContentError,
) -> Any:
    """Let timm convert weights of another layout; raise `error` where it cannot, or leaves any at random."""
    found = []
    for seed in (0, 1):  # what the file does not set differs between two random starts
        torch.manual_seed(seed)
        try:
            found.append(_new(name, facts, arguments, state_dict=dict(state)))
            del found[-1].pretrained_cfg["state_dict"]
        except Exception:
            raise error from None
    first, second = (net.state_dict() for net in found)
    if any(not torch.equal(value, second[key]) for key, value in first.items()):
        raise error
    return found[0]


def _labels(names: Any, count: int) -> list[str]:
    """Return one name an output, or none where timm has none for all."""
    if isinstance(names, Mapping):
        names = [names.get(i, names.get(str(i), "")) for i in range(count)]
    return list(map(str, names)) if names and len(names) == count else []


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep timm's log of where it takes weights from: it is told."""
    log = logging.getLogger("timm")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
