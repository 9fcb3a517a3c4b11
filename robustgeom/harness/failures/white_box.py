"""Gradients that find what a suite without any missed."""

from __future__ import annotations

from robustgeom.harness.failures._case import Case
from robustgeom.harness.failures._grading import more_than_luck, result
from robustgeom.harness.spec import AttackSpec
from robustgeom.records import CheckResult

__all__ = ["white_box"]

_RATE = 0.01
_STEPS = 20


def white_box(case: Case) -> CheckResult | None:
    """Return how many standing samples 20 gradient steps fool, where no attack of the suite uses the model's gradients.

    It should be none: an attack that sees less must not decide the number.
    """
    if case.white:
        return None
    why = "no attack uses the model's gradients"
    action = (
        "add a gradient attack to the suite, or say that the number is one for attackers who see no gradients"
    )
    cost = (2 * _STEPS + 1) * case.draws + case.judging
    if case.allowance < cost * len(
        case.standing
    ):  # attacks of few queries are no reason to trust what they leave
        return result(
            "white box", "fail", None, f"{why}, and the budget does not pay for trying them", action
        )
    rows = case.standing
    settings = {"steps": _STEPS, "loss": "margin"}
    fooled = int(
        case.probe(AttackSpec(name="check: white box", attack="apgd", settings=settings), rows).sum()
    )
    text = (
        f"{why}, and {_STEPS} steps along them fool {fooled} of {len(rows)} samples that survived the suite"
    )
    return more_than_luck("white box", fooled, len(rows), _RATE, text, action)
