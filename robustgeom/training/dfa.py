"""Direct feedback alignment: the error reaches every layer through fixed random weights."""

from __future__ import annotations

from functools import cache

import torch
from torch import Generator, Tensor, nn

from robustgeom.errors import InputError
from robustgeom.models.vnn import VNN
from robustgeom.seeds import seed_of
from robustgeom.training._local import local_loss

__all__ = ["dfa"]


def dfa(
    model: nn.Module, inputs: Tensor, labels: Tensor, *, generator: Generator, feedback_seed: int = 0
) -> Tensor:
    """Return the mean cross-entropy in nats, with the slope of direct feedback alignment (Noekland 2016).

    inputs (n, ...) with labels (n,). A hidden layer goes down by gate * (e B) for each of its outputs, with error
    e = softmax - one-hot and B (classes, units) uniform in [-1, 1], drawn once from `feedback_seed`; the units of a
    convolution at every place have feedback of their own. For networks of scalar units (architecture mlp), else
    `InputError` is raised; for vectors see `gevb`.
    Source: arXiv:1609.01596; the control of arXiv:2106.04089.

    >>> from robustgeom.models.mlp import MLP
    >>> data = torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)
    >>> dfa(MLP(size=8, hidden=(6,)), *data, generator=Generator()).shape
    torch.Size([])
    """
    del generator

    if isinstance(model, VNN):
        raise InputError(
            "a network of scalar units", got="one of vectors", fix="gevb, or the architecture mlp"
        )

    def signal(index: int, error: Tensor, h: Tensor, gates: Tensor) -> Tensor:
        feedback = _feedback(error.shape[1], h[0].numel(), index, feedback_seed).to(error)
        return (error @ feedback).view_as(h) * gates

    return local_loss(model, inputs, labels, signal)


@cache
def _feedback(classes: int, units: int, index: int, seed: int) -> Tensor:
    source = Generator().manual_seed(seed_of(seed, "feedback", index))
    return torch.rand(classes, units, generator=source) * 2 - 1
