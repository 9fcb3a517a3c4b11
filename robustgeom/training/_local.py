"""What learning rules without backpropagation share: a pass block by block, a loss whose slope is a local update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgeom.errors import InputError

__all__ = ["Passed", "local_loss", "passed"]


class Passed(NamedTuple):
    """One pass: outputs h of the hidden layers, each in a graph of its own layer alone, their gates, and the logits."""

    hidden: list[Tensor]
    gates: list[Tensor]
    logits: Tensor


def passed(model: nn.Module, inputs: Tensor) -> Passed:
    """Run a network of blocks on inputs (n, ...), every layer on inputs without history.

    Raises `InputError` where the network has no blocks.
    """
    blocks = getattr(model, "blocks", None)
    if blocks is None or not hasattr(model, "entering"):
        got, fix = type(model).__name__, "the architecture vnn or mlp"
        raise InputError("a network of blocks, for a local learning rule", got=got, fix=fix)
    network: Any = model
    hidden: list[Tensor] = []
    gates: list[Tensor] = []
    a = network.entering(inputs)
    for index, block in enumerate(blocks):
        h = block.layer(network.between(index, a.detach()))
        if block.gate is None:
            return Passed(hidden, gates, h.flatten(1))
        opened = block.gate.gates(h.detach())
        hidden.append(h)
        gates.append(opened)
        a = block.finish(h.detach(), opened)
    raise InputError(
        "a network that ends in a read-out", got=type(model).__name__, fix="a last block without gate"
    )


def local_loss(
    model: nn.Module, inputs: Tensor, labels: Tensor, signal: Callable[[int, Tensor, Tensor, Tensor], Tensor]
) -> Tensor:
    """Return the mean cross-entropy in nats of inputs (n, ...) with labels (n,), whose slope is the rule's update.

    `signal(index, error, h, gates)` is what hidden layer `index` goes down by for each of its outputs h; error is
    softmax - one-hot (n, classes). The read-out follows its gradient.
    """
    found = passed(model, inputs)
    error = (found.logits.softmax(1) - F.one_hot(labels, found.logits.shape[1])).detach()
    local = (error * found.logits).sum()
    for index, (h, gates) in enumerate(zip(found.hidden, found.gates, strict=True)):
        local = local + (signal(index, error, h.detach(), gates).detach() * h).sum()
    local = local / len(inputs)
    loss = F.cross_entropy(found.logits.detach(), labels)
    return torch.add(loss, local - local.detach())
