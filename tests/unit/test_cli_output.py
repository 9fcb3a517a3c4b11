"""What `evaluate` and `show` print of records: verdicts first, in 80 columns."""

from __future__ import annotations

import pytest

from robustgeom.cli.output import print_summary
from robustgeom.cli.show import _describe
from robustgeom.records import CheckResult, RemedyResult

LONG = "gradients of another network fool 12 of 64 samples that survived the suite at linf 0.1"
NAME = "a_defense_with_a_rather_long_name.py:build_model"


@pytest.fixture
def records(make_record, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    checks = [
        CheckResult(name="black box", status="warn", value=0.1, message=LONG, action="add Square " * 9),
        CheckResult(name="transfer", status="fail", value=0.2, message=LONG, action="add a source " * 8),
        CheckResult(name="gradients", status="pass", value=0.0, message="none is zero"),
    ]
    remedy = RemedyResult(attack="remedy: square", radius=0.1, answers=["transfer"], before=3, after=2)
    fooled = {"pgd": (9.0,) * 4, "remedy: square": (0.05, 9.0, 9.0, 9.0)}
    flagged = {"fooled": fooled, "checks": checks, "remedies": [remedy]}
    others = {"plain": {"checks": checks[2:]}, "cut": {"status": "interrupted"}}
    return [make_record(name, headlines=[0.1], **facts) for name, facts in ({NAME: flagged} | others).items()]


def test_the_summary_says_verdicts_then_numbers_then_what_to_do(records, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert print_summary(records, tmp_path / "out") == 3
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert lines[0].startswith(f"{NAME}: suspicious")
    assert max(map(len, lines[:-1])) <= 80
    assert lines[-1] == str(tmp_path / "out" / "report.html")
    flat = " ".join(out.split())
    order = (
        f"{NAME}: suspicious because transfer: {LONG} (1 warning). Robust accuracy 50.0 %",
        "plain: trustworthy (failure checks not run). Robust",
        "cut: not evaluated because the run is interrupted",
        "accuracy in % clean linf 0.1 mean checks",
        "1 fail, 1 warn",
        "all 1 pass",
        f"fail transfer: {LONG} next: add a source",
        f"warn black box: {LONG} next: add Square",
        "At linf 0.1: 75.0 % before the remedies, 50.0 % after (square felled 1).",
        "Still flagged: transfer (fail).",
    )
    places = [flat.index(text) for text in order]
    assert places == sorted(places)


def test_a_summary_without_failed_checks_exits_with_0(records, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert print_summary(records[1:2], tmp_path / "out") == 0
    assert "next:" not in capsys.readouterr().out


def test_show_begins_with_the_same_verdict(records):
    text = _describe(records[0])
    assert text.startswith(f"{NAME}: suspicious because transfer")
    assert max(map(len, text.splitlines())) <= 80
    assert "checks             1 fail, 1 warn" in text
    assert "fail  transfer" in text
    assert "felled 1" in text
    assert "next:" not in _describe(records[1])
