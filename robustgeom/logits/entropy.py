"""The entropy of the prediction."""

from torch import Tensor

__all__ = ["entropy"]


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy of each row's softmax: (n,), in nats, from 0 to log(classes).

    >>> import torch
    >>> round(entropy(torch.zeros(1, 4)).item(), 4)
    1.3863
    """
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).nan_to_num(nan=0.0).sum(1)
