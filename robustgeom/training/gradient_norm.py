"""Input-gradient penalty."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustgeom.training._door import sizes

__all__ = ["gradient_norm"]


def gradient_norm(
    model: nn.Module, inputs: Tensor, labels: Tensor, *, generator: Generator, weight: float = 1.0
) -> Tensor:
    """Return cross-entropy plus `weight` times its squared input gradient (Ross & Doshi-Velez 2018, arXiv:1711.09404).

    inputs: (n, ...); labels: (n,); the loss is a mean over rows, cross-entropy in nats, gradients in nats per unit of
    the input, their squares summed over components (double backpropagation: Drucker & LeCun 1992). Where batch norm
    ties rows, the gradient is that of the whole batch's loss. Raises `InputError` on a weight below 0.

    >>> data = torch.rand(4, 2), torch.zeros(4, dtype=torch.long)
    >>> gradient_norm(nn.Linear(2, 3), *data, generator=Generator()).shape
    torch.Size([])
    """
    del generator
    sizes(weight=weight)
    x = inputs.detach().requires_grad_()
    losses = F.cross_entropy(model(x), labels, reduction="none")
    (slope,) = torch.autograd.grad(losses.sum(), x, create_graph=True)
    return losses.mean() + weight * slope.flatten(1).square().sum(1).mean()
