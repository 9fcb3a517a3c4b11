"""Rules of claims about students that were taught on clean inputs, with the teacher's logits manipulated; no torch.

Students are told apart by the kind of their teacher (standard or adversarially trained, by the record of the teacher
that is compared beside them) and by what was done to its logits. Seeds are averaged per sample.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from robustgeom.stats import Interval, bootstrap
from robustgeom.words import percent, points, radius_text

__all__ = [
    "Lesson",
    "clean_lessons_help",
    "lesson_of",
    "robust_distillation_keeps_up",
    "sample_confidence_matters",
    "shrinkage_is_not_enough",
    "simple_distributions_fail",
    "students_stay_below",
    "wrong_classes_matter",
]

Kind = Literal["standard", "adversarially trained"]
Array = NDArray[np.float64]
STANDARD: Kind = "standard"
ROBUST: Kind = "adversarially trained"


@dataclass(frozen=True)
class Lesson:
    """What a student was taught: by which method and kind of teacher, and with what done to its logits."""

    method: str
    teacher: Kind
    manipulations: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return it in words."""
        done = ", ".join(self.manipulations) or "its logits as they are"
        return f"{self.method}, {self.teacher} teacher, {done}"


PLAIN = Lesson("kd_clean", ROBUST)
CONTROL = Lesson("kd_clean", STANDARD)
LABELS = Lesson("kd_clean", ROBUST, ("one_hot",))


def clean_lessons_help(records: Sequence[RunRecord]) -> list[Finding]:
    """Students of a robust teacher are somewhat robust though no input was perturbed.

    Rule: at the strictest headline radius that all share, students of adversarially trained teachers are more robust
    than ones taught by labels alone and than students of standard teachers: both 99.7 % paired bootstrap intervals
    over samples (three standard errors) lie above 0. A record with a failed check leaves the claim untested.
    """
    study = _study(records)
    return [study.gain(PLAIN, other, confidence=0.997) for other in (LABELS, CONTROL)]


def students_stay_below(records: Sequence[RunRecord]) -> list[Finding]:
    """Students that were taught on clean inputs stay less robust than their teachers.

    Rule: at the strictest headline radius that all share, the 95 % paired bootstrap interval over samples of teachers
    minus students lies above 0. A record with a failed check leaves the claim untested.
    """
    study = _study(records)
    interval = bootstrap(study.robust(PLAIN, teachers=True) - study.robust(PLAIN))
    return [Finding(interval.low > 0, interval, f"{study.place}: teachers minus students {points(interval)}")]


def wrong_classes_matter(records: Sequence[RunRecord]) -> list[Finding]:
    """What the teacher says of wrong classes is needed.

    Rule: at the strictest headline radius that all share, students of adversarially trained teachers lose robustness
    where the other classes are made uniform (confidence kept), permuted alike for each class, or reversed: the 95 %
    paired bootstrap intervals over samples lie above 0, of robust accuracy and of robust over clean accuracy (so that
    it is not only the clean accuracy that is lost). A record with a failed check leaves the claim untested.
    """
    study = _study(records)
    others = [_changed(m) for m in ("uniform_rest:keep=confidence", "permute_rest:per=class", "reverse_rest")]
    return [f(PLAIN, other) for other in others for f in (study.gain, study.relative_gain)]


def shrinkage_is_not_enough(records: Sequence[RunRecord]) -> list[Finding]:
    """Small gaps alone do not make a student robust.

    Rule: at the strictest headline radius that all share, students of standard teachers whose logits have the gaps of
    adversarially trained ones, on average or in distribution, and students of labels smoothed to their confidence
    have at most half the gain over students of standard teachers that those of adversarially trained teachers have:
    the 95 % paired bootstrap interval over samples of half that gain minus theirs lies above 0. A record with a
    failed check leaves the claim untested.
    """
    study = _study(records)
    matched = [Lesson("kd_clean", STANDARD, (m,)) for m in ("match_gap", "match_gap_distribution")]
    return [study.half_gain(other) for other in (*matched, _changed("smoothed_label"))]


def sample_confidence_matters(records: Sequence[RunRecord]) -> list[Finding]:
    """How sure the teacher is of each single sample is needed.

    Rule: at the strictest headline radius that all share, students of adversarially trained teachers lose robustness
    where all samples get the mean probabilities in their own order of classes, or another sample's of the same
    prediction: the 95 % paired bootstrap intervals over samples lie above 0. A record with a failed check leaves the
    claim untested.
    """
    study = _study(records)
    return [study.gain(PLAIN, _changed(m)) for m in ("mean_profile", "swap_profiles")]


def simple_distributions_fail(records: Sequence[RunRecord]) -> list[Finding]:
    """Logits drawn from simple distributions do not suffice.

    Rule: at the strictest headline radius that all share, students of adversarially trained teachers lose robustness
    where logits are the mean of the predicted class, or drawn from its Gaussian: the 95 % paired bootstrap intervals
    over samples lie above 0. A record with a failed check leaves the claim untested.
    """
    study = _study(records)
    return [study.gain(PLAIN, _changed(m)) for m in ("class_mean", "class_gaussian")]


def robust_distillation_keeps_up(records: Sequence[RunRecord]) -> list[Finding]:
    """A student that is taught on attacked inputs is as robust as one of its size that was trained adversarially.

    Rule: at the strictest headline radius that all share, for each of ard, rslad and adaad that has students, the 95 %
    paired bootstrap interval over samples of students minus adversarially trained networks of the students' family
    reaches 0 or more. A record with a failed check leaves the claim untested.
    """
    study = _study(records)
    methods = [m for m in ("ard", "rslad", "adaad") if Lesson(m, ROBUST) in study.students]
    if not methods:
        raise NotTestedError("needs a student taught by ard, rslad or adaad, and its teacher's record")
    return [study.against_trained(Lesson(m, ROBUST)) for m in methods]


def lesson_of(record: RunRecord, records: Sequence[RunRecord]) -> Lesson | None:
    """Return what a student was taught; None without a teacher whose own record is among `records`."""
    model = record.header.model
    if model.teacher is None:
        return None
    for other in records:
        if other.header.model.digest == model.teacher.digest:
            kind = _kind(other)
            return kind and Lesson(model.objective, kind, tuple(model.teacher.manipulations))
    return None


@dataclass(frozen=True)
class _Study:
    """Students by lesson, the records of their teachers, and the radius at which all are compared."""

    students: dict[Lesson, list[RunRecord]]
    records: list[RunRecord]
    radius: float

    @property
    def place(self) -> str:
        """Where robust accuracies are compared."""
        norm = self.records[0].header.threat.norm
        return f"{norm} {radius_text(self.radius, norm)}"

    def robust(self, lesson: Lesson, *, teachers: bool = False) -> Array:
        """Return the share of seeds (n,) in which each sample is robust: of the students, or of their teachers."""
        return mean_mask(self._records(lesson, teachers), self.radius)

    def gain(self, lesson: Lesson, other: Lesson, *, confidence: float = 0.95) -> Finding:
        """Return whether students of one lesson are more robust than those of another."""
        ours, theirs = self.robust(lesson), self.robust(other)
        interval = bootstrap(ours - theirs, confidence=confidence)
        return Finding(interval.low > 0, interval, self._text(lesson, other, (ours, theirs), interval))

    def relative_gain(self, lesson: Lesson, other: Lesson) -> Finding:
        """Return whether they keep more of their clean accuracy."""
        pairs = [(self.robust(which), self._clean(which)) for which in (lesson, other)]
        table = np.stack([column for pair in pairs for column in pair], axis=1)
        interval = bootstrap(table, lambda v: _ratio(v[:, :2]) - _ratio(v[:, 2:]))
        said = f"of robust over clean accuracy {points(interval)}"
        return Finding(interval.low > 0, interval, f"{other}: loss {said}")

    def half_gain(self, other: Lesson) -> Finding:
        """Return whether another lesson has at most half of what a robust teacher's logits bring."""
        control = self.robust(CONTROL)
        whole, theirs = self.robust(PLAIN) - control, self.robust(other) - control
        interval = bootstrap(whole / 2 - theirs)
        text = (
            f"{other}: gain {percent(theirs.mean())} of {percent(whole.mean())}, half of which exceeds it by"
        )
        return Finding(interval.low > 0, interval, f"{text} {points(interval)}")

    def against_trained(self, lesson: Lesson) -> Finding:
        """Return whether students are as robust as adversarially trained networks of their family."""
        names = {r.header.model.family for r in self.students[lesson]}
        trained = [r for f in families(self.records) if f.name in names for r in f.trained]
        if not trained:
            raise NotTestedError(f"needs an adversarially trained record of {', '.join(sorted(names))}")
        refuse_doubtful(trained)
        ours, theirs = self.robust(lesson), mean_mask(trained, self.radius)
        interval = bootstrap(ours - theirs)
        text = f"{lesson.method}: {percent(ours.mean())} students, {percent(theirs.mean())} adversarially trained"
        return Finding(interval.high >= 0, interval, f"{text}, difference {points(interval)}")

    def _records(self, lesson: Lesson, teachers: bool = False) -> list[RunRecord]:
        found = self.students.get(lesson, [])
        if not found:
            raise NotTestedError(f"needs a student: {lesson}")
        if teachers:
            digests = {r.header.model.teacher.digest for r in found if r.header.model.teacher}
            found = [r for r in self.records if r.header.model.digest in digests]
        refuse_doubtful(found)
        return found

    def _clean(self, lesson: Lesson) -> Array:
        masks: Array = np.mean([r.clean_mask() for r in self._records(lesson)], axis=0)
        return masks

    @staticmethod
    def _text(lesson: Lesson, other: Lesson, both: tuple[Array, Array], interval: Interval) -> str:
        shares = " against ".join(percent(v.mean()) for v in both)
        return f"{lesson} against {other}: {shares}, difference {points(interval)}"


def _kind(teacher: RunRecord) -> Kind | None:
    model = teacher.header.model
    if model.threat != "none":
        return ROBUST
    return STANDARD if is_standard(model) and model.noise == "none" else None


def _changed(manipulation: str) -> Lesson:
    return Lesson("kd_clean", ROBUST, (manipulation,))


def _ratio(columns: Array) -> float:
    robust, clean = columns.sum(axis=0)
    return float(robust / max(clean, 1e-9))


def _study(records: Sequence[RunRecord]) -> _Study:
    students: dict[Lesson, list[RunRecord]] = {}
    for record in records:
        lesson = lesson_of(record, records)
        if lesson is not None:
            students.setdefault(lesson, []).append(record)
    if not students:
        raise NotTestedError("needs a student and its teacher's record")
    everyone = list(records)
    refuse_other_samples(everyone)
    refuse_other_attacks(everyone)
    shared = set.intersection(*(set(r.header.threat.headlines) for r in everyone))
    if not shared:
        raise NotTestedError("the records share no headline radius")
    return _Study(students, everyone, max(shared))
