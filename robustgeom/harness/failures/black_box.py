"""Square that finds what gradients missed."""

from __future__ import annotations

from robustgeom.harness.failures._case import FEWEST, GRADIENT_FREE, Case
from robustgeom.harness.failures._grading import more_than_luck, names, result
from robustgeom.harness.spec import AttackSpec
from robustgeom.records import CheckResult
from robustgeom.stats import exceeds

__all__ = ["black_box"]

_RATE = 0.01
_QUERIES = 100


def black_box(case: Case) -> CheckResult | None:
    """Return how many samples an attack without gradients fools that gradient attacks did not: it should be none.

    Read off the suite's own where it has one; else Square tries the standing samples with 100 queries. None where the
    suite has gradient-free attacks only.
    """
    own = [s for s in case.attacks if s.attack in GRADIENT_FREE]
    if own:
        return _from_record(case, own) if case.white else None
    if case.norm not in ("linf", "l2") or len(case.standing) < FEWEST:
        return None
    rows = case.some(case.standing, (1 + _QUERIES) * case.draws + case.judging)
    settings = {"queries": _QUERIES, "rescale": True}
    fooled = int(
        case.probe(AttackSpec(name="check: black box", attack="square", settings=settings), rows).sum()
    )
    text = f"Square with {_QUERIES} queries fools {fooled} of {len(rows)} samples that survived the suite"
    action = "do not trust the gradients: add Square with thousands of queries, and look for what blocks them"
    return more_than_luck("black box", fooled, len(rows), _RATE, text, action)


def _from_record(case: Case, own: list[AttackSpec]) -> CheckResult:
    """Count samples that gradient attacks had left and only gradient-free ones fooled.

    A search that finds no more may only be at its end, not at the defense's: such a number is an upper bound, and
    believed where hardly anything is left that it could be wrong about.
    """
    met, alone = _fooled(case, own)
    words = f"{names(own)} fooled {alone} of {met} samples that gradient attacks had left"
    if not exceeds(alone, met, _RATE):
        return result("black box", "pass", alone / max(met, 1), words, "")
    left, all_of_them = int(case.stands.sum()), len(case.stands)
    words = f"{words}; {left} of {all_of_them} stand on the word of that search"
    action = (
        "look for what blocks gradients, and put an attack that gets past it ahead of the search (--attack)"
    )
    return result("black box", "warn" if left <= _RATE * all_of_them else "fail", alone / met, words, action)


def _fooled(case: Case, specs: list[AttackSpec]) -> tuple[int, int]:
    """Return how many samples these attacks met that gradient attacks had left, and how many of them they fooled."""
    black = {s.name for s in specs}
    white, rows = {s.name for s in case.white}, [r for r in case.battle.rows if r["radius"] <= case.radius]
    tried = {(r["sample_id"], r["radius"]) for r in rows if r["attack"] in white}
    fell = {(r["sample_id"], r["radius"]) for r in rows if r["attack"] in white and r["success"]}
    left = [r for r in rows if r["attack"] in black and (r["sample_id"], r["radius"]) in tried - fell]
    return len({r["sample_id"] for r in left}), len({r["sample_id"] for r in left if r["success"]})
