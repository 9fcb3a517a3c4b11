"""Exponential averaging of a network's weights and buffers."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["follow"]


def follow(average: nn.Module, model: nn.Module, decay: float, updates: int) -> None:
    """Move the weights and buffers of `average` towards those of `model` by 1 - decay, in place.

    In the first of all `updates` the decay is at most (1 + updates) / (10 + updates), so that the start is soon
    forgotten. Whole numbers and flags are copied (Polyak & Juditsky 1992; Izmailov et al. 2018, arXiv:1803.05407).

    >>> first, second = nn.Linear(1, 1), nn.Linear(1, 1)
    >>> follow(first, second, 0.0, 5)
    >>> torch.equal(first.weight, second.weight)
    True
    """
    weight = 1 - min(decay, (1 + updates) / (10 + updates))
    with torch.no_grad():
        for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, weight)
            else:
                kept.copy_(new)
