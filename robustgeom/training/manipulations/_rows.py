"""What manipulations share: rows in order, and the rest beside the largest logit."""

from __future__ import annotations

from torch import Tensor

__all__ = ["in_order", "ranks", "without_top"]


def ranks(logits: Tensor) -> Tensor:
    """Return the place (n, classes) of each logit in its row, 0 for the largest; ties by class number.

    >>> import torch
    >>> ranks(torch.tensor([[1.0, 5.0, 3.0]])).tolist()
    [[2, 0, 1]]
    """
    return logits.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def in_order(values: Tensor, places: Tensor) -> Tensor:
    """Return values (n, classes) of each row, sorted down, at the `ranks` of another row.

    >>> import torch
    >>> in_order(torch.tensor([[7.0, 8.0, 9.0]]), torch.tensor([[2, 0, 1]])).tolist()
    [[7.0, 9.0, 8.0]]
    """
    return values.sort(dim=1, descending=True).values.gather(1, places)


def without_top(logits: Tensor) -> Tensor:
    """Return the classes (n, classes - 1) beside the one of the largest logit, ascending.

    >>> import torch
    >>> without_top(torch.tensor([[1.0, 5.0, 3.0]])).tolist()
    [[0, 2]]
    """
    top = logits.argmax(1, keepdim=True)
    rows = logits.new_zeros(logits.shape).scatter(1, top, 1.0)
    return rows.argsort(dim=1, stable=True)[:, :-1].sort(dim=1).values
