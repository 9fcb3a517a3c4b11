"""Adversarial weight perturbation: an option of adversarial objectives."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from robustgeom.training._door import sizes

__all__ = ["Network", "at_worst_weights"]

Network = Callable[[Tensor], Tensor]


def at_worst_weights(model: nn.Module, loss: Callable[[Network], Tensor], gamma: float) -> Tensor:
    """Return `loss` of the model with its weights shifted up the loss (Wu et al. 2020, arXiv:2004.05884).

    `loss` takes a callable from inputs (n, ...) to logits (n, classes). Each weight tensor of two or more dimensions
    moves along its gradient by `gamma` times its own norm. The model keeps its weights, and gradients reach them as if
    they had not moved. Buffers are updated once, by the second pass. `gamma` 0 is the plain loss at the cost of one
    pass. Raises `InputError` on a gamma below 0.

    >>> model, x = nn.Linear(2, 1, bias=False), torch.ones(1, 2)
    >>> shifted = at_worst_weights(model, lambda net: net(x).sum(), gamma=0.5)
    >>> torch.allclose(shifted - model(x).sum(), 0.5 * 2**0.5 * model.weight.norm())
    True
    """
    sizes(awp=gamma)
    if gamma == 0:
        return loss(model)
    return loss(_replaced(model, _shifted(model, loss, gamma)))


def _replaced(model: nn.Module, tensors: dict[str, Tensor]) -> Network:
    def forward(x: Tensor) -> Tensor:
        logits: Tensor = functional_call(model, tensors, (x,))
        return logits

    return forward


def _shifted(model: nn.Module, loss: Callable[[Network], Tensor], gamma: float) -> dict[str, Tensor]:
    weights = {n: p for n, p in model.named_parameters() if p.requires_grad and p.dim() > 1}
    # This pass updates copies: batch-norm and noise statistics move with the second pass alone.
    copies = {n: b.clone() for n, b in model.named_buffers()}
    value = loss(_replaced(model, copies))
    slopes = torch.autograd.grad(value, list(weights.values()), materialize_grads=True)
    return {n: p + gamma * _along(g, p) for (n, p), g in zip(weights.items(), slopes, strict=True)}


def _along(gradient: Tensor, weight: Tensor) -> Tensor:
    """Return the step along `gradient` that is as long as `weight`; nothing where the gradient is zero."""
    tiny = torch.finfo(gradient.dtype).tiny
    step: Tensor = weight.detach().norm() * gradient / gradient.norm().clamp_min(tiny)
    return step
