"""Attacks that fail at a larger radius where they won at a smaller one."""

from __future__ import annotations

from torch import Tensor

from robustgeom.harness.failures._case import Case
from robustgeom.harness.failures._grading import by_attack
from robustgeom.harness.spec import AttackSpec
from robustgeom.records import CheckResult

__all__ = ["falls_with_radius"]

_RATE = 0.02
_WIDER = 1.5


def falls_with_radius(case: Case) -> CheckResult | None:
    """Return how many samples that fell to an attack it does not fool again at one and a half times the radius.

    The ball at the headline radius lies inside the wider one, so accuracy under any attack worth its name falls
    with the radius.
    """
    fell: dict[str, set[int]] = {}
    for row in case.battle.rows:
        if row["success"] and row["radius"] <= case.radius:
            fell.setdefault(row["attack"], set()).add(row["sample_id"])
    ids = case.battle.data.ids
    mine = {n: [i for i in case.fallen.tolist() if ids[i] in s] for n, s in fell.items()}
    specs = [s for s in case.optimisers if mine.get(s.name)]

    def misses(spec: AttackSpec, rows: Tensor) -> Tensor:
        known = set(mine[spec.name])
        own = rows[[i for i, row in enumerate(rows.tolist()) if row in known]]
        wider = spec.model_copy(update={"name": f"check: wider {spec.name}"})
        return ~case.probe(wider, own, radius=case.radius * _WIDER) if len(own) else own.bool()

    words = ("does not fool again at a wider radius", "more steps or restarts: the search is erratic")
    return by_attack(case, "falls with radius", case.fallen, specs, misses, _RATE, words, extra=case.judging)
