"""Another network's gradients that find what the suite's attacks missed."""

from __future__ import annotations

from robustgeom.harness.failures._case import Case
from robustgeom.harness.failures._grading import more_than_luck
from robustgeom.harness.failures._stand_ins import surrogate
from robustgeom.harness.spec import AttackSpec
from robustgeom.records import CheckResult

__all__ = ["transfer"]

_RATE = 0.01
_STEPS = 10


def transfer(case: Case) -> CheckResult | None:
    """Return how many standing samples fall to ten gradient steps on another network: it should be none.

    The network is the one named as surrogate, else a standard zoo model of the same data; without one there is no
    such check.
    """
    source = surrogate(case.battle)
    if source is None:
        return None
    rows = case.some(case.standing, 2 * _STEPS + (_STEPS + 1) * case.draws + case.judging)
    settings = {"steps": _STEPS, "loss": "margin"}
    spec = AttackSpec(name="check: transfer", attack="pgd", settings=settings, source=source)
    fooled = int(case.probe(spec, rows).sum())
    text = f"gradients of {source.partition(':')[2]} fool {fooled} of {len(rows)} samples that survived the suite"
    action = f"add a transfer attack to the suite: source = {source!r}"
    return more_than_luck("transfer", fooled, len(rows), _RATE, text, action)
