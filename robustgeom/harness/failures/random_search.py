"""Chance that finds what the suite's attacks missed."""

from __future__ import annotations

from robustgeom.harness.failures._case import Case
from robustgeom.harness.failures._grading import more_than_luck
from robustgeom.harness.spec import AttackSpec
from robustgeom.records import CheckResult

__all__ = ["random_search"]

_RATE = 0.005
_QUERIES = 20


def random_search(case: Case) -> CheckResult:
    """Return how many standing samples 20 random points of the ball's surface fool: it should be none."""
    rows = case.some(case.standing, (1 + _QUERIES) * case.draws + case.judging)
    spec = AttackSpec(name="check: random search", attack="random_search", settings={"queries": _QUERIES})
    fooled = int(case.probe(spec, rows).sum())
    text = f"{_QUERIES} random points fool {fooled} of {len(rows)} samples that survived the suite at {case.place}"
    action = "do not trust the gradients: take them from a stand-in (BPDA) or another model, or add Square"
    return more_than_luck("random search", fooled, len(rows), _RATE, text, action)
