"""One step that finds what the suite's attacks missed."""

from __future__ import annotations

from robustgeom.harness.failures._case import Case
from robustgeom.harness.failures._grading import more_than_luck
from robustgeom.harness.spec import AttackSpec
from robustgeom.records import CheckResult

__all__ = ["single_step"]

_RATE = 0.005


def single_step(case: Case) -> CheckResult:
    """Return how many standing samples one step along the margin's gradient fools: it should be none."""
    rows = case.some(case.standing, 3 * case.draws + case.judging)
    fooled = int(
        case.probe(
            AttackSpec(name="check: single step", attack="fgsm", settings={"loss": "margin"}), rows
        ).sum()
    )
    text = f"one gradient step fools {fooled} of {len(rows)} samples that survived the suite at {case.place}"
    action = "iterate properly: more and smaller steps, from several starts, with a margin loss"
    return more_than_luck("single step", fooled, len(rows), _RATE, text, action)
