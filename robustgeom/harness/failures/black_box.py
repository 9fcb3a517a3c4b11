"""Square that finds what gradients missed."""

from __future__ import annotations

from robustgeom.harness.failures._case import GRADIENT_FREE, Case
from robustgeom.harness.failures._grading import more_than_luck, names, result
from robustgeom.harness.spec import AttackSpec
from robustgeom.records import CheckResult
from robustgeom.stats import exceeds

__all__ = ["black_box"]

_RATE = 0.01
_QUERIES = 100


def black_box(case: Case) -> CheckResult | None:
    """Return how many samples an attack without gradients fools that gradient attacks did not: it should be none.

    Read off the suite's own where it has one, with a warning where a repeat finds no more; else Square tries the
    standing samples with 100 queries. None where the suite has gradient-free attacks only.
    """
    own = [s for s in case.attacks if s.attack in GRADIENT_FREE]
    if own:
        return _from_record(case, own) if case.white else None
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


def _from_record(case: Case, own: list[AttackSpec]) -> CheckResult:
    """Count samples that gradient attacks had left and only gradient-free ones fooled.

    Such a number rests on a search, which is believed once a repeat of it finds no more.
    """
    met, alone = _fooled(case, own)
    words = f"{names(own)} fooled {alone} of {met} samples that gradient attacks had left"
    action = "do not trust the gradients: look for what blocks them"
    if not exceeds(alone, met, _RATE):
        return result("black box", "pass", alone / max(met, 1), words, "")
    left, more = _fooled(case, own[-1:])
    if names(own) == names(own[:-1]) and not exceeds(more, left, _RATE):
        words = f"{words}; again with other draws it fooled {more} of the {left} left"
        return result("black box", "warn", alone / met, words, action)
    action = f"{action}, and repeat the search until it finds no more (--remedy)"
    return result("black box", "fail", alone / met, words, action)


def _fooled(case: Case, specs: list[AttackSpec]) -> tuple[int, int]:
    """Return how many samples these attacks met that gradient attacks had left, and how many of them they fooled."""
    black = {s.name for s in specs}
    white, rows = {s.name for s in case.white}, [r for r in case.battle.rows if r["radius"] <= case.radius]
    tried = {(r["sample_id"], r["radius"]) for r in rows if r["attack"] in white}
    fell = {(r["sample_id"], r["radius"]) for r in rows if r["attack"] in white and r["success"]}
    left = [r for r in rows if r["attack"] in black and (r["sample_id"], r["radius"]) in tried - fell]
    return len({r["sample_id"] for r in left}), len({r["sample_id"] for r in left if r["success"]})
