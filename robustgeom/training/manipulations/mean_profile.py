"""Each sample's own order of classes, with one confidence for all."""

from torch import Tensor

from robustgeom.training.manipulations._fitted import mean_probabilities
from robustgeom.training.manipulations._rows import ranks

__all__ = ["mean_profile"]


def mean_profile(logits: Tensor, *, reference: Tensor) -> Tensor:
    """Return logits (n, classes) in their order, with the mean sorted probabilities of `reference` (m, classes).

    Probabilities and not logits are averaged, so that mean confidence is kept. reference: the teacher's logits on
    training images.

    >>> import torch
    >>> z = torch.tensor([[0.0, 9.0]])
    >>> mean_profile(z, reference=torch.zeros(3, 2)).exp().tolist()
    [[0.5, 0.5]]
    """
    return mean_probabilities(reference).log()[ranks(logits)]
