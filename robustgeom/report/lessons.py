"""Students of a teacher by what they were taught: one row a lesson, seeds averaged; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from robustgeom.records import RunRecord
from robustgeom.report.findings import NotTestedError, mean_mask
from robustgeom.report.geometry import Sheet
from robustgeom.report.student_rules import ATTACKING, Lesson, Study, studies
from robustgeom.stats import bootstrap
from robustgeom.words import percent, points, share_text

__all__ = ["lesson_sheets"]

HEADS = (
    "method",
    "teacher",
    "done to its logits",
    "seeds",
    "clean",
    "robust",
    "robust / clean",
    "difference",
)


def lesson_sheets(records: Sequence[RunRecord]) -> list[tuple[str, Sheet, list[str]]]:
    """Return a table a study with clean and robust accuracy by lesson; none where students cannot be compared.

    The difference is to students of the same method and kind of teacher whose logits were left as they are. With it
    come sentences about students that were taught on attacked inputs beside adversarially trained networks.
    """
    complete = [r for r in records if r.header.status == "complete"]
    try:
        return [(study.name, _sheet(study), _beside_trained(study)) for study in studies(complete)]
    except NotTestedError:
        return []


def _beside_trained(study: Study) -> list[str]:
    """Say how students and their teachers compare with networks of the students' size trained adversarially."""
    found = []
    for lesson in study.students:
        if lesson.method in ATTACKING and not lesson.manipulations:
            with suppress(NotTestedError):
                found.append(_comparison(study, lesson))
    return found


def _comparison(study: Study, lesson: Lesson) -> str:
    trained, teachers = study.trained(lesson), study.records_of(lesson, teachers=True)
    theirs = mean_mask(trained, study.radius)
    ours, lead = study.robust(lesson), bootstrap(study.robust(lesson) - theirs)
    names = ", ".join(r.name for r in trained)
    words = "behind" if lead.high < 0 else "ahead of" if lead.low > 0 else "not measurably apart from"
    text = f"Students by {lesson.training} are {words} adversarial training of their own family ({names}): "
    text += f"{percent(ours.mean())} against {percent(theirs.mean())}, difference {points(lead)}. "
    if {r.header.model.digest for r in teachers} == {r.header.model.digest for r in trained}:
        return f"{text}Those networks are their teachers."
    above = mean_mask(teachers, study.radius)
    ahead = bootstrap(above - theirs)
    text += (
        f"Their teachers keep {percent(above.mean())}, a difference of {points(ahead)} from those networks"
    )
    return f"{text}: no measurable lead to pass on." if ahead.low <= 0 else f"{text}."


def _sheet(study: Study) -> Sheet:
    masks = {lesson: mean_mask(own, study.radius) for lesson, own in study.students.items()}
    ordered = sorted(masks, key=lambda x: (x.method, x.teacher, -masks[x].mean()))
    caption = (
        "Students by what they were taught, seeds averaged per sample, with 95 % bootstrap intervals over samples; "
        f"robust accuracy at {study.place.rpartition(', ')[2]}. Difference: to students of the same method and kind of "
        "teacher whose logits were left alone."
    )
    return Sheet(caption, HEADS, tuple(_row(lesson, study, masks) for lesson in ordered))


def _row(lesson: Lesson, study: Study, masks: dict[Lesson, np.ndarray]) -> tuple[str | int, ...]:
    own, robust = study.students[lesson], masks[lesson]
    clean = np.mean([r.clean_mask() for r in own], axis=0)
    plain = masks.get(replace(lesson, manipulations=(), other=None))
    ratio = f"{robust.mean() / clean.mean():.2f}" if clean.any() else "none"
    changed = plain is not None and lesson.manipulations
    difference = points(bootstrap(robust - plain)) if changed else ""
    done = ", ".join(lesson.manipulations) or "nothing"
    shares = (share_text(bootstrap(v)) for v in (clean, robust))
    return (lesson.training, lesson.teacher, done, len(own), *shares, ratio, difference)
