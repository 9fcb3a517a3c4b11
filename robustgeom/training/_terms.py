"""Terms that objectives share."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, no_grad

from robustgeom.training.awp import Network

__all__ = ["Teacher", "divergence", "gradient_match", "softened", "still"]

Teacher = Callable[[Tensor], Tensor]
"""What a teacher says: logits (n, classes) of the batch's inputs, or of others in their place, row by row."""


def divergence(clean: Tensor, attacked: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence (n,) in nats from clean to attacked logits (n, classes).

    >>> import torch
    >>> divergence(torch.zeros(1, 2), torch.zeros(1, 2)).item()
    0.0
    """
    p, q = clean.log_softmax(1), attacked.log_softmax(1)
    return F.kl_div(q, p, reduction="none", log_target=True).sum(1)


def softened(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return the divergence (n,) from logits over `temperature` to others, times its square (Hinton et al. 2015).

    The square keeps gradients as large as they are at a temperature of 1.

    >>> import torch
    >>> softened(torch.zeros(1, 2), torch.zeros(1, 2), 4.0).item()
    0.0
    """
    return temperature**2 * divergence(teacher / temperature, student / temperature)


def still(teacher: Teacher, inputs: Tensor) -> Tensor:
    """Return a teacher's logits (n, classes) without a way back through it.

    >>> import torch
    >>> still(lambda x: 2 * x, torch.ones(1, 2, requires_grad=True)).requires_grad
    False
    """
    with no_grad():
        return teacher(inputs)


def gradient_match(
    teacher: Teacher, student: Network, inputs: Tensor, worst: Tensor, ahead: Tensor
) -> Tensor:
    """Return how a student's logits change along the attack, beside its teacher's: a divergence (n,) in nats.

    From softmax(t(x + d) - t(x - d)) to softmax(s(x + d) - s(x - d)) for d = worst - inputs (Lee et al. 2025, IGDM,
    arXiv:2312.03286); `ahead` is s(worst). x - d may lie outside the domain.

    >>> import torch
    >>> x = torch.zeros(1, 2)
    >>> gradient_match(torch.sin, torch.sin, x, x + 1, torch.sin(x + 1)).item()
    0.0
    """
    behind = 2 * inputs - worst
    told = still(teacher, worst) - still(teacher, behind)
    return divergence(told, ahead - student(behind))
