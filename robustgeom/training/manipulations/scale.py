"""Larger or smaller logits: another temperature."""

from torch import Tensor

from robustgeom.training._door import sizes

__all__ = ["scale"]


def scale(logits: Tensor, *, by: float = 1.0) -> Tensor:
    """Return logits (n, classes) times `by`, which is one over a temperature: keeps the order, moves all confidences.

    Raises `InputError` unless `by` is finite and at least 0.

    >>> import torch
    >>> scale(torch.tensor([[2.0, 0.0]]), by=0.5).tolist()
    [[1.0, 0.0]]
    """
    sizes(by=by)
    return logits * by
