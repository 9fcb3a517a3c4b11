"""How sure a network is where it is wrong."""

from torch import Tensor

from robustgeom.logits.confidence import confidence

__all__ = ["overconfidence"]


def overconfidence(logits: Tensor, labels: Tensor) -> float:
    """Return the mean confidence of wrong predictions, a probability; NaN where none is wrong.

    logits: (n, classes); labels: (n,). Grabinski et al. 2022, arXiv:2210.05938, find it lower in robust networks.

    >>> import torch
    >>> overconfidence(torch.zeros(1, 2), torch.tensor([1]))
    0.5
    """
    wrong = logits.argmax(1) != labels
    return float(confidence(logits.double())[wrong].mean())
