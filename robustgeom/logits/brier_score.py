"""The Brier score."""

from torch import Tensor
from torch.nn.functional import one_hot

__all__ = ["brier_score"]


def brier_score(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the squared distance of each row's softmax from its one-hot label: (n,), in [0, 2] (Brier 1950).

    >>> import torch
    >>> brier_score(torch.zeros(1, 2), torch.tensor([0])).item()
    0.5
    """
    p = logits.softmax(1)
    return (p - one_hot(labels, logits.shape[1])).square().sum(1)
