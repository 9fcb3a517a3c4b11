"""What objectives without labels share: views through encoder and projector, and a probe that learns beside them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustgeom.errors import InputError
from robustgeom.training.views import views

__all__ = ["Embedded", "embedded"]


class Embedded(NamedTuple):
    """Embeddings (n views, width), the views themselves, and the probe's cross-entropy on features without history."""

    embeddings: Tensor
    views: Tensor
    probe: Tensor


def _admitted(model: nn.Module) -> Any:
    """Return the model; raises `InputError` where it has no features, projector and probe."""
    if not all(hasattr(model, part) for part in ("features", "projector", "probe", "embed")):
        got, fix = type(model).__name__, "the architecture self_supervised"
        raise InputError("a network with a projector and a probe", got=got, fix=fix)
    return model


def embedded(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    count: int,
    generator: Generator,
    crop: float,
    jitter: float,
) -> Embedded:
    """Return the embeddings of `count` views of each input (n, ...); labels (n,) teach the probe alone.

    Raises `InputError` where the model has no projector and probe, and on inputs that have no views.
    """
    network = _admitted(model)
    seen = views(inputs, count, generator, crop=crop, jitter=jitter)
    features = network.features(seen)
    probe = F.cross_entropy(network.probe(features.detach()), labels.repeat_interleave(count))
    return Embedded(network.projector(features), seen, probe)
