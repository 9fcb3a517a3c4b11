"""Label smoothing."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustgeom.errors import InputError

__all__ = ["label_smoothing"]


def label_smoothing(
    model: nn.Module, inputs: Tensor, labels: Tensor, *, generator: Generator, smoothing: float = 0.1
) -> Tensor:
    """Return cross-entropy in nats against labels mixed with the uniform (Szegedy et al. 2016, arXiv:1512.00567).

    inputs: (n, ...); labels: (n,); `smoothing` is the uniform distribution's share. Raises `InputError` unless it is
    at least 0 and below 1.

    >>> import torch
    >>> data = torch.rand(4, 2), torch.zeros(4, dtype=torch.long)
    >>> label_smoothing(nn.Linear(2, 3), *data, generator=Generator()).shape
    torch.Size([])
    """
    del generator
    if not 0 <= smoothing < 1:
        raise InputError("0 <= smoothing < 1", got=repr(smoothing), fix="smoothing=0.1")
    return F.cross_entropy(model(inputs), labels, label_smoothing=smoothing)
