"""Logit squeezing: small logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustgeom.attacks._start import draw
from robustgeom.training._door import sizes

__all__ = ["logit_squeezing"]


def logit_squeezing(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    generator: Generator,
    weight: float = 0.05,
    sigma: float = 0.0,
) -> Tensor:
    """Return cross-entropy in nats plus `weight` times the squared logits (Kannan et al. 2018, arXiv:1803.06373).

    inputs: (n, ...); labels: (n,); squares are summed over classes, and all is a mean over rows. Inputs get Gaussian
    noise of standard deviation `sigma` in their units, not cut to the domain. Small logits weaken gradients, and
    gradient attacks with them (Mosbach et al. 2018, arXiv:1810.12042): judge such a model by its failure checks.
    Raises `InputError` on settings below 0.

    >>> data = torch.rand(4, 2), torch.zeros(4, dtype=torch.long)
    >>> logit_squeezing(nn.Linear(2, 3), *data, generator=Generator()).shape
    torch.Size([])
    """
    sizes(weight=weight, sigma=sigma)
    logits: Tensor = model(inputs + sigma * draw(torch.randn, inputs, generator))
    return F.cross_entropy(logits, labels) + weight * logits.square().sum(1).mean()
