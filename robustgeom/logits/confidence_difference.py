"""How much more sure of a sample one network is than another."""

from torch import Tensor

from robustgeom.logits._pairs import of_same_shape, rank_share
from robustgeom.logits.confidence import confidence

__all__ = ["confidence_difference"]


def confidence_difference(first: Tensor, second: Tensor, *, ranked: bool = True) -> Tensor:
    """Return the confidence of `first` minus that of `second` in each sample: (n,), in [-1, 1].

    first, second: logits (n, classes) of two networks on the same samples. `ranked` compares the share of samples that
    a network is less sure of (ties count half), which no rescaling of all its confidences moves; otherwise softmax
    probabilities, in which one network may be surer of everything. Raises `InputError` on shapes that differ.

    >>> import torch
    >>> sure, unsure = torch.tensor([[9.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.1, 0.0], [0.2, 0.0]])
    >>> confidence_difference(sure, unsure).tolist()
    [0.5, -0.5]
    """
    of_same_shape(first, second)
    ours, theirs = confidence(first.double()), confidence(second.double())
    return rank_share(ours) - rank_share(theirs) if ranked else ours - theirs
