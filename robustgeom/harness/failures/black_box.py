"""Square that finds what gradients missed."""

from __future__ import annotations

from robustgeom.harness.failures._case import GRADIENT_FREE, Case
from robustgeom.harness.failures._grading import more_than_luck, result
from robustgeom.harness.spec import AttackSpec
from robustgeom.records import CheckResult
from robustgeom.stats import exceeds

__all__ = ["black_box"]

_RATE = 0.01
_QUERIES = 100


def black_box(case: Case) -> CheckResult | None:
    """Return how many samples an attack without gradients fools that gradient attacks did not: it should be none.

    Read off the suite's own where it has one; else Square tries the standing samples with 100 queries.
    """
    own = [s for s in case.attacks if s.attack in GRADIENT_FREE]
    if own:
        return _from_record(case, {s.name for s in own}, ", ".join(s.name for s in own))
    if case.norm not in ("linf", "l2"):
        return None
    rows = case.some(case.standing, (1 + _QUERIES) * case.draws + case.judging)
    settings = {"queries": _QUERIES, "rescale": True}
    fooled = int(
        case.probe(AttackSpec(name="check: black box", attack="square", settings=settings), rows).sum()
    )
    text = f"Square with {_QUERIES} queries fools {fooled} of {len(rows)} samples that survived the suite"
    action = "do not trust the gradients: add Square with thousands of queries, and look for what blocks them"
    return more_than_luck("black box", fooled, len(rows), _RATE, text, action)


def _from_record(case: Case, black: set[str], text: str) -> CheckResult:
    """Compare by samples: those that only gradient-free attacks fooled, of those that met them."""
    met, alone = set(), set()
    for row in case.battle.rows:
        if row["attack"] in black and row["radius"] <= case.radius:
            met.add(row["sample_id"])
            alone |= {row["sample_id"]} if row["success"] else set()
    bad = exceeds(len(alone), len(met), _RATE)
    words = f"{text} fooled {len(alone)} of {len(met)} samples that gradient attacks had left"
    action = "do not trust the gradients: the number rests on few queries; raise them, and look for what blocks them"
    return result("black box", "warn" if bad else "pass", len(alone) / max(len(met), 1), words, action)
