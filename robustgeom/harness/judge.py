"""The judge: clip, query again, decide. No attack reports its own success."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustgeom.harness.target import Target

__all__ = ["NEAR_TIE", "Judgement", "judge"]

NEAR_TIE = 1e-3
"""Margins closer to zero than this (in logits) may fall the other way under another batch size."""


@dataclass(frozen=True)
class Judgement:
    """The decision on each row; `log_p` is the log of the mean probability over the noise draws."""

    log_p: Tensor
    prediction: Tensor
    margin: Tensor
    correct_rate: Tensor

    @property
    def near_tie(self) -> Tensor:
        """Rows (n,) whose decision hangs on rounding."""
        return self.margin.abs() < NEAR_TIE


def judge(target: Target, x: Tensor, labels: Tensor, rows: Tensor, *, draws: int) -> Judgement:
    """Decide inputs (k, ...) of the target's `rows` (k,) by the mean probability over `draws` noise draws.

    `labels`: (k,); the margin is the label's log probability minus the best other's, in nats, which for one
    draw is the difference of the logits; `correct_rate` is the share of draws that predict the label.
    """
    total, correct = None, torch.zeros(len(x))
    with torch.no_grad():
        for draw in range(draws):
            logits = target.query(x, rows, torch.full((len(x),), draw)).double()
            correct += (logits.argmax(1) == labels).cpu()
            log_p = logits.log_softmax(1)
            total = log_p if total is None else torch.logaddexp(total, log_p)
    assert total is not None
    log_p = total - math.log(draws)
    true = log_p.gather(1, labels[:, None]).squeeze(1)
    best_other = log_p.scatter(1, labels[:, None], -float("inf")).amax(1)
    return Judgement(log_p, log_p.argmax(1), true - best_other, correct / draws)
