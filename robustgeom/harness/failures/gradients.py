"""Gradients that are zero, broken or lost to rounding."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from robustgeom.attacks._losses import LOSSES, Loss
from robustgeom.harness.failures._case import Case, loss_of
from robustgeom.harness.failures._grading import graded, result
from robustgeom.records import CheckResult
from robustgeom.stats import exceeds

__all__ = ["gradients"]

_RATE = 0.01
_LOST = math.log(1e-6)  # of one minus the label's probability: float32 keeps a digit and a half of it there
_SATURATES = ("ce", "probability-margin")


def gradients(case: Case) -> CheckResult:
    """Return how many standing samples have no usable gradient, under the margin and every loss the suite climbs.

    Where only some losses are blind, attacks with others decide; where all are, only attacks that need no gradient do.
    """
    climbed = {spec.name: loss_of(spec) for spec in case.attacks}
    losses = sorted({"margin", *(n for n in climbed.values() if n in LOSSES)})
    rows = case.some(case.standing, 2 * len(losses))
    blind = {name: _blind(case, rows, name) for name in losses}
    counts = {name: int(mask.sum()) for name, mask in blind.items()}
    worst = max(losses, key=lambda n: counts[n])
    bad = [n for n in losses if exceeds(counts[n], len(rows), _RATE)]
    good = [
        s
        for s in case.attacks
        if s in case.unaffected
        or (climbed[s.name] not in bad and "margin" not in bad and s in case.optimisers)
    ]
    text = f"no usable gradient of the {worst} loss on {counts[worst]} of {len(rows)} standing samples"
    status, text = graded(bool(bad), text, good)
    action = "attack with a margin or scale-normalised loss"
    if "margin" in bad:
        action = "take gradients of a differentiable stand-in (BPDA) or of another model, or add Square"
    return result("gradients", status, counts[worst] / max(len(rows), 1), text, action)


def _blind(case: Case, rows: Tensor, name: str) -> Tensor:
    loss: Loss = LOSSES[name]
    x, labels = case.inputs(rows)
    with torch.enable_grad():
        leaf = x.requires_grad_(True)
        logits = case.oracle(rows, f"gradients {name}").model(leaf)
        slope = torch.autograd.grad(loss(logits, labels).sum(), leaf)[0].flatten(1)
    dead = ~(slope != 0).any(1) | ~slope.isfinite().all(1)
    if name in _SATURATES:
        log_p = logits.detach().double().log_softmax(1)
        others = log_p.scatter(1, labels[:, None], -math.inf).logsumexp(1)
        dead = dead | (others < _LOST)
    return dead
