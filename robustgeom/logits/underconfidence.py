"""How unsure a network is where it is right."""

from torch import Tensor

from robustgeom.logits.confidence import confidence

__all__ = ["underconfidence"]


def underconfidence(logits: Tensor, labels: Tensor) -> float:
    """Return the mean of 1 - confidence of right predictions, a probability; NaN where none is right.

    logits: (n, classes); labels: (n,). Grabinski et al. 2022, arXiv:2210.05938.

    >>> import torch
    >>> underconfidence(torch.zeros(1, 2), torch.tensor([0]))
    0.5
    """
    right = logits.argmax(1) == labels
    return float((1 - confidence(logits.double())[right]).mean())
