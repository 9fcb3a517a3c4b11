"""Students of a teacher by what they were taught: one row a lesson, seeds averaged; no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robustgeom.records import RunRecord
from robustgeom.report.findings import NotTestedError, mean_mask, refuse_other_samples
from robustgeom.report.geometry import Sheet
from robustgeom.report.student_rules import Lesson, lesson_of
from robustgeom.stats import Interval, bootstrap
from robustgeom.words import points

__all__ = ["lesson_sheet"]


def lesson_sheet(records: Sequence[RunRecord], radius: float, place: str) -> Sheet | None:
    """Return students by lesson with clean and robust accuracy at `radius`, called `place`; None without any.

    The difference is to students of the same method and kind of teacher whose logits were left as they are.
    """
    complete = [r for r in records if r.header.status == "complete"]
    found: dict[Lesson, list[RunRecord]] = {}
    for record in complete:
        lesson = lesson_of(record, complete)
        if lesson is not None:
            found.setdefault(lesson, []).append(record)
    try:
        refuse_other_samples([r for group in found.values() for r in group])
    except NotTestedError:
        return None
    if not found:
        return None
    ordered = sorted(found, key=lambda x: (x.method, x.teacher, -mean_mask(found[x], radius).mean()))
    caption = (
        "Students by what they were taught, seeds averaged per sample, with 95 % bootstrap intervals over samples; "
        f"robust accuracy at {place}. Difference: to students of the same method and kind of teacher whose logits "
        "were left alone."
    )
    heads = (
        "method",
        "teacher",
        "done to its logits",
        "seeds",
        "clean",
        "robust",
        "robust / clean",
        "difference",
    )
    return Sheet(caption, heads, tuple(_row(lesson, found, radius) for lesson in ordered))


def _row(lesson: Lesson, found: dict[Lesson, list[RunRecord]], radius: float) -> tuple[str | int, ...]:
    own = found[lesson]
    robust, clean = mean_mask(own, radius), np.mean([r.clean_mask() for r in own], axis=0)
    plain = found.get(Lesson(lesson.method, lesson.teacher))
    ratio = f"{robust.mean() / clean.mean():.2f}" if clean.any() else "none"
    changed = plain and lesson.manipulations
    difference = points(bootstrap(robust - mean_mask(plain, radius))) if changed and plain else ""
    done = ", ".join(lesson.manipulations) or "nothing"
    shares = (_share(bootstrap(v)) for v in (clean, robust))
    return (lesson.method, lesson.teacher, done, len(own), *shares, ratio, difference)


def _share(interval: Interval) -> str:
    return f"{100 * interval.value:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
