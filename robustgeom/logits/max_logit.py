"""The largest logit."""

from torch import Tensor

__all__ = ["max_logit"]


def max_logit(logits: Tensor) -> Tensor:
    """Return the largest minus the mean logit of each row: (n,), in logits.

    Centred, because cross-entropy does not fix a row's mean. Seguin et al. 2021, arXiv:2108.12001, compare max
    logits of standard and adversarially trained networks.

    >>> import torch
    >>> max_logit(torch.tensor([[1.0, 0.0, -1.0]])).item()
    1.0
    """
    return logits.amax(1) - logits.mean(1)
