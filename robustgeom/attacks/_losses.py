"""What an attack raises: per-row losses of logits, computed in at least float32."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from robustgeom.errors import unknown

__all__ = ["LOSSES", "TARGETED", "Loss", "find_loss"]

Loss = Callable[..., Tensor]
_TINY = 1e-12
_SPREAD = 4.0  # nats from the mean to the largest logit: every class is seen, and the softmax never saturates


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy (n,) in nats of logits (n, classes) against labels (n,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the best other logit minus the label's (n,), above 0 where fooled (Carlini & Wagner 2017)."""
    true = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -float("inf")).amax(1)
    return others - true


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the difference-of-logits ratio (n,), which no rescaling changes; the margin where it is undefined.

    It needs three classes (Croce & Hein 2020).
    """
    if logits.shape[1] < 3:
        return margin(logits, labels)
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + _TINY)


def scaled_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy (n,) of logits brought to a fixed spread, so that large ones do not saturate it."""
    spread = (logits.amax(1, keepdim=True) - logits.mean(1, keepdim=True)).detach()
    return cross_entropy(logits * (_SPREAD / spread.clamp_min(_TINY)), labels)


def probability_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the best other class's probability minus the label's (n,), above 0 where fooled."""
    return margin(logits.softmax(1), labels)


def targeted_margin(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return the target's logit minus the label's (n,)."""
    pair = logits.gather(1, torch.stack([targets, labels], 1))
    return pair[:, 0] - pair[:, 1]


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return the targeted difference-of-logits ratio (n,); the targeted margin where there are under four classes."""
    if logits.shape[1] < 4:
        return targeted_margin(logits, labels, targets)
    top = logits.topk(4, dim=1).values
    return targeted_margin(logits, labels, targets) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + _TINY)


LOSSES: dict[str, Loss] = {
    "ce": cross_entropy,
    "dlr": dlr,
    "margin": margin,
    "probability-margin": probability_margin,
    "scaled-ce": scaled_cross_entropy,
}
TARGETED: dict[str, Loss] = {"dlr": targeted_dlr, "margin": targeted_margin}


def find_loss(name: str, losses: dict[str, Loss] = LOSSES) -> Loss:
    """Return the loss called `name`; raises `UnknownNameError` with the closest names."""
    if name not in losses:
        raise unknown("loss", name, losses)
    return losses[name]
