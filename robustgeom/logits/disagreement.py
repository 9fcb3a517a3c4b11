"""Where two networks predict different classes."""

from torch import Tensor

from robustgeom.logits._pairs import of_same_shape

__all__ = ["disagreement"]


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """Return whether two networks predict different classes for each sample: (n,) bool.

    first, second: logits (n, classes) on the same samples. Raises `InputError` on shapes that differ.

    >>> import torch
    >>> disagreement(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])).tolist()
    [True]
    """
    of_same_shape(first, second)
    return first.argmax(1) != second.argmax(1)
