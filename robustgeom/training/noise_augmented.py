"""Training on inputs with Gaussian noise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustgeom.attacks._start import draw
from robustgeom.training._door import sizes

__all__ = ["noise_augmented"]


def noise_augmented(
    model: nn.Module, inputs: Tensor, labels: Tensor, *, generator: Generator, sigma: float = 0.25
) -> Tensor:
    """Return the mean cross-entropy in nats on inputs plus Gaussian noise (Cohen et al. 2019, arXiv:1902.02918).

    inputs: (n, ...); labels: (n,); `sigma` is the noise's standard deviation in the input's units. Noisy inputs are not
    cut to the domain: a smoothed classifier votes, and is certified, under exactly this noise. Raises `InputError` on
    a sigma below 0.

    >>> data = torch.rand(4, 2), torch.zeros(4, dtype=torch.long)
    >>> noise_augmented(nn.Linear(2, 3), *data, generator=Generator()).shape
    torch.Size([])
    """
    sizes(sigma=sigma)
    return F.cross_entropy(model(inputs + sigma * draw(torch.randn, inputs, generator)), labels)
