"""The mean gap between the largest logit and all."""

from torch import Tensor

__all__ = ["mean_gap"]


def mean_gap(logits: Tensor) -> Tensor:
    """Return the mean of largest minus other logits of each row: (n,), in logits.

    The mean is over the classes - 1 others, so it is classes / (classes - 1) times the centred max logit.

    >>> import torch
    >>> mean_gap(torch.tensor([[1.0, 0.0, -1.0]])).item()
    1.5
    """
    return (logits.amax(1, keepdim=True) - logits).sum(1) / (logits.shape[1] - 1)
