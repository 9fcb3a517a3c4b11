"""Global error-vector broadcasting: one error vector for all units, and no backpropagation."""

from __future__ import annotations

from torch import Generator, Tensor, nn

from robustgeom.errors import InputError
from robustgeom.training._local import local_loss

__all__ = ["gevb"]


def gevb(model: nn.Module, inputs: Tensor, labels: Tensor, *, generator: Generator) -> Tensor:
    """Return the mean cross-entropy in nats, with the slope of global error-vector broadcasting (arXiv:2106.04089).

    inputs (n, ...) with labels (n,). Weight (m, i) of a layer goes down by the mean over samples of
    gate_m sum_k a_ik e_k: presynaptic vector a_i times error e = softmax - one-hot where unit m is open, summed over
    places where weights are shared. With nonnegative weights past the first layer each term has the sign of the
    gradient's, sample by sample and place by place. The network consists of vectors (architecture vnn), else
    `InputError` is raised.

    >>> import torch
    >>> from robustgeom.models.vnn import VNN
    >>> data = torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)
    >>> gevb(VNN(size=8, hidden=(6,)), *data, generator=Generator()).shape
    torch.Size([])
    """
    del generator
    return local_loss(model, inputs, labels, _broadcast)


def _broadcast(index: int, error: Tensor, h: Tensor, gates: Tensor) -> Tensor:
    """Return the error vector for every open unit: (n, classes, units, ...)."""
    del index
    if h.dim() < 3 or h.shape[:2] != error.shape or gates.shape[1] != 1:
        got = f"units of shape {tuple(h.shape[1:])}"
        raise InputError("units that are vectors with an entry a class", got=got, fix="the architecture vnn")
    return error.view(*error.shape, *[1] * (h.dim() - 2)) * gates
