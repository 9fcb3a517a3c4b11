"""A teacher's values in another network's order of classes."""

from torch import Tensor

from robustgeom.training.manipulations._rows import in_order, ranks

__all__ = ["other_order"]


def other_order(logits: Tensor, *, other: Tensor) -> Tensor:
    """Return the sorted values of logits (n, classes) in the order of `other`, another network's on the same rows.

    Sample-wise confidences are the teacher's, the order of classes, predictions included, is not.

    >>> import torch
    >>> other_order(torch.tensor([[9.0, 5.0, 1.0]]), other=torch.tensor([[0.1, 0.2, 0.3]])).tolist()
    [[1.0, 5.0, 9.0]]
    """
    return in_order(logits, ranks(other))
