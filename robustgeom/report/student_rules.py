"""Rules of claims about students that were taught on clean inputs, with the teacher's logits manipulated; no torch.

Students are told apart by the kind of their teacher (standard or adversarially trained, by the record of the teacher
that is compared beside them) and by what was done to its logits. Seeds are averaged per sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from robustgeom.records import RunRecord
from robustgeom.report.families import families
from robustgeom.report.findings import (
    Finding,
    NotTestedError,
    is_standard,
    mean_mask,
    refuse_doubtful,
    refuse_other_attacks,
    refuse_other_samples,
)
from robustgeom.stats import bootstrap
from robustgeom.words import percent, points, radius_text

__all__ = [
    "ATTACKING",
    "Lesson",
    "Study",
    "clean_lessons_help",
    "robust_distillation_keeps_up",
    "sample_confidence_matters",
    "shrinkage_is_not_enough",
    "simple_distributions_fail",
    "students_stay_below",
    "studies",
    "wrong_classes_matter",
]

Kind = Literal["standard", "adversarially trained"]
Array = NDArray[np.float64]
STANDARD: Kind = "standard"
ROBUST: Kind = "adversarially trained"


@dataclass(frozen=True)
class Lesson:
    """What a student was taught: the method and its settings, the kind of teacher, and what was done to its logits.

    `other` is the kind of the second network that manipulations compare with.
    """

    method: str
    teacher: Kind
    manipulations: tuple[str, ...] = ()
    other: Kind | None = None
    settings: str = ""

    def __str__(self) -> str:
        """Return it in words."""
        done = ", ".join(self.manipulations) or "its logits as they are"
        return f"{self.training}, {self.teacher} teacher, {done}"

    @property
    def training(self) -> str:
        """The method and those of its settings that are not usual."""
        return f"{self.method} ({self.settings})" if self.settings else self.method


PLAIN = Lesson("kd_clean", ROBUST)
CONTROL = Lesson("kd_clean", STANDARD)
ATTACKING = ("ard", "rslad", "adaad")
MARGIN = 0.05  # by how much a student may be less robust before it does not keep up


def clean_lessons_help(records: Sequence[RunRecord]) -> list[Finding]:
    """Students of a robust teacher are somewhat robust though no input was perturbed.

    Rule: at the strictest headline radius that all share, students of adversarially trained teachers are more robust
    than ones taught by labels alone and than students of standard teachers: both 99.7 % paired bootstrap intervals
    over samples (three standard errors; they are shown) lie above 0. A record with a failed check leaves the claim
    untested.
    """
    return _each(
        records,
        lambda s: [s.gain(PLAIN, other, confidence=0.997) for other in (_changed("one_hot"), CONTROL)],
    )


def students_stay_below(records: Sequence[RunRecord]) -> list[Finding]:
    """Students that were taught on clean inputs stay less robust than their teachers.

    Rule: at the strictest headline radius that all share, the 95 % paired bootstrap interval over samples of teachers
    minus students lies above 0. A record with a failed check leaves the claim untested.
    """

    def below(study: Study) -> list[Finding]:
        interval = bootstrap(study.robust(PLAIN, teachers=True) - study.robust(PLAIN))
        return [
            Finding(interval.low > 0, interval, f"{study.place}: teachers minus students {points(interval)}")
        ]

    return _each(records, below)


def wrong_classes_matter(records: Sequence[RunRecord]) -> list[Finding]:
    """What the teacher says of wrong classes is needed.

    Rule: at the strictest headline radius that all share, students of adversarially trained teachers lose robustness
    where the other classes are made uniform (confidence kept), permuted alike for each class, or reversed: the 95 %
    paired bootstrap intervals over samples lie above 0, of robust accuracy and of robust over clean accuracy (so that
    it is not only the clean accuracy that is lost). A record with a failed check leaves the claim untested.
    """
    others = [_changed(m) for m in ("uniform_rest", "permute_rest", "reverse_rest")]
    return _each(records, lambda s: [f(PLAIN, other) for other in others for f in (s.gain, s.relative_gain)])


def shrinkage_is_not_enough(records: Sequence[RunRecord]) -> list[Finding]:
    """Small gaps alone do not make a student robust.

    Rule: at the strictest headline radius that all share, students of standard teachers whose logits have the gaps of
    adversarially trained ones, on average or in distribution, and students of labels smoothed to their confidence
    have at most half the gain over students of standard teachers that those of adversarially trained teachers have:
    the 95 % paired bootstrap interval over samples of half that gain minus theirs lies above 0. Without such a gain,
    or with a failed check, the claim is untested.
    """
    matched = [Lesson("kd_clean", STANDARD, (m,), ROBUST) for m in ("match_gap", "match_gap_distribution")]
    return _each(records, lambda s: [s.half_gain(other) for other in (*matched, _changed("smoothed_label"))])


def sample_confidence_matters(records: Sequence[RunRecord]) -> list[Finding]:
    """How sure the teacher is of each single sample is needed.

    Rule: at the strictest headline radius that all share, students of adversarially trained teachers lose robustness
    where all samples get the mean probabilities in their own order of classes, or another sample's of the same
    prediction: the 95 % paired bootstrap intervals over samples lie above 0. A record with a failed check leaves the
    claim untested.
    """
    others = [_changed(m) for m in ("mean_profile", "swap_profiles")]
    return _each(records, lambda s: [s.gain(PLAIN, other) for other in others])


def simple_distributions_fail(records: Sequence[RunRecord]) -> list[Finding]:
    """Logits drawn from simple distributions do not suffice.

    Rule: at the strictest headline radius that all share, students of adversarially trained teachers lose robustness
    where logits are the mean of the predicted class, or drawn from its Gaussian: the 95 % paired bootstrap intervals
    over samples lie above 0. A record with a failed check leaves the claim untested.
    """
    others = [_changed(m) for m in ("class_mean", "class_gaussian")]
    return _each(records, lambda s: [s.gain(PLAIN, other) for other in others])


def robust_distillation_keeps_up(records: Sequence[RunRecord]) -> list[Finding]:
    """A student that is taught on attacked inputs is as robust as one of its size that was trained adversarially.

    Rule: at the strictest headline radius that all share, for each of ard, rslad and adaad that has students, the 95 %
    paired bootstrap interval over samples of students minus networks of their family that were trained adversarially
    against the same threat, without noise, lies above -5 points: a larger lack can be excluded. A record with a
    failed check leaves the claim untested.
    """

    def keeps_up(study: Study) -> list[Finding]:
        lessons = [x for x in study.students if x.method in ATTACKING and not x.manipulations]
        if not lessons:
            raise NotTestedError("needs a student taught by ard, rslad or adaad, and its teacher's record")
        return [study.against_trained(lesson) for lesson in lessons]

    return _each(records, keeps_up)


@dataclass(frozen=True)
class Study:
    """Students of one family by lesson, whose teachers are of one family and recipe, and where all are compared."""

    name: str
    students: dict[Lesson, list[RunRecord]]
    records: list[RunRecord]
    radius: float

    @property
    def place(self) -> str:
        """Where robust accuracies are compared."""
        norm = self.records[0].header.threat.norm
        return f"{self.name}, {norm} {radius_text(self.radius, norm)}"

    def robust(self, lesson: Lesson, *, teachers: bool = False) -> Array:
        """Return the share of seeds (n,) in which each sample is robust: of the students, or of their teachers."""
        return mean_mask(self.records_of(lesson, teachers=teachers), self.radius)

    def gain(self, lesson: Lesson, other: Lesson, *, confidence: float = 0.95) -> Finding:
        """Return whether students of one lesson are more robust than those of another."""
        ours, theirs = self.robust(lesson), self.robust(other)
        interval = bootstrap(ours - theirs, confidence=confidence)
        shares = " against ".join(percent(v.mean()) for v in (ours, theirs))
        text = f"{self.name}: {lesson} against {other}: {shares}, difference {points(interval)}"
        return Finding(interval.low > 0, interval, text)

    def relative_gain(self, lesson: Lesson, other: Lesson) -> Finding:
        """Return whether they keep more of their clean accuracy."""
        pairs = [(self.robust(which), self._clean(which)) for which in (lesson, other)]
        table = np.stack([column for pair in pairs for column in pair], axis=1)
        interval = bootstrap(table, lambda v: _ratio(v[:, :2]) - _ratio(v[:, 2:]))
        said = f"of robust over clean accuracy {points(interval)}"
        return Finding(interval.low > 0, interval, f"{self.name}: {other}: loss {said}")

    def half_gain(self, other: Lesson) -> Finding:
        """Return whether another lesson has at most half of what a robust teacher's logits bring."""
        control = self.robust(CONTROL)
        whole, theirs = self.robust(PLAIN) - control, self.robust(other) - control
        if bootstrap(whole).low <= 0:
            raise NotTestedError(f"{self.name}: a robust teacher's logits bring nothing that could be halved")
        interval = bootstrap(whole / 2 - theirs)
        text = (
            f"{other}: gain {percent(theirs.mean())} of {percent(whole.mean())}, half of which exceeds it by"
        )
        return Finding(interval.low > 0, interval, f"{self.name}: {text} {points(interval)}")

    def against_trained(self, lesson: Lesson) -> Finding:
        """Return whether students keep up with networks of their family trained adversarially against their threat."""
        ours, theirs = self.robust(lesson), mean_mask(self.trained(lesson), self.radius)
        interval = bootstrap(ours - theirs)
        text = f"{lesson.method}: {percent(ours.mean())} students, {percent(theirs.mean())} adversarially trained"
        return Finding(
            interval.low > -MARGIN, interval, f"{self.name}, {text}, difference {points(interval)}"
        )

    def trained(self, lesson: Lesson) -> list[RunRecord]:
        """Return the networks of the students' family that were trained adversarially against their threat."""
        students = self.records_of(lesson)
        wanted = {(r.header.model.family, r.header.model.threat) for r in students}
        found = [
            r
            for f in families(self.records)
            for r in f.trained
            if r.header.model.noise == "none" and {(f.name, r.header.model.threat)} == wanted
        ]
        if not found:
            raise NotTestedError(
                f"{self.name}: needs a record of adversarial training against the students' threat"
            )
        refuse_doubtful(found)
        refuse_other_attacks([*students, *found])
        return found

    def records_of(self, lesson: Lesson, *, teachers: bool = False) -> list[RunRecord]:
        """Return the students of a lesson, or their teachers; `NotTestedError` without, or with a doubtful one."""
        found = self.students.get(lesson, [])
        if not found:
            raise NotTestedError(f"{self.name}: needs a student: {lesson}")
        if teachers:
            digests = {r.header.model.teacher.digest for r in found if r.header.model.teacher}
            found = [r for r in self.records if r.header.model.digest in digests]
        refuse_doubtful(found)
        return found

    def _clean(self, lesson: Lesson) -> Array:
        masks: Array = np.mean([r.clean_mask() for r in self.records_of(lesson)], axis=0)
        return masks


def studies(records: Sequence[RunRecord]) -> list[Study]:
    """Return students by their family and by the family and recipe of their robust teachers.

    Students of standard teachers stand beside those of each recipe of the teachers' family. What was taught is known
    where the records of the teacher, and of a second network, are there. Raises `NotTestedError` where there is no
    student, and where samples or attacks differ.
    """
    by = {r.header.model.digest: r for r in records}
    known = [(r, _taught(r, by)) for r in records]
    taught = [(r, *what) for r, what in known if what is not None]
    if not taught:
        raise NotTestedError("needs a student and its teacher's record")
    groups: dict[tuple[str, str], list[tuple[RunRecord, Lesson, str]]] = {}
    for record, lesson, teachers, recipe in taught:
        groups.setdefault((record.header.model.family, teachers), []).append((record, lesson, recipe))
    found = []
    for (family, teachers), members in groups.items():
        recipes = dict.fromkeys(recipe for _, lesson, recipe in members if lesson.teacher == ROBUST) or {
            "": None
        }
        for recipe in recipes:
            own = [(r, lesson) for r, lesson, its in members if lesson.teacher == STANDARD or its == recipe]
            name = f"{family} taught by {', '.join(filter(None, (teachers, recipe)))}"
            found.append(_study(name, own, by))
    return found


def _study(name: str, members: list[tuple[RunRecord, Lesson]], by: dict[str, RunRecord]) -> Study:
    students: dict[Lesson, list[RunRecord]] = {}
    for record, lesson in members:
        students.setdefault(lesson, []).append(record)
    teachers = {t.digest: by[t.digest] for r, _ in members if (t := r.header.model.teacher) is not None}
    compared = [*teachers.values(), *(r for r, _ in members)]
    refuse_other_samples(compared)
    refuse_other_attacks(compared)
    shared = set.intersection(*(set(r.header.threat.headlines) for r in compared))
    if not shared:
        raise NotTestedError(f"{name}: the records share no headline radius")
    return Study(name, students, list(by.values()), max(shared))


def _taught(record: RunRecord, by: dict[str, RunRecord]) -> tuple[Lesson, str, str] | None:
    """Return what a student was taught, with its teacher's family and recipe; None where that is not known."""
    model = record.header.model
    teacher = by.get(model.teacher.digest) if model.teacher else None
    kind = None if teacher is None else _kind(teacher)
    if model.teacher is None or teacher is None or kind is None:
        return None
    second = by.get(model.teacher.other_digest)
    other = None if second is None else _kind(second)
    known, done = teacher.header.model, tuple(model.teacher.manipulations)
    lesson = Lesson(model.objective, kind, done, other, model.teacher.settings)
    return lesson, known.family, f"{known.objective or 'trained'} {known.threat}"


def _kind(teacher: RunRecord) -> Kind | None:
    model = teacher.header.model
    if model.noise != "none":
        return None
    if model.threat != "none":
        return ROBUST
    return STANDARD if is_standard(model) else None


def _each(records: Sequence[RunRecord], rule: Callable[[Study], list[Finding]]) -> list[Finding]:
    """Return the findings of all studies that can be tested; raises the first lack where none can."""
    findings: list[Finding] = []
    lacks: list[NotTestedError] = []
    for study in studies(records):
        try:
            findings += rule(study)
        except NotTestedError as lack:
            lacks.append(lack)
    if not findings:
        raise lacks[0]
    return findings


def _changed(manipulation: str) -> Lesson:
    return Lesson("kd_clean", ROBUST, (manipulation,))


def _ratio(columns: Array) -> float:
    robust, clean = columns.sum(axis=0)
    return float(robust / max(clean, 1e-9))
