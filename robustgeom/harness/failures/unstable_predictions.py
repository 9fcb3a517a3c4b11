"""A landscape so rough that gradients say little."""

from __future__ import annotations

import torch

from robustgeom.attacks._losses import margin
from robustgeom.harness.failures._case import Case
from robustgeom.harness.failures._grading import Status, result
from robustgeom.records import CheckResult
from robustgeom.stats import exceeds
from robustgeom.threat import steepest

__all__ = ["unstable_predictions"]

_RATE = 0.1
_DRAWS = 4
_PART = 1 / 8  # of the radius
_MUCH = 0.25  # of the margin


def unstable_predictions(case: Case) -> CheckResult:
    """Return on how many standing samples small random changes move the margin by over a quarter of itself.

    Four random steps of an eighth of the radius, on the same noise (Pintor et al. 2022, arXiv:2106.09947).
    """
    rows = case.some(case.standing, (1 + _DRAWS) * case.draws)
    x, labels = case.inputs(rows)
    at, oracle = torch.arange(len(rows), device=x.device), case.oracle(rows, "unstable")
    here = oracle.look(margin, (labels,), x, at, gradient=False).loss
    generator, total = case.generator("unstable"), torch.zeros_like(here)
    size = case.reach(rows, x) * _PART
    for _ in range(_DRAWS):
        noise = steepest(torch.randn(x.shape, generator=generator).to(x), case.norm)
        moved = (x + size * noise).clamp(*case.domain)
        total += (oracle.look(margin, (labels,), moved, at, gradient=False).loss - here).abs()
    rough = total / _DRAWS > _MUCH * here.abs()
    count = int(rough.sum())
    status: Status = "warn" if exceeds(count, len(rows), _RATE) else "pass"
    text = (
        f"small random changes move the margin by over a quarter on {count} of {len(rows)} standing samples"
    )
    action = "average gradients over several points or draws (EOT), or add Square"
    return result("unstable predictions", status, count / max(len(rows), 1), text, action)
