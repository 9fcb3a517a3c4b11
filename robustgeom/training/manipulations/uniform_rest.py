"""The largest logit alone: what the teacher says of the other classes is gone."""

import torch
from torch import Tensor

from robustgeom.errors import unknown

__all__ = ["uniform_rest"]

_KEPT = ("confidence", "max", "gap")


def uniform_rest(logits: Tensor, *, keep: str = "confidence") -> Tensor:
    """Return logits (n, classes) with the largest in its place and one value for the others.

    keep: confidence, the largest probability (the gap to the second grows); max, the largest logit and the row's mean
    (confidence rises); gap, the largest and second largest logit (confidence falls). No two can be kept at once, unless
    the rest are tied already. Raises `UnknownNameError`.

    >>> uniform_rest(torch.tensor([[4.0, 2.0, 0.0]]), keep="gap").tolist()
    [[4.0, 2.0, 2.0]]
    """
    if keep not in _KEPT:
        raise unknown("thing to keep", keep, _KEPT)
    top = logits.argmax(1, keepdim=True)
    first = logits.gather(1, top)
    others = logits.scatter(1, top, -torch.inf)
    left = logits.shape[1] - 1
    if keep == "confidence":
        rest = others.logsumexp(1, keepdim=True) - torch.tensor(left).log()
    elif keep == "max":
        rest = (logits.sum(1, keepdim=True) - first) / left
    else:
        rest = others.amax(1, keepdim=True)
    return rest.expand_as(logits).scatter(1, top, first)
