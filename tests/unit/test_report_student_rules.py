"""Claims about students of a teacher, on planted cases of each outcome."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from robustgeom.records import CheckResult
from robustgeom.report import CLAIMS, judge
from robustgeom.report.lessons import lesson_sheets
from robustgeom.report.student_rules import Lesson, studies

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
    ("trained", "uniform_rest"): 0.3,
    ("trained", "permute_rest"): 0.25,
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


def digest_of(name):
    return hashlib.sha256(name.encode()).hexdigest()


def taught(teacher, done="", method="kd_clean", threat="none", other="trained", settings="", **model):
    lineage = {"model": teacher, "digest": digest_of(teacher), "manipulations": [done] if done else []}
    if done.startswith("match_gap"):
        lineage |= {"other": other, "other_digest": digest_of(other)}
    return {"teacher": {**lineage, "settings": settings}, "objective": method, "threat": threat, **model}


KD_CLAIMS = [s for s in STUDENTS if s != "robust-distillation-keeps-up"]


@pytest.mark.parametrize("claim", KD_CLAIMS)
def test_all_claims_hold_where_they_do(claim, study):
    assert judge(CLAIM[claim], study()).status == "reproduced"


BREAKS = {
    "clean-lessons-help": {("trained", "one_hot"): 0.5},
    "students-stay-below": {("trained", ""): 0.8},
    "wrong-classes-matter": {("trained", "permute_rest"): 0.5},
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
    assert "needs a student: kd_clean" in found.reason


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


def test_without_a_gain_there_is_nothing_to_halve(study):
    level = dict.fromkeys(
        (k for k in HOLDS if k[1] in ("match_gap", "match_gap_distribution", "smoothed_label")), 0.2
    )
    found = judge(
        CLAIM["shrinkage-is-not-enough"], study({("trained", ""): 0.3, ("standard", ""): 0.3, **level})
    )
    assert (found.status, "nothing that could be halved" in found.reason) == ("not tested", True)


def test_gaps_are_matched_to_those_of_a_robust_network(network, study):
    records = [r for r in study() if "match_gap" not in r.name]
    second = network("standard2", 0.0)
    wrong = [
        network(f"wrong {m}", 0.03, **taught("standard", m, other="standard2"))
        for m in ("match_gap", "match_gap_distribution")
    ]
    assert judge(CLAIM["shrinkage-is-not-enough"], [*records, second, *wrong]).status == "not tested"


@pytest.mark.parametrize(
    ("share", "status"),
    [(0.8, "reproduced"), (0.79, "reproduced"), (0.77, "not reproduced"), (0.6, "not reproduced")],
)
def test_robust_distillation_is_held_against_adversarial_training(network, share, status):
    """Three points less cannot be told from six on 200 samples."""
    student = network("student", share, **taught("trained", "", "rslad", "linf 0.1"))
    found = judge(CLAIM["robust-distillation-keeps-up"], [network("trained", 0.8, **AT), student])
    assert (found.status, found.effect) == (status, pytest.approx(share - 0.8))


def test_networks_trained_against_less_are_no_measure_of_a_student(network):
    weaker = [network(f"at {eps}", 0.2, **{**AT, "threat": f"linf {eps}"}) for eps in (0.025, 0.05)]
    student = network("student", 0.5, **taught("trained", "", "rslad", "linf 0.1"))
    found = judge(CLAIM["robust-distillation-keeps-up"], [network("trained", 0.8, **AT), *weaker, student])
    assert (found.status, found.effect) == ("not reproduced", pytest.approx(-0.3))


def test_students_of_other_teachers_and_of_other_settings_are_no_seeds(network, study):
    """One student of a stronger teacher, or at another temperature, must not lift those that are compared."""
    level = {("trained", ""): 0.3, ("trained", "mean_profile"): 0.3, ("trained", "swap_profiles"): 0.3}
    records = study(level)
    strong = network("strong", 0.9, **{**AT, "family": "resnet"})
    others = [
        network("of strong", 0.7, **taught("strong")),
        network("hot", 0.7, **taught("trained", settings="temperature=4")),
        network("elsewhere", 0.7, **taught("trained", family="wide")),
    ]
    assert judge(CLAIM["sample-confidence-matters"], records).status == "not reproduced"
    found = judge(CLAIM["sample-confidence-matters"], [*records, strong, *others])
    assert (found.status, found.effect) == ("not reproduced", pytest.approx(0))
    assert {s.name for s in studies([*records, strong, *others])} == {
        "cnn taught by cnn, pgd_at linf 0.1",
        "cnn taught by resnet, pgd_at linf 0.1",
        "wide taught by cnn, pgd_at linf 0.1",
    }


def test_lessons_are_told_apart_by_the_kind_of_teacher(network):
    trained, noisy = network("trained", 0.8, **AT), network("noisy", 0.5, noise="keyed", rho=1.0)
    student, other = (network(f"of {t}", 0.1, **taught(t, "one_hot")) for t in ("trained", "noisy"))
    (found,) = studies([trained, noisy, student, other])
    (lesson,) = found.students
    assert lesson == Lesson("kd_clean", "adversarially trained", ("one_hot",))
    assert str(lesson) == "kd_clean, adversarially trained teacher, one_hot"
    assert found.students[lesson] == [student]


def test_the_sheet_has_a_row_a_lesson_and_differences_to_untouched_logits(study):
    ((name, sheet, sentences),) = lesson_sheets(study())
    assert sentences == []
    assert name == "cnn taught by cnn, pgd_at linf 0.1"
    rows = {(row[1], row[2]): row for row in sheet.rows}
    assert len(rows) == len(HOLDS)
    plain = rows["adversarially trained", "nothing"]
    assert (plain[3], plain[4], plain[6], plain[7]) == (1, "100.0 % [100.0, 100.0]", "0.50", "")
    assert plain[5].startswith("50.0 % [43")
    assert rows["adversarially trained", "reverse_rest"][7].startswith("-30.0 points")
    assert rows["standard", "match_gap"][7].startswith("+1.0 points")
    assert lesson_sheets(study()[:2]) == []


@pytest.mark.parametrize(
    ("student", "teacher", "words"),
    [
        (0.6, 0.8, "are behind adversarial training"),
        (0.8, 0.9, "are not measurably apart from adversarial training"),
        (0.9, 0.95, "are ahead of adversarial training"),
    ],
)
def test_students_on_attacked_inputs_stand_beside_adversarial_training_of_their_size(
    network, student, teacher, words
):
    big = network("big", teacher, **{**AT, "family": "resnet"})
    peer = network("peer", 0.8, **AT)
    pupil = network("pupil", student, **taught("big", method="rslad", threat=AT["threat"]))
    ((_, _, (sentence,)),) = lesson_sheets([big, peer, pupil])
    assert words in sentence
    assert "(peer)" in sentence
    assert f"{100 * student:.1f} % against 80.0 %" in sentence
    assert ("no measurable lead to pass on" in sentence) == (teacher <= 0.8)


def test_teachers_that_are_the_networks_compared_with_are_said_to_be(network):
    peer = network("peer", 0.8, **AT)
    pupil = network("pupil", 0.7, **taught("peer", method="rslad", threat=AT["threat"]))
    ((_, _, (sentence,)),) = lesson_sheets([peer, pupil])
    assert sentence.endswith("Those networks are their teachers.")


def test_without_a_lead_of_the_teachers_the_page_says_that_there_was_little_to_gain(network):
    big = network("big", 0.8, **{**AT, "family": "resnet"})
    pupil = network("pupil", 0.7, **taught("big", method="rslad", threat=AT["threat"]))
    ((_, _, (sentence,)),) = lesson_sheets([big, network("peer", 0.8, **AT), pupil])
    assert sentence.endswith("+0.0 points [+0.0, +0.0] from those networks: no measurable lead to pass on.")


def test_one_student_under_two_suites_is_no_two_seeds(network, study):
    records = study()
    assert lesson_sheets([*records, records[-1]]) == []
