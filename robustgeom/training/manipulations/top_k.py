"""The most probable classes alone."""

import math

from torch import Tensor

from robustgeom.errors import InputError
from robustgeom.training.manipulations._rows import ranks

__all__ = ["top_k"]


def top_k(logits: Tensor, *, k: int = 2) -> Tensor:
    """Return logits (n, classes) whose k largest probabilities are as they were, and the others equal to one another.

    Raises `InputError` unless 1 <= k < classes.

    >>> import torch
    >>> top_k(torch.tensor([[3.0, 2.0, 1.0, 1.0]]), k=2).tolist()
    [[3.0, 2.0, 1.0, 1.0]]
    """
    classes = logits.shape[1]
    if not isinstance(k, int) or not 1 <= k < classes:
        raise InputError(f"1 <= k < {classes}", got=repr(k), fix="k=2")
    kept = ranks(logits) < k
    rest = logits.masked_fill(kept, -math.inf).logsumexp(1, keepdim=True) - math.log(classes - k)
    return logits.where(kept, rest)
