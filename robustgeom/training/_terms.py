"""Terms that objectives share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["divergence"]


def divergence(clean: Tensor, attacked: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence (n,) in nats from clean to attacked logits (n, classes).

    >>> import torch
    >>> divergence(torch.zeros(1, 2), torch.zeros(1, 2)).item()
    0.0
    """
    p, q = clean.log_softmax(1), attacked.log_softmax(1)
    return F.kl_div(q, p, reduction="none", log_target=True).sum(1)
