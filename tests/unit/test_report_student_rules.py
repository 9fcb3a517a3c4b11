"""Claims about students of a teacher, on planted cases of each outcome."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from robustgeom.records import CheckResult
from robustgeom.report import CLAIMS, judge
from robustgeom.report.lessons import lesson_sheet
from robustgeom.report.student_rules import Lesson, lesson_of

CLAIM = {claim.id: claim for claim in CLAIMS}
STUDENTS = [c.id for c in CLAIMS if c.study == "students"]
AT = {"threat": "linf 0.1", "objective": "pgd_at"}
N = 200
GRID = [0.0, 0.1]

# The share of samples that withstand, of the students of each lesson where all claims hold.
HOLDS = {
    ("trained", ""): 0.5,
    ("standard", ""): 0.02,
    ("trained", "one_hot"): 0.03,
    ("trained", "uniform_rest:keep=confidence"): 0.3,
    ("trained", "permute_rest:per=class"): 0.25,
    ("trained", "reverse_rest"): 0.2,
    ("standard", "match_gap"): 0.03,
    ("standard", "match_gap_distribution"): 0.05,
    ("trained", "smoothed_label"): 0.05,
    ("trained", "mean_profile"): 0.3,
    ("trained", "swap_profiles"): 0.4,
    ("trained", "class_mean"): 0.25,
    ("trained", "class_gaussian"): 0.2,
}


@pytest.fixture
def network(make_record):
    def build(name, share, clean=1.0, checks=(), **model):
        falls = np.where(np.arange(N) < share * N, 1.0, 0.05)
        right = np.arange(N) < clean * N
        made = {"clean": right, "fooled": {"pgd": falls}, "grid": GRID, "headlines": [0.1]}
        return make_record(name, **made, checks=checks, model=model)

    return build


@pytest.fixture
def study(network):
    """Two teachers and one student a lesson; `changed` overrides shares, and `method` the objective."""

    def build(changed=(), method="kd_clean", **kwargs):
        shares = {**HOLDS, **dict(changed)}
        teachers = [network("standard", 0.0), network("trained", 0.8, **AT)]
        return teachers + [
            network(f"of {teacher}, {done}", share, **taught(teacher, done, method), **kwargs)
            for (teacher, done), share in shares.items()
            if share is not None
        ]

    return build


def taught(teacher, done="", method="kd_clean", threat="none"):
    digest = hashlib.sha256(teacher.encode()).hexdigest()
    lineage = {"model": teacher, "digest": digest, "manipulations": [done] if done else []}
    return {"teacher": lineage, "objective": method, "threat": threat}


KD_CLAIMS = [s for s in STUDENTS if s != "robust-distillation-keeps-up"]


@pytest.mark.parametrize("claim", KD_CLAIMS)
def test_all_claims_hold_where_they_do(claim, study):
    assert judge(CLAIM[claim], study()).status == "reproduced"


BREAKS = {
    "clean-lessons-help": {("trained", "one_hot"): 0.5},
    "students-stay-below": {("trained", ""): 0.8},
    "wrong-classes-matter": {("trained", "permute_rest:per=class"): 0.5},
    "shrinkage-is-not-enough": {("standard", "match_gap_distribution"): 0.4},
    "sample-confidence-matters": {("trained", "swap_profiles"): 0.5},
    "simple-distributions-fail": {("trained", "class_mean"): 0.5},
}


@pytest.mark.parametrize("claim", KD_CLAIMS)
def test_one_lesson_that_does_not_agree_decides(claim, study):
    assert judge(CLAIM[claim], study(BREAKS[claim])).status == "not reproduced"


@pytest.mark.parametrize("claim", KD_CLAIMS)
def test_a_lesson_that_is_missing_leaves_a_claim_untested(claim, study):
    found = judge(CLAIM[claim], study(dict.fromkeys(BREAKS[claim])))
    assert found.status == "not tested"
    assert found.reason.startswith("needs a student: kd_clean")


@pytest.mark.parametrize("claim", STUDENTS)
def test_without_the_teachers_record_nothing_is_tested(claim, study):
    assert judge(CLAIM[claim], study()[2:]).status == "not tested"


@pytest.mark.parametrize("claim", KD_CLAIMS)
def test_a_failed_check_of_a_student_leaves_a_claim_untested(claim, study):
    failed = [CheckResult(name="gradients", status="fail", value=1.0, message="m", action="a")]
    found = judge(CLAIM[claim], study(checks=failed))
    assert (found.status, "failed" in found.reason) == ("not tested", True)


def test_clean_accuracy_alone_does_not_make_wrong_classes_matter(network, study):
    """A student that loses robust and clean accuracy alike has not lost robustness."""
    records = [r for r in study() if r.name != "of trained, reverse_rest"]
    half = network("half", 0.25, clean=0.5, **taught("trained", "reverse_rest"))
    found = judge(CLAIM["wrong-classes-matter"], [*records, half])
    assert found.status == "not reproduced"
    assert "robust over clean" in found.reason


def test_seeds_are_averaged_and_effects_are_in_shares(network, study):
    second = network("second", 0.3, **taught("trained"))
    found = judge(CLAIM["students-stay-below"], [*study(), second])
    assert found.effect == pytest.approx(0.8 - (0.5 + 0.3) / 2)


@pytest.mark.parametrize(
    ("share", "status"), [(0.8, "reproduced"), (0.79, "reproduced"), (0.6, "not reproduced")]
)
def test_robust_distillation_is_held_against_adversarial_training(network, share, status):
    records = [
        network("trained", 0.8, **AT),
        network("student", share, **taught("trained", "", "rslad", "linf 0.1")),
    ]
    found = judge(CLAIM["robust-distillation-keeps-up"], records)
    assert (found.status, found.effect) == (status, pytest.approx(share - 0.8))


def test_lessons_are_told_apart_by_the_kind_of_teacher(network):
    trained, noisy = network("trained", 0.8, **AT), network("noisy", 0.5, noise="keyed", rho=1.0)
    student, other = (network(f"of {t}", 0.1, **taught(t, "one_hot")) for t in ("trained", "noisy"))
    records = [trained, noisy, student, other]
    assert lesson_of(student, records) == Lesson("kd_clean", "adversarially trained", ("one_hot",))
    assert lesson_of(other, records) is None
    assert lesson_of(trained, records) is None
    assert str(lesson_of(student, records)) == "kd_clean, adversarially trained teacher, one_hot"


def test_the_sheet_has_a_row_a_lesson_and_differences_to_untouched_logits(study):
    sheet = lesson_sheet(study(), 0.1, "linf 0.1")
    rows = {(row[1], row[2]): row for row in sheet.rows}
    assert len(rows) == len(HOLDS)
    plain = rows["adversarially trained", "nothing"]
    assert (plain[3], plain[4], plain[6], plain[7]) == (1, "100.0 % [100.0, 100.0]", "0.50", "")
    assert plain[5].startswith("50.0 % [43")
    assert rows["adversarially trained", "reverse_rest"][7].startswith("-30.0 points")
    assert lesson_sheet(study()[:2], 0.1, "linf 0.1") is None
