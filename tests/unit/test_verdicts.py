"""What a record comes to in words."""

from __future__ import annotations

import pytest

from robustgeom.records import CheckResult, RemedyResult
from robustgeom.verdicts import by_urgency, check_cost, check_counts, remedied, remedy_sentences, verdict_line

NEVER = 9.0
RAN = {"samples": {"standing": 2, "fallen": 1}, "passes": 6, "allowed": 12, "left_out": {}}
FOOLED = {"pgd": (0.05, NEVER, NEVER, NEVER)}


def _check(name, status, message="found something."):
    return CheckResult(name=name, status=status, value=None, message=message)


def test_a_trustworthy_record_in_one_line(make_record):
    numbers = "Robust accuracy 50.0 % [15, 85] at linf 0.1, clean 75.0 %."
    assert verdict_line(make_record(fooled=FOOLED, diagnosis=RAN)) == f"net: trustworthy. {numbers}"
    unprobed = f"net: trustworthy (failure checks not run). {numbers}"
    assert verdict_line(make_record(fooled=FOOLED)) == unprobed
    assert verdict_line(make_record(fooled=FOOLED, diagnosis={"left_out": {"x": "no ball"}})) == unprobed


def test_the_first_reason_is_named_and_the_others_counted(make_record):
    checks = [_check("a", "warn"), _check("b", "fail"), _check("c", "fail"), _check("d", "pass")]
    line = verdict_line(make_record(fooled=FOOLED, checks=checks))
    assert line.startswith("net: suspicious because b: found something (1 more reason, 1 warning). Robust")
    warned = [_check("a", "warn"), _check("d", "warn")]
    doubtful = verdict_line(make_record(fooled=FOOLED, checks=warned, diagnosis=RAN))
    assert doubtful.startswith("net: trustworthy (2 warnings). Robust accuracy")


@pytest.mark.parametrize("name", ["clean accuracy", "batch independence", "repeatable"])
def test_where_a_precondition_fails_nothing_was_evaluated(make_record, name):
    line = verdict_line(make_record(checks=[_check(name, "fail", f"{name} is off")]))
    assert line.startswith(f"net: not evaluated because {name} is off. Robust")


def test_an_unfinished_run_gives_a_bound_or_nothing(make_record):
    cut = verdict_line(make_record(fooled=FOOLED, status="interrupted"))
    assert "not evaluated because the run is interrupted" in cut
    assert "Robust accuracy at most 50.0 %" in cut
    early = verdict_line(make_record(grid=[0.0], headlines=[0.0], status="interrupted"))
    assert early.endswith("No attack finished; clean accuracy 75.0 %.")


def test_noise_has_its_single_draw_in_the_line(make_record):
    line = verdict_line(make_record(fooled=FOOLED, model={"noise": "batch"}))
    assert "at linf 0.1 (single draw 50.0 %), clean" in line


def test_checks_are_counted_and_sorted_by_urgency(make_record):
    checks = [_check("a", "pass"), _check("b", "warn"), _check("c", "fail"), _check("d", "warn")]
    assert [c.name for c in by_urgency(checks)] == ["c", "b", "d", "a"]
    assert check_counts(checks) == "1 fail, 2 warn"
    assert (check_counts(checks[:1]), check_counts([])) == ("all 1 pass", "none ran")


def test_checks_that_did_not_run_are_not_passed_over(make_record):
    assert check_cost(make_record())[0].startswith("The failure checks did not run")
    assert check_cost(make_record(diagnosis={"left_out": {"black_box": "no checks under l0"}})) == [
        "Left out: black box (no checks under l0)."
    ]


def test_what_an_interrupted_remedy_felled_counts_neither_before_nor_after_the_others(make_record):
    remedy = RemedyResult(attack="remedy: margin", radius=0.1, answers=["gradients"], before=3, after=3)
    felled = {"pgd": (NEVER,) * 4, "remedy: margin": (NEVER,) * 4, "remedy: square": (0.05,) + (NEVER,) * 3}
    (found,) = remedied(make_record(fooled=felled, remedies=[remedy], status="interrupted"))
    assert (found.before.value, found.after.value, found.felled) == (0.75, 0.75, 0)


def test_remedies_are_counted_from_the_samples_one_after_the_other(make_record):
    # The first remedy fells sample 1 at both radii, the second also sample 2 at the larger one.
    fooled = {"pgd": (0.01,) + (NEVER,) * 4, "remedy: a": (NEVER, 0.01, NEVER, NEVER, NEVER)}
    fooled["remedy: b"] = (NEVER, 0.01, 0.05, NEVER, NEVER)
    remedies = [
        RemedyResult(attack=f"remedy: {n}", radius=r, answers=[n], before=0, after=0)
        for n in "ab"
        for r in (8 / 255, 0.1)
    ]
    record = make_record(clean=[True] * 5, fooled=fooled, remedies=remedies, checks=[_check("b", "pass")])
    found = [(r.attack[-1], r.radius, r.before.value, r.after.value, r.felled) for r in remedied(record)]
    assert found == [
        ("a", 8 / 255, 0.8, 0.6, 1),
        ("b", 8 / 255, 0.6, 0.6, 0),
        ("a", 0.1, 0.8, 0.6, 1),
        ("b", 0.1, 0.6, 0.4, 1),
    ]
    assert remedy_sentences(record) == [
        "At linf 8/255: 80.0 % before the remedies, 60.0 % after (a felled 1).",
        "At linf 0.1: 80.0 % before the remedies, 40.0 % after (a felled 1, b felled 1).",
        "Every check that they answer passes now.",
    ]
    assert remedy_sentences(make_record()) == []


def test_remedies_that_change_nothing_say_so(make_record):
    remedy = RemedyResult(attack="remedy: a", radius=0.1, answers=["x", "y"], before=3, after=3)
    flagged = [_check("x", "warn"), _check("y", "fail"), _check("z", "fail")]
    record = make_record(fooled={"remedy: a": (NEVER,) * 4}, remedies=[remedy], checks=flagged)
    assert remedy_sentences(record) == [
        "At linf 0.1: 75.0 % before and after the remedies.",
        "Still flagged: y (fail), x (warn).",
    ]
