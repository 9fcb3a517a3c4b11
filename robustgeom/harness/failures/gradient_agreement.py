"""Gradients that do not describe the loss."""

from __future__ import annotations

import torch

from robustgeom.attacks._losses import margin
from robustgeom.harness.failures._case import Case
from robustgeom.harness.failures._grading import graded, result
from robustgeom.records import CheckResult
from robustgeom.stats import exceeds
from robustgeom.threat import steepest

__all__ = ["gradient_agreement"]

_RATE = 0.25
_PART = 1 / 32  # of the radius: how far the step goes that the gradient is held against
_LOW, _HIGH = 0.5, 2.0


def gradient_agreement(case: Case) -> CheckResult:
    """Return on how many standing samples a short steepest step changes the margin otherwise than its gradient says.

    A step whose true effect is below half or above twice the predicted one means clipped, blocked, noisy or faked
    gradients. It is taken on the same noise.
    """
    rows = case.some(case.standing, 3 * case.draws)
    x, labels = case.inputs(rows)
    at, oracle = torch.arange(len(rows), device=x.device), case.oracle(rows, "agreement")
    here = oracle.look(margin, (labels,), x, at)
    size = case.reach(rows, x) * _PART
    moved = (x + size * steepest(here.gradient, case.norm)).clamp(*case.domain)
    there = oracle.look(margin, (labels,), moved, at, gradient=False)
    expected = ((moved - x) * here.gradient).flatten(1).sum(1).double()
    ratio = (there.loss - here.loss).double() / expected.clamp_min(torch.finfo(torch.float64).tiny)
    off = ~((ratio > _LOW) & (ratio < _HIGH))
    count = int(off.sum())
    text = (
        f"a short step changes the margin otherwise than its gradient says on {count} of {len(rows)} samples"
    )
    text += f" (median {float(ratio.median()):.2f} of what was expected)"
    status, text = graded(exceeds(count, len(rows), _RATE), text, case.unaffected)
    action = "take gradients of a differentiable stand-in (BPDA), a variant or another model, or add Square"
    return result("gradient agreement", status, count / max(len(rows), 1), text, action)
