"""Attacks that had not finished when they stopped."""

from __future__ import annotations

from robustgeom.harness.failures._case import Case
from robustgeom.harness.failures._grading import more_than_luck
from robustgeom.records import CheckResult

__all__ = ["steps_doubled"]

_RATE = 0.03


def steps_doubled(case: Case) -> CheckResult | None:
    """Return how many standing samples the suite's dearest attack fools with twice the steps: it should be none."""
    able = [s for s in case.optimisers if "steps" in s.settings]
    if not able:
        return None
    spec = max(able, key=case.cost)
    rows = case.some(case.standing, 2 * case.cost(spec) + case.judging)
    settings = {**spec.settings, "steps": 2 * spec.settings["steps"]}
    twice = spec.model_copy(update={"name": f"check: twice {spec.name}", "settings": settings})
    verdict = case.judged(twice, rows)
    case.twice = rows, verdict.margin
    fooled = int((verdict.prediction != case.battle.data.labels[rows]).sum())
    text = f"{spec.name} with {settings['steps']} steps fools {fooled} of {len(rows)} samples that survived the suite"
    return more_than_luck(
        "steps doubled", fooled, len(rows), _RATE, text, "more steps, until doubling changes nothing"
    )
