"""The largest softmax probability."""

from torch import Tensor

__all__ = ["confidence"]


def confidence(logits: Tensor) -> Tensor:
    """Return the largest softmax probability of each row: (n,), in [1 / classes, 1].

    >>> import torch
    >>> confidence(torch.zeros(1, 4)).item()
    0.25
    """
    return logits.softmax(1).amax(1)
