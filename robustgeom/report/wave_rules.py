"""Rules of claims about encoders that learned from retinal waves; no torch.

Encoders are told apart as in `embedding_rules`: by the objective `wave_contrast` and the data, real waves or a shuffled
control; an encoder that learned nothing is the yardstick. All is measured at the features that the probe reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from robustgeom.records import RunRecord
from robustgeom.report.embedding_rules import NOTHING, Encoders, encoders, robust_where_both_are_right
from robustgeom.report.findings import Finding, NotTestedError, above_zero, shares, some
from robustgeom.report.stimuli import Stimuli, on_the_same, stimuli
from robustgeom.stats import bootstrap
from robustgeom.words import points

__all__ = [
    "shuffles_lose_the_gain",
    "waves_help_classes_little",
    "waves_leave_contrasts",
    "waves_resist_attacks",
    "waves_resist_shifts",
    "waves_shrink_translations",
    "waves_tell_images_apart",
]

REAL = "wave_contrast on retinal-waves"
SHUFFLED = f"{REAL}-shuffled"
WIDE, NARROW, LIGHT = "wide-translations", "translations", "contrasts"
LEAST = 0.1  # of accuracy: what counts as a large gain
Array = NDArray[np.float64]


def waves_tell_images_apart(records: Sequence[RunRecord]) -> list[Finding]:
    """Learning from waves helps greatly to tell which image it is wherever it is moved to.

    Rule: in every family with both, a linear read-out of the features names the image of a version moved by up to half
    a side at least 10 points more often than one of an encoder that learned nothing: the 95 % paired bootstrap interval
    over images of (waves minus nothing minus 10 points) lies above 0.
    """
    found = []
    for name, own in _families(records):
        gain = _gain(own, REAL)
        text = (
            f"{name}: {points(bootstrap(gain))} more versions named than with nothing learned, less 10 points"
        )
        found.append(above_zero(gain - LEAST, text))
    return some(found, _WANTED)


def waves_help_classes_little(records: Sequence[RunRecord]) -> list[Finding]:
    """Learning from waves helps to tell kinds of things apart, but less than to tell moved images apart.

    Rule: in every family with both, the probe's clean accuracy is higher after waves than after nothing (95 % paired
    bootstrap interval over samples above 0), and the gain lies below that in naming moved images: its interval ends
    below where that one begins.
    """
    found = []
    for name, own in _families(records):
        kinds = bootstrap(shares(own[REAL], 0.0) - shares(own[NOTHING], 0.0))
        images = bootstrap(_gain(own, REAL))
        text = f"{name}: {points(kinds)} of clean accuracy, {points(images)} of moved images"
        found.append(Finding(kinds.low > 0 and kinds.high < images.low, kinds, text))
    return some(found, _WANTED)


def waves_shrink_translations(records: Sequence[RunRecord]) -> list[Finding]:
    """The manifold of an image's translations has more capacity, a smaller radius and fewer dimensions after waves.

    Rule: in every family with both, of translations by up to a tenth of a side, at the features: capacity is larger,
    mean-field radius and dimension are smaller than after nothing. Each 95 % paired bootstrap interval over images lies
    above 0.
    """
    found = []
    for name, own in _families(records):
        waves, nothing = _measured(own, REAL)
        for measure, sign in (("capacity", 1), ("radius", -1), ("dimension", -1)):
            more = _at(waves, measure, NARROW) - _at(nothing, measure, NARROW)
            word = "more" if sign > 0 else "less"
            found.append(above_zero(sign * more, f"{name}: {measure} of translations, {word} after waves by"))
    return some(found, _WANTED)


def waves_leave_contrasts(records: Sequence[RunRecord]) -> list[Finding]:
    """What waves do to the manifolds of an image's contrasts is little, beside what they do to its translations.

    Rule: in every family with both, at the features, the log of the ratio of capacities, waves over nothing, is larger
    for translations than it is, up or down, for contrasts: the 95 % paired bootstrap interval over images lies above 0.
    """
    found = []
    for name, own in _families(records):
        waves, nothing = _measured(own, REAL)
        moved, lit = (
            np.log(_at(waves, "capacity", kind) / _at(nothing, "capacity", kind)) for kind in (NARROW, LIGHT)
        )
        text = f"{name}: log ratio of capacities {moved.mean():.3g} of translations, {lit.mean():.3g} of contrasts"
        found.append(above_zero(moved - np.abs(lit), f"{text}, the one less the other's size"))
    return some(found, _WANTED)


def shuffles_lose_the_gain(records: Sequence[RunRecord]) -> list[Finding]:
    """Waves whose frames or cells are shuffled give no such gain.

    Rule: in every family with both, for each shuffled control, its gain in naming images moved by up to half a side is
    below half that of real waves, and real waves give one: the 95 % paired bootstrap intervals over images of the real
    gain, and of half of it minus the control's, lie above 0.
    """
    found = []
    for name, own in _families(records):
        for lesson in (known for known in own if known.startswith(SHUFFLED)):
            gains = _gain(own, REAL, lesson), _gain(own, lesson, REAL)
            text = f"{name}: gain {points(bootstrap(gains[0]))} by waves, {points(bootstrap(gains[1]))} by"
            found.append(above_zero(gains[0], f"{text} {lesson}; the one"))
            found.append(above_zero(gains[0] / 2 - gains[1], "half of it minus the other"))
    return some(found, "networks with a probe on encoders of waves and of shuffled waves (zoo/waves.toml)")


def waves_resist_shifts(records: Sequence[RunRecord]) -> list[Finding]:
    """Learning from waves makes a network more robust to being shown an image elsewhere.

    Rule: in every family with both, under spatial attacks, at every headline radius, of the samples that all seeds of
    both get right without attack, more stay right than after nothing: the 95 % paired bootstrap interval over these
    samples lies above 0. A record with a failed check leaves the claim untested.
    """
    return _standing(records, "spatial", "under spatial attacks")


def waves_resist_attacks(records: Sequence[RunRecord]) -> list[Finding]:
    """Learning from waves makes a network more robust to small changes of any pixel, too.

    Rule: in every family with both, under attacks within linf, at every headline radius, of the samples that all seeds
    of both get right without attack, more stay right than after nothing: the 95 % paired bootstrap interval over these
    samples lies above 0. A record with a failed check leaves the claim untested.
    """
    return _standing(records, "linf", "attacked within linf")


def _standing(records: Sequence[RunRecord], norm: str, attacked: str) -> list[Finding]:
    found = []
    for name, own in _families([r for r in records if r.header.threat.norm == norm]):
        found += robust_where_both_are_right(name, own, REAL, NOTHING)
    return some(found, f"{_WANTED}, {attacked}")


_WANTED = "networks with a probe on an encoder of waves and on one that learned nothing (zoo/waves.toml)"


def _families(records: Sequence[RunRecord]) -> Iterator[tuple[str, Encoders]]:
    """Yield the families with encoders of real waves and ones that learned nothing."""
    for name, own in encoders(records).items():
        if REAL in own and NOTHING in own:
            yield name, own


def _measured(own: Encoders, *lessons: str) -> list[Stimuli]:
    """Return what encoders of these lessons, then those of nothing, make of the images that all were shown."""
    return on_the_same(*(stimuli(own[lesson]) for lesson in (*lessons, NOTHING)))


def _gain(own: Encoders, lesson: str, *others: str) -> Array:
    """Return how much more often an encoder's features name each moved image than an untaught one's.

    On the images that `others` were shown too.
    """
    found = _measured(own, lesson, *others)
    return _at(found[0], "identification", WIDE) - _at(found[-1], "identification", WIDE)


def _at(found: Stimuli, measure: str, condition: str) -> Array:
    values = found.values(measure, found.hidden, condition)
    if measure == "capacity" and not (values > 0).all():
        raise NotTestedError(f"{found.records[0].name} has capacities of {condition} that are not above 0")
    return values
