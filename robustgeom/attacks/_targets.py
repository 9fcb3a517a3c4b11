"""Which classes a targeted attack aims at, and in which batches: survivors times targets, so that batches stay full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from robustgeom.attacks._losses import targeted_margin
from robustgeom.attacks._oracle import PIECE, Oracle
from robustgeom.attacks._start import Randomness
from robustgeom.errors import unknown
from robustgeom.threat import Norm, ThreatModel

__all__ = ["Order", "in_waves", "ranked"]

Order = Literal["logits", "linear"]
_ORDERS = get_args(Order)
_CANDIDATES = 9
_DUAL = {"linf": 1, "l2": 2, "l1": float("inf")}


def ranked(
    oracle: Oracle, inputs: Tensor, labels: Tensor, threat: ThreatModel, count: int, order: Order
) -> Tensor:
    """Return the `count` other classes (n, k) that look nearest, nearest first; fewer where there are fewer.

    By logits, or by the distance to each class's boundary were the model linear, which costs a forward and a
    backward pass for each of the nine likeliest, or `count` of them. Raises `UnknownNameError` on another order.
    """
    if order not in _ORDERS:
        raise unknown("order", order, _ORDERS)
    if len(inputs) == 0:
        return labels.new_zeros(0, 0)
    rows = torch.arange(len(inputs), device=inputs.device)
    logits = oracle.logits(inputs, rows)
    others = logits.scatter(1, labels[:, None], -float("inf"))
    count = min(count, logits.shape[1] - 1)
    if order == "logits" or count == logits.shape[1] - 1:
        return others.topk(count, dim=1).indices
    likely = others.topk(min(max(_CANDIDATES, count), logits.shape[1] - 1), dim=1).indices
    gaps = [_gap(oracle, inputs, labels, rows, goal, threat.norm) for goal in likely.T]
    return likely.gather(1, torch.stack(gaps, 1).argsort(dim=1, stable=True)[:, :count])


def _gap(oracle: Oracle, inputs: Tensor, labels: Tensor, rows: Tensor, goal: Tensor, norm: Norm) -> Tensor:
    seen = oracle.look(targeted_margin, (labels, goal), inputs, rows)
    slope = torch.linalg.vector_norm(seen.gradient.flatten(1), ord=_DUAL[norm], dim=1)
    gap: Tensor = -seen.loss / slope.clamp_min(torch.finfo(slope.dtype).tiny)
    return gap


def in_waves(
    run: Callable[[Tensor, list[int]], Tensor], rows: Tensor, count: int, generator: Randomness
) -> None:
    """Call `run(rows, columns)` for the rows left and as many of the `count` targets as fill a batch.

    It returns which of those rows are fooled. A single generator draws for one target after the other.
    """
    column = 0
    while column < count and len(rows):
        many = 1 if isinstance(generator, Generator) else max(PIECE // len(rows), 1)
        columns = list(range(column, min(column + many, count)))
        rows = rows[~run(rows, columns)]
        column += many
