"""The failure checks of one run: on a seeded subset of samples, within a part of the passes that the suite took."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from robustgeom.errors import OutputError
from robustgeom.harness.attacking import Battle
from robustgeom.harness.failures import FAILURES, WEIGHTS
from robustgeom.harness.failures._case import BALLS, FEWEST, MOST, Case, TooFewPasses
from robustgeom.harness.journal import Entry, digest
from robustgeom.harness.options import described
from robustgeom.harness.spec import AttackSpec
from robustgeom.records import CheckResult
from robustgeom.seeds import seed_of

__all__ = ["SHARE", "diagnose"]

SHARE = 0.25
"""The checks take at most this part of the passes that the suite took."""
TELLING = 0.1  # of all samples: what must stand for checks to have something to find
_TOO_FEW, _NOT_HERE = "too few passes in the budget", "does not apply"
_OF_ALL = {"black_box", "dynamic_forward", "silent_success", "falls_with_radius"}
"""Checks that do not need samples that stand."""


def diagnose(battle: Battle, attacks: list[AttackSpec]) -> tuple[list[CheckResult], dict[str, Any]]:
    """Return the failure checks, and what they cost and which were left out, and why.

    They are made at the strictest headline radius at which a tenth of the samples stand: the numbers beyond cannot be
    far too high.
    Under spatial changes, corruptions and l0 the probes have no ball to search, so there are none.
    """
    if battle.table.ball not in BALLS:
        why = f"no ball under {battle.table.norm}"
        return [], {"passes": 0, "allowed": 0, "samples": {}, "left_out": dict.fromkeys(FAILURES, why)}
    radius = _doubted(battle)
    stands = battle.standing_at(radius)
    case = Case(battle, attacks, radius, stands, *_subsets(battle, stands), state=_state(battle))
    allowed = int(SHARE * sum(battle.spent))
    checks, left_out = _made(case, allowed)
    cost = {
        "radius": radius,
        "samples": {"standing": len(case.standing), "fallen": len(case.fallen)},
        "passes": case.spent,
        "allowed": allowed,
        "left_out": left_out,
    }
    return [*checks, *_few_stand(case), *_unpaid(left_out)], cost


def _made(case: Case, allowed: int) -> tuple[list[CheckResult], dict[str, str]]:
    """Make all checks that apply, and say why the others were left out.

    Each has its part of the passes and what the ones before left over; those that this does not pay for get another
    turn with what is left in the end.
    """
    few = len(case.standing) < FEWEST
    left_out = {
        name: f"{len(case.standing)} samples stand" for name in FAILURES if few and name not in _OF_ALL
    }
    found: dict[str, CheckResult] = {}
    wanted = [name for name in FAILURES if name not in left_out]
    ahead = sum(WEIGHTS[name] for name in wanted)
    for name in wanted:
        case.allowance = (allowed - case.spent) * WEIGHTS[name] // ahead
        ahead -= WEIGHTS[name]
        _try(name, case, found, left_out)
    for name in [name for name, why in left_out.items() if why == _TOO_FEW]:
        case.allowance = allowed - case.spent
        _try(name, case, found, left_out)
    return [found[name] for name in wanted if name in found], left_out


def _try(name: str, case: Case, found: dict[str, CheckResult], left_out: dict[str, str]) -> None:
    left_out.pop(name, None)
    before = case.spent
    try:
        key = ("check", name, case.allowance, case.state, [spec.name for spec in case.attacks])
        entry = case.battle.journal.once(lambda: _checked(name, case), *key)
    except OutputError:  # the journal's, not the check's
        raise
    except Exception as error:  # a network that fails in a check's batches must not cost the attacks' results
        left_out[name] = described(error)
        return
    earlier = before + entry.facts["passes"] - case.spent  # of a check that was made before
    case.probed += earlier
    case.battle.budget.spend(earlier)
    if entry.tensors:
        case.twice = entry.tensors["rows"], entry.tensors["margin"]
    if entry.facts["check"] is None:
        left_out[name] = entry.facts["why"]
    else:
        found[name] = CheckResult.model_validate(entry.facts["check"])


def _checked(name: str, case: Case) -> Entry:
    """Make a check, and return it, or why there is none, with what it leaves to others and the passes it took."""
    spent, before, why = case.spent, case.twice, _NOT_HERE
    try:
        check = FAILURES[name](case)
    except TooFewPasses:
        check, why = None, _TOO_FEW
    new = case.twice if case.twice is not before else None
    looked = {} if new is None else dict(zip(("rows", "margin"), new, strict=True))
    return Entry(looked, {"check": check and check.model_dump(), "why": why, "passes": case.spent - spent})


def _few_stand(case: Case) -> list[CheckResult]:
    """Return a check of gradients that passes where hardly any sample stands, in place of the one at the door."""
    if len(case.standing) >= FEWEST:
        return []
    text = f"{len(case.standing)} samples stand at {case.place}: too few for gradients to matter"
    return [CheckResult(name="gradients", status="pass", value=None, message=text)]


def _unpaid(left_out: dict[str, str]) -> list[CheckResult]:
    """Return warnings where the budget did not pay for some checks, or some could not be made."""
    few = [name for name, why in left_out.items() if why == _TOO_FEW]
    broken = [
        f"{name} ({why})"
        for name, why in left_out.items()
        if why not in (_TOO_FEW, _NOT_HERE) and not why.endswith(" samples stand")
    ]
    if not few and not broken:
        return []
    parts = [f"a quarter of the suite's passes does not pay for {', '.join(few)}"] if few else []
    text = "; ".join([*parts, *broken]).replace("_", " ")
    action = "evaluate more samples (--n), at more radii, or with a stronger suite"
    return [
        CheckResult(
            name="checks left out",
            status="warn",
            value=float(len(few) + len(broken)),
            message=text,
            action=action,
        )
    ]


def _state(battle: Battle) -> str:
    """Return a digest of what the attacks found: another outcome asks for other checks."""
    found = [(r["attack"], r["radius"], r["sample_id"], r["prediction"], r["margin"]) for r in battle.rows]
    return digest(battle.seed, battle.suite.digest, found)


def _doubted(battle: Battle) -> float:
    """Return the strictest headline radius at which a tenth of the samples stand, else the mildest.

    Where fewer stand, the number cannot be far too high, and a milder one is the one that can.
    """
    headlines = sorted(battle.table.headlines, reverse=True)
    enough = max(FEWEST, TELLING * len(battle.data))
    return next((r for r in headlines if int(battle.standing_at(r).sum()) >= enough), headlines[-1])


def _subsets(battle: Battle, stands: Tensor) -> tuple[Tensor, Tensor]:
    """Return positions of up to 128 standing and up to 128 fallen samples, both in seeded order."""
    generator = Generator().manual_seed(seed_of(battle.seed, "check", "subset"))
    order = torch.randperm(len(battle.data), generator=generator)
    felled = ~stands & (battle.clean.prediction == battle.data.labels)
    return order[stands[order]][:MOST], order[felled[order]][:MOST]
