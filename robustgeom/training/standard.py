"""Standard training."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Generator, Tensor, nn

__all__ = ["standard"]


def standard(model: nn.Module, inputs: Tensor, labels: Tensor, *, generator: Generator) -> Tensor:
    """Return the mean cross-entropy in nats of the model on inputs (n, ...) with labels (n,).

    >>> import torch
    >>> data = torch.rand(4, 2), torch.zeros(4, dtype=torch.long)
    >>> standard(nn.Linear(2, 3), *data, generator=Generator()).shape
    torch.Size([])
    """
    del generator
    return F.cross_entropy(model(inputs), labels)
