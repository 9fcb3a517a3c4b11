"""What an attack raises: per-row losses of logits, computed in at least float32."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from robustgeom.errors import unknown

__all__ = ["LOSSES", "Loss", "find_loss"]

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy (n,) in nats of logits (n, classes) against labels (n,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the best other logit minus the label's (n,), above 0 where fooled (Carlini & Wagner 2017)."""
    true = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -float("inf")).amax(1)
    return others - true


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "margin": margin}


def find_loss(name: str) -> Loss:
    """Return the loss called `name`; raises `UnknownNameError` with the closest names."""
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return LOSSES[name]
