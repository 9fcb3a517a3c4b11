"""Whether two networks are sure of the same samples."""

from torch import Tensor

from robustgeom.errors import InputError
from robustgeom.logits._pairs import of_same_shape
from robustgeom.logits.confidence import confidence
from robustgeom.stats import spearman

__all__ = ["confidence_correlation"]


def confidence_correlation(first: Tensor, second: Tensor) -> float:
    """Return the rank correlation of two networks' confidences over samples (Spearman's), in [-1, 1].

    first, second: logits (n, classes) on the same samples. Two seeds of one kind of network give the yardstick: they
    do not reach 1 either. Raises `InputError` on shapes that differ and where a network is as sure of all samples.

    >>> import torch
    >>> z = torch.tensor([[3.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
    >>> round(confidence_correlation(z, z * 5), 6)
    1.0
    """
    of_same_shape(first, second)
    pair = [confidence(z.double()).cpu().numpy() for z in (first, second)]
    if any(len(values) < 2 or (values == values[0]).all() for values in pair):
        raise InputError("confidences that differ", got="one confidence for all samples", fix="more samples")
    return spearman(*pair)
