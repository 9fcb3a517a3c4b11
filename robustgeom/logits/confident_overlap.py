"""How many of the samples that one network is surest of another is surest of too."""

import math

from torch import Tensor

from robustgeom.errors import InputError
from robustgeom.logits._pairs import of_same_shape
from robustgeom.logits.confidence import confidence

__all__ = ["confident_overlap"]


def confident_overlap(first: Tensor, second: Tensor, *, share: float = 0.1, highest: bool = True) -> float:
    """Return the share of one network's surest samples that are among the other's surest too, in [0, 1].

    first, second: logits (n, classes) on the same samples. Both sets hold the `share` of samples of highest confidence,
    or of lowest, rounded up; unrelated networks overlap by `share`. Raises `InputError` on shapes that differ and
    unless 0 < share <= 1.

    >>> import torch
    >>> z = torch.tensor([[3.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
    >>> confident_overlap(z, z.flip(0), share=0.4)
    0.5
    """
    of_same_shape(first, second)
    if not 0 < share <= 1:
        raise InputError("0 < share <= 1", got=f"{share:g}", fix="share=0.1")
    count = math.ceil(share * len(first))
    sets = [
        set(confidence(z.double()).sort(descending=highest, stable=True).indices[:count].tolist())
        for z in (first, second)
    ]
    return len(sets[0] & sets[1]) / count
