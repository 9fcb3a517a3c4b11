"""A linear probe: the read-out learns from features that stay as they are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustgeom.training._probed import admitted
from robustgeom.training._worst import in_eval

__all__ = ["linear_probe"]


def linear_probe(model: nn.Module, inputs: Tensor, labels: Tensor, *, generator: Generator) -> Tensor:
    """Return the cross-entropy in nats of a probe on frozen features.

    inputs: (n, ...); labels (n,). The encoder is in eval mode and gets no slope, so that neither its weights nor its
    batch statistics move. Raises `InputError` on other networks than `self_supervised`.

    >>> from robustgeom.models.self_supervised import SelfSupervised
    >>> model, data = SelfSupervised(base="pooled_cnn"), (torch.rand(4, 1, 28, 28), torch.zeros(4, dtype=torch.long))
    >>> linear_probe(model, *data, generator=Generator()).shape
    torch.Size([])
    """
    del generator
    network = admitted(model)
    with torch.no_grad(), in_eval(network):
        features = network.features(inputs)
    return F.cross_entropy(network.probe(features), labels)
