"""The label, as sure as the teacher is on average."""

import math

from torch import Tensor
from torch.nn import functional

from robustgeom.errors import InputError
from robustgeom.training.manipulations._fitted import mean_confidence

__all__ = ["smoothed_label"]


def smoothed_label(logits: Tensor, *, labels: Tensor, reference: Tensor) -> Tensor:
    """Return logits (n, classes) of smoothed labels (n,), with the mean confidence of `reference` for the label.

    The other classes share the rest. reference: the teacher's logits (m, classes) on training images; only its mean
    confidence is learned of. Raises `InputError` where that is 1.

    >>> import torch
    >>> z = torch.tensor([[3.0, 1.0]]).log()
    >>> [round(p, 3) for p in smoothed_label(z, labels=torch.tensor([1]), reference=z).softmax(1)[0].tolist()]
    [0.25, 0.75]
    """
    sure = mean_confidence(reference)
    if sure >= 1:
        raise InputError("a teacher with a mean confidence below 1", got="1", fix="one_hot")
    odds = math.log(sure / (1 - sure) * (logits.shape[1] - 1))
    return odds * functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
