"""The other classes in reverse order."""

from torch import Tensor

from robustgeom.training.manipulations._rows import in_order, ranks

__all__ = ["reverse_rest"]


def reverse_rest(logits: Tensor) -> Tensor:
    """Return logits (n, classes) with the largest in its place and the others in reverse order: all values are kept.

    >>> import torch
    >>> reverse_rest(torch.tensor([[4.0, 2.0, 1.0]])).tolist()
    [[4.0, 1.0, 2.0]]
    """
    places = ranks(logits)
    turned = (logits.shape[1] - places).where(places > 0, places)
    return in_order(logits, turned)
