"""What objectives without labels share: views through encoder and projector, and a probe that learns beside them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustgeom.data.views import views
from robustgeom.errors import InputError

__all__ = ["Embedded", "admitted", "embedded", "embedded_frames", "full", "through", "unmixed"]

P = ParamSpec("P")


class Embedded(NamedTuple):
    """Embeddings (n views, width), the views themselves, and the probe's cross-entropy on features without history."""

    embeddings: Tensor
    views: Tensor
    probe: Tensor


def admitted(model: nn.Module) -> Any:
    """Return the model; raises `InputError` where it has no features, projector and probe."""
    if not all(hasattr(model, part) for part in ("features", "projector", "probe", "embed")):
        got, fix = type(model).__name__, "the architecture self_supervised"
        raise InputError("a network with a projector and a probe", got=got, fix=fix)
    return model


def full(z: Tensor) -> Tensor:
    """Return embeddings in single precision where passes were in half."""
    return z.float() if z.dtype in (torch.bfloat16, torch.float16) else z


def unmixed(loss: Callable[Concatenate[Tensor, P], Tensor]) -> Callable[Concatenate[Tensor, P], Tensor]:
    """Return a loss of embeddings worked out in full where passes are in mixed precision: it sums many terms."""

    @wraps(loss)
    def exact(z: Tensor, /, *args: P.args, **settings: P.kwargs) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            return loss(full(z), *args, **settings)

    return exact


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
    network = admitted(model)
    seen = views(inputs, count, generator, crop=crop, jitter=jitter)
    return through(network, seen, labels.repeat_interleave(count))


def through(network: Any, seen: Tensor, labels: Tensor) -> Embedded:
    """Return the embeddings of views (k, ...), one label (k,) each, from an encoder with a projector and a probe."""
    features = network.features(seen)
    probe = F.cross_entropy(network.probe(features.detach()), labels)
    return Embedded(network.projector(features), seen, probe)


def embedded_frames(model: nn.Module, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return embeddings (n t, width) of length 1 of all frames of clips (n, t, h, w), their clips and labels (n t,).

    Raises `InputError` where the model has no projector, or a clip fewer than two frames.
    """
    network = admitted(model)
    if clips.dim() != 4 or clips.shape[1] < 2:
        raise InputError(
            "clips (n, t, h, w) of two frames or more", got=str(tuple(clips.shape)), fix="retinal-waves"
        )
    n, t = clips.shape[:2]
    z = F.normalize(full(network.embed(clips.flatten(0, 1).unsqueeze(1))), dim=1)
    return z, torch.arange(n, device=z.device).repeat_interleave(t), labels.repeat_interleave(t)
