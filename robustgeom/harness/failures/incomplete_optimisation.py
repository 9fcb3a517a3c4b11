"""Attacks whose loss was still rising when they stopped."""

from __future__ import annotations

import math

import torch

from robustgeom.harness.failures._case import Case
from robustgeom.harness.failures._grading import Status, result
from robustgeom.records import CheckResult
from robustgeom.stats import exceeds

__all__ = ["incomplete_optimisation"]

_RATE = 0.25
_MUCH = 0.05  # of what the suite took off the margin


def incomplete_optimisation(case: Case) -> CheckResult | None:
    """Return on how many standing samples twice the steps take over 5 % more off the margin than the whole suite did.

    Read off the run of the check steps doubled; None without it (Pintor et al. 2022, arXiv:2106.09947).
    """
    if case.twice is None:
        return None
    rows, margin = case.twice
    worst = dict.fromkeys(case.battle.data.ids, math.inf)
    for row in case.battle.rows:
        if row["attack"] != "clean" and row["radius"] <= case.radius:
            worst[row["sample_id"]] = min(worst[row["sample_id"]], row["margin"])
    reached = torch.tensor([worst[case.battle.data.ids[row]] for row in rows.tolist()])
    taken = (case.battle.clean.margin[rows].float() - reached).clamp_min(1e-6)
    count = int((reached - margin.float() > _MUCH * taken).sum())
    status: Status = "warn" if exceeds(count, len(rows), _RATE) else "pass"
    text = f"with twice the steps the margin falls further, by over 5 %, on {count} of {len(rows)} standing samples"
    action = "more steps, until doubling them changes the margin no more"
    return result("incomplete optimisation", status, count / max(len(rows), 1), text, action)
