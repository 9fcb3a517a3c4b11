"""Attacks that came across an adversarial example and returned something else."""

from __future__ import annotations

from robustgeom.harness.failures._case import Case
from robustgeom.harness.failures._grading import Status, result
from robustgeom.records import CheckResult

__all__ = ["silent_success"]

_FEW = 3


def silent_success(case: Case) -> CheckResult | None:
    """Return how many samples an attack saw fooled inside the radius while what it returned does not fool.

    Read off the answers that the attacks got, on all samples and without further passes; on stochastic models and
    in reduced precision one lucky answer is no success, so there is no such check.
    """
    seen, battle = case.battle.witness.seen, case.battle
    if battle.stochastic or not seen:
        return None
    stands = {battle.data.ids[i] for i in case.stands.nonzero().squeeze(1).tolist()}
    silent: dict[str, set[int]] = {}
    for row in battle.rows:
        name, sample = row["attack"], row["sample_id"]
        if (
            row["radius"] <= case.radius
            and not row["success"]
            and sample in seen.get((name, row["radius"]), ())
        ):
            silent.setdefault(name, set()).add(sample)
    lost = {name: ids & stands for name, ids in silent.items()}
    worst = max(silent, key=lambda n: (len(lost[n]), len(silent[n])), default="")
    count, left = len(silent.get(worst, ())), len(lost.get(worst, ()))
    text = "every attack returned what it found"
    if count:
        text = f"{worst} saw {count} samples fooled and returned others; {left} of them stand"
    status: Status = "fail" if left >= _FEW else "warn" if count >= _FEW else "pass"
    action = f"mend {worst or 'the attack'}: return the best point seen, not the last"
    return result("silent success", status, float(count), text, action)
