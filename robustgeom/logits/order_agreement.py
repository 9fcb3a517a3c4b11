"""Whether two networks put the classes that a sample is not into the same order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustgeom.errors import InputError, unknown
from robustgeom.logits._pairs import of_same_shape

__all__ = ["order_agreement"]

_MEASURES = {"kendall": "kendalltau", "spearman": "spearmanr"}


def order_agreement(first: Tensor, second: Tensor, labels: Tensor, *, measure: str = "kendall") -> Tensor:
    """Return the rank correlation of two networks' logits over each sample's incorrect classes: (n,), in [-1, 1].

    first, second: logits (n, classes) on the same samples; labels: (n,). Left out are the label and both predictions,
    whose places agree for another reason. measure: kendall (tau-b) or spearman. NaN where fewer than two classes are
    left, or where they are tied in one network. Raises `InputError` on shapes that differ, on fewer than 3 classes,
    and on an unknown measure.

    >>> z = torch.tensor([[9.0, 1.0, 2.0, 3.0]])
    >>> order_agreement(z, 2 * z + 1, torch.tensor([0])).item()
    1.0
    """
    from scipy import stats  # takes a second to import, which few that import us use

    of_same_shape(first, second)
    if measure not in _MEASURES:
        raise unknown("measure", measure, _MEASURES)
    n, classes = first.shape
    if classes < 3 or labels.shape != (n,):
        got = f"{classes} classes and labels {tuple(labels.shape)}"
        raise InputError(f"three classes or more and labels ({n},)", got=got, fix="a label a sample")
    kept = torch.ones(n, classes, dtype=torch.bool, device=first.device)
    for out in (labels, first.argmax(1), second.argmax(1)):
        kept[torch.arange(n), out] = False
    correlation = getattr(stats, _MEASURES[measure])
    rows = zip(first.cpu().numpy(), second.cpu().numpy(), kept.cpu().numpy(), strict=True)
    found = [_correlation(a[which], b[which], correlation) for a, b, which in rows]
    return torch.tensor(found, dtype=torch.float64)


def _correlation(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], measure: Callable[..., Any]) -> float:
    if len(a) < 2 or (a == a[0]).all() or (b == b[0]).all():
        return float("nan")
    return float(measure(a, b).statistic)
