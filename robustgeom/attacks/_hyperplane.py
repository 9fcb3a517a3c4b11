"""The smallest move inside a box that changes a linear function by a given amount."""

from __future__ import annotations

import torch
from torch import Tensor

from robustgeom.threat import ThreatModel

__all__ = ["nearest_on"]

_ROUNDS = 30


def nearest_on(points: Tensor, slope: Tensor, gap: Tensor, threat: ThreatModel) -> Tensor:
    """Return the moves (n, d) of least threat norm with slope . move = gap, or, out of reach, all the way there.

    points, slope: (n, d); gap: (n,). Each coordinate moves in its useful direction, at most to its bound.
    """
    low, high = threat.domain
    size, gap = slope.abs(), gap[:, None]
    direction = slope.sign() * torch.where(gap < 0, -1.0, 1.0).to(slope)
    room = torch.where(direction > 0, high - points, points - low).clamp_min_(0)
    if threat.norm == "l1":
        return direction * _greedy(size, room, gap.abs())
    if threat.norm == "linf":
        return direction * torch.minimum(_level(size, None, room, gap.abs()), room)
    return direction * torch.minimum(_level(size, size, room, gap.abs()) * size, room)


def _level(size: Tensor, rate: Tensor | None, room: Tensor, gap: Tensor) -> Tensor:
    """Return the level (n, 1) at which sum(size * min(level * rate, room)) is `gap`, by Newton's method.

    Without a rate it is 1. The sum is concave and piecewise linear in the level, so each round comes closer from
    below.
    """
    tiny = torch.finfo(size.dtype).tiny
    weight = size if rate is None else size * rate
    level = gap / weight.sum(1, keepdim=True).clamp_min(tiny)
    for _ in range(_ROUNDS):
        move = level if rate is None else level * rate
        reached = torch.linalg.vecdot(size, torch.minimum(move, room))[:, None]
        short = gap - reached > 1e-6 * gap
        if not bool(short.any()):
            break
        left = torch.linalg.vecdot(weight, (move < room).to(weight))[:, None]
        # Nothing left to move: out of reach, so every coordinate goes to its bound.
        step = torch.where(left > 0, (gap - reached) / left.clamp_min(tiny), torch.inf)
        level = torch.where(short, level + step, level)
    return level.nan_to_num(nan=0.0, posinf=torch.finfo(size.dtype).max ** 0.5)


def _greedy(size: Tensor, room: Tensor, gap: Tensor) -> Tensor:
    """Fill coordinates to their bound, steepest first, the last one in part."""
    order = size.argsort(dim=1, descending=True)
    steep, width = size.gather(1, order), room.gather(1, order)
    before = (steep * width).cumsum(1) - steep * width
    part = (gap - before).clamp_min(0) / steep.clamp_min(torch.finfo(size.dtype).tiny)
    return torch.zeros_like(size).scatter(1, order, torch.minimum(part, width) * (steep > 0))
