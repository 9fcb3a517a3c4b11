"""Accuracy on validation images, clean and under attack, while a network trains."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor, nn

from robustgeom.attacks.pgd import pgd
from robustgeom.data.dataset import Dataset
from robustgeom.threat import ThreatModel

__all__ = ["share_correct", "share_robust"]

_BATCH = 500


def share_correct(model: nn.Module, data: Dataset) -> float:
    """Return the share of `data` on which one pass of `model` predicts the label."""
    right = 0
    with torch.no_grad():
        for x, y in _batches(model, data):
            right += int((model(x).argmax(1) == y).sum())
    return right / len(data)


def share_robust(
    model: nn.Module, data: Dataset, threat: ThreatModel, *, steps: int, generator: Generator
) -> float:
    """Return the share of `data` on which one pass predicts the label after PGD with `steps` steps.

    A quick look that early stopping goes by, on one draw of a stochastic network's noise; `evaluate` judges.
    """
    right = 0
    for x, y in _batches(model, data):
        worst = pgd(model, x, y, threat=threat, steps=steps, generator=generator)
        with torch.no_grad():
            right += int((model(worst).argmax(1) == y).sum())
    return right / len(data)


def _batches(model: nn.Module, data: Dataset) -> Iterator[tuple[Tensor, Tensor]]:
    device = next(model.parameters()).device
    for x, y in zip(torch.split(data.inputs, _BATCH), torch.split(data.labels, _BATCH), strict=True):
        yield x.to(device), y.to(device)
