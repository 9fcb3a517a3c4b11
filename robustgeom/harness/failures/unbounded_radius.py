"""Attacks that leave samples standing although everything is allowed."""

from __future__ import annotations

import math

from torch import Tensor

from robustgeom.harness.failures._case import Case
from robustgeom.harness.failures._grading import by_attack
from robustgeom.harness.spec import AttackSpec
from robustgeom.records import CheckResult

__all__ = ["unbounded_radius"]

_RATE = 0.05


def unbounded_radius(case: Case) -> CheckResult | None:
    """Return how many standing samples each attack leaves where the radius is as wide as the domain: none should stand.

    Pintor et al. 2022, arXiv:2106.09947 ("unconstrained failure").
    """
    low, high = case.domain
    size = case.battle.data.inputs[0].numel()
    width = (high - low) * {"linf": 1.0, "l2": math.sqrt(size), "l1": float(size)}[case.norm]
    width = case.battle.table.reaching(width, case.battle.data.inputs)

    def misses(spec: AttackSpec, rows: Tensor) -> Tensor:
        return ~case.probe(
            spec.model_copy(update={"name": f"check: unbounded {spec.name}"}), rows, radius=width
        )

    words = (
        "fails at a radius as wide as the domain",
        "longer steps, more of them, or other gradients",
    )
    name = "unbounded radius"
    return by_attack(case, name, case.standing, case.optimisers, misses, _RATE, words, extra=case.judging)
