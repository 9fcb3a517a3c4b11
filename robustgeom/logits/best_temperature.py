"""The temperature that would calibrate a network."""

import math

from torch import Tensor

from robustgeom.errors import InputError

__all__ = ["best_temperature"]

_FARTHEST = 1e6  # of the temperature or its inverse, times the spread of the logits


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the number that logits must be divided by for the least cross-entropy (Guo et al. 2017).

    logits: (n, classes); labels: (n,). Above 1 the network is too sure of itself, below 1 not sure enough. 0 where no
    logit is above that of its row's label, as then the loss falls for ever; inf where the uniform distribution is
    better than any other. Raises `InputError` on no samples. Published as arXiv:1706.04599.

    >>> import torch
    >>> fair = torch.tensor([[3.0, 0.0]]).log1p().repeat(5, 1) * 2  # twice the log odds of 4 right in 5
    >>> round(best_temperature(fair, torch.tensor([0, 0, 0, 0, 1])), 3)
    2.0
    """
    if len(logits) == 0:
        raise InputError("at least one sample", got="none", fix="a larger n")
    z = logits.double()
    spread = float((z.amax(1) - z.amin(1)).max())
    true = z.gather(1, labels[:, None])[:, 0]

    def slope(inverse: float) -> float:
        """Of the mean cross-entropy in the inverse temperature; it rises, as the loss is convex in it."""
        return float((((z * inverse).softmax(1) * z).sum(1) - true).mean())

    if spread == 0 or slope(0.0) >= 0:
        return math.inf
    if bool((true >= z.amax(1)).all()):
        return 0.0
    low, high = -math.log(_FARTHEST * spread), math.log(_FARTHEST / spread)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(math.exp(middle)) < 0 else (low, middle)
    return math.exp(-(low + high) / 2)
