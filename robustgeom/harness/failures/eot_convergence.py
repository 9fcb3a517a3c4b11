"""Gradients of a stochastic model that hang on the draw."""

from __future__ import annotations

import torch

from robustgeom.attacks._losses import margin
from robustgeom.harness.failures._case import Case
from robustgeom.harness.failures._grading import graded, result
from robustgeom.records import CheckResult
from robustgeom.stats import exceeds

__all__ = ["eot_convergence"]

_RATE = 0.5
_ALIKE = 0.3


def eot_convergence(case: Case) -> CheckResult | None:
    """Return on how many standing samples two averages over noise draws point in different directions.

    Two independent means over as many draws as the suite takes, cosine below 0.3 (Athalye et al. 2018,
    arXiv:1707.07397). None for models without noise.
    """
    if not case.battle.stochastic:
        return None
    rows = case.some(case.standing, 4 * case.draws)
    x, labels = case.inputs(rows)
    at, oracle = torch.arange(len(rows), device=x.device), case.oracle(rows, "eot")
    first, second = (oracle.look(margin, (labels,), x, at, step).gradient.flatten(1) for step in (0, 1))
    cosine = torch.cosine_similarity(first, second, dim=1)
    count = int((~(cosine >= _ALIKE)).sum())
    text = f"means over {case.draws} draws have a median cosine of {float(cosine.median()):.2f}; "
    text += f"they differ on {count} of {len(rows)} standing samples"
    settling = [s for s in case.attacks if s.settings.get("eot_max") or s in case.unaffected]
    status, text = graded(exceeds(count, len(rows), _RATE), text, settling)
    return result(
        "EOT convergence",
        status,
        float(cosine.median()),
        text,
        "average more draws: eot_max, or a larger eot",
    )
