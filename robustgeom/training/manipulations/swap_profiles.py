"""Each sample's own order of classes, with another sample's values."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from robustgeom.training.manipulations._rows import in_order, ranks

__all__ = ["swap_profiles"]


def swap_profiles(logits: Tensor, *, generator: Generator) -> Tensor:
    """Return logits (n, classes) in their order, with the sorted values of another row of the same predicted class.

    The distribution of confidences in each class is kept; which sample has which is drawn from `generator`.

    >>> z = torch.tensor([[9.0, 0.0, 1.0], [3.0, 2.0, 0.0]])
    >>> swap_profiles(z, generator=Generator().manual_seed(1)).tolist()
    [[3.0, 0.0, 2.0], [9.0, 1.0, 0.0]]
    """
    predicted = logits.argmax(1)
    shuffled = torch.randperm(len(logits), generator=generator, device=logits.device)
    # Both hold each class's rows together, the second in random order: partners stand at the same places.
    ours, theirs = predicted.argsort(stable=True), shuffled[predicted[shuffled].argsort(stable=True)]
    partner = torch.empty_like(ours).scatter(0, ours, theirs)
    return in_order(logits[partner], ranks(logits))
