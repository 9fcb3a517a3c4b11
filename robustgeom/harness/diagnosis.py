"""The failure checks of one run: on a seeded subset of samples, within a part of the passes that the suite took."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from robustgeom.harness.attacking import Battle
from robustgeom.harness.failures import FAILURES, WEIGHTS
from robustgeom.harness.failures._case import BALLS, FEWEST, MOST, Case, TooFewPasses
from robustgeom.harness.spec import AttackSpec
from robustgeom.harness.target import seed_of
from robustgeom.records import CheckResult

__all__ = ["SHARE", "diagnose"]

SHARE = 0.25
"""The checks take at most this part of the passes that the suite took."""
_TOO_FEW = "too few passes in the budget"
_OF_SURVIVORS = set(FAILURES) - {"dynamic_forward", "silent_success", "falls_with_radius"}


def diagnose(battle: Battle, attacks: list[AttackSpec]) -> tuple[list[CheckResult], dict[str, object]]:
    """Return the failure checks, and what they cost and which were left out.

    They are made at the strictest headline radius at which samples stand, as the numbers beyond cannot be too high.
    Under spatial changes, corruptions and l0 the probes have no ball to search, so there are none.
    """
    if battle.table.norm not in BALLS:
        why = f"no ball under {battle.table.norm}"
        return [], {"passes": 0, "allowed": 0, "samples": {}, "left_out": dict.fromkeys(FAILURES, why)}
    radius = _doubted(battle)
    stands = battle.standing_at(radius)
    case = Case(battle, attacks, radius, stands, *_subsets(battle, stands))
    total = int(SHARE * sum(battle.spent))
    found: list[CheckResult] = []
    left_out: dict[str, str] = {}
    for index, name in enumerate(FAILURES):
        ahead = sum(list(WEIGHTS.values())[index:])
        case.allowance = int((total - case.spent) * WEIGHTS[name] / ahead)
        if len(case.standing) < FEWEST and name in _OF_SURVIVORS:
            left_out[name] = f"{len(case.standing)} samples stand"
            continue
        try:
            check: CheckResult | None = FAILURES[name](case)
        except TooFewPasses:
            left_out[name] = _TOO_FEW
            continue
        if check is not None:
            found.append(check)
        else:
            left_out[name] = "does not apply"
    if len(case.standing) < FEWEST:
        text = f"{len(case.standing)} samples stand at {case.place}: too few for gradients to matter"
        found.append(CheckResult(name="gradients", status="pass", value=None, message=text))
    found += _unpaid([name for name, why in left_out.items() if why == _TOO_FEW])
    samples = {"standing": len(case.standing), "fallen": len(case.fallen)}
    return found, {
        "radius": radius,
        "samples": samples,
        "passes": case.spent,
        "allowed": total,
        "left_out": left_out,
    }


def _unpaid(names: list[str]) -> list[CheckResult]:
    """Return a warning where the budget did not pay for some checks."""
    if not names:
        return []
    text = f"a quarter of the suite's passes does not pay for: {', '.join(names).replace('_', ' ')}"
    action = "evaluate more samples (--n), at more radii, or with a stronger suite"
    return [CheckResult(name="checks left out", status="warn", value=len(names), message=text, action=action)]


def _doubted(battle: Battle) -> float:
    """Return the strictest headline radius with enough samples standing, else the mildest."""
    headlines = sorted(battle.table.headlines, reverse=True)
    return next((r for r in headlines if int(battle.standing_at(r).sum()) >= FEWEST), headlines[-1])


def _subsets(battle: Battle, stands: Tensor) -> tuple[Tensor, Tensor]:
    """Return positions of up to 128 standing and up to 128 fallen samples, both in seeded order."""
    generator = Generator().manual_seed(seed_of(battle.seed, "check", "subset"))
    order = torch.randperm(len(battle.data), generator=generator)
    felled = ~stands & (battle.clean.prediction == battle.data.labels)
    return order[stands[order]][:MOST], order[felled[order]][:MOST]
