"""Rules of claims about encoders that learned without labels and were given a linear probe; no torch.

What an encoder learned first is what its record's objective tells before ", then": such as "mmcr on fashion-mnist".
An objective `linear_probe` alone is an encoder that learned nothing, drawn anew for each probe; what learned something
is one encoder for all its probes. Seeds of the probe are averaged per sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from robustgeom.records import RunRecord
from robustgeom.report.findings import (
    Finding,
    NotTestedError,
    above_zero,
    mean_mask,
    place,
    refuse_doubtful,
    refuse_other_attacks,
    refuse_other_samples,
    shares,
    some,
)
from robustgeom.report.stimuli import on_the_same, stimuli
from robustgeom.stats import bootstrap
from robustgeom.words import percent, points

__all__ = [
    "NOTHING",
    "attacked_views_help",
    "capacity_compresses_views",
    "capacity_is_more_robust",
    "encoders",
    "more_views_help",
    "probes_are_as_accurate",
    "robust_where_both_are_right",
    "views_make_smaller_manifolds",
]

NOTHING = "nothing"
CAPACITY, CONTROLS, ATTACKED = "mmcr", ("barlow_twins", "simclr"), "adversarial_mmcr"
NEAR = 0.02  # of clean accuracy: what still counts as about as accurate
VIEWS = "views"
Array = NDArray[np.float64]
Encoders = dict[str, list[RunRecord]]


def capacity_is_more_robust(records: Sequence[RunRecord]) -> list[Finding]:
    """Maximum manifold capacity representations are more robust than SimCLR's and Barlow Twins'.

    Rule: in every family with both, against each control and at every headline radius, of the samples that all seeds
    of both get right without attack, more stay right under attack: the 95 % paired bootstrap interval over these
    samples lies above 0. That is how a lead in clean accuracy does not pass for one in robustness. A record with a
    failed check leaves the claim untested.
    """
    found = []
    for name, own, ours, control in _against_controls(records):
        found += robust_where_both_are_right(name, own, ours, control)
    return some(found, "networks with a probe on mmcr and on simclr or barlow_twins, of one family")


def probes_are_as_accurate(records: Sequence[RunRecord]) -> list[Finding]:
    """A linear probe on maximum manifold capacity representations is about as accurate as on the controls'.

    Rule: in every family with both, against each control, clean accuracy is at most 2 points lower: the 95 % paired
    bootstrap interval over samples of (mmcr minus the control plus 2 points) lies above 0.
    """
    found = []
    for name, own, ours, control in _against_controls(records):
        gap = _clean(own[ours]) - _clean(own[control])
        text = f"{name}: {ours} minus {control} {points(bootstrap(gap))}, clean, with 2 points more"
        found.append(above_zero(gap + NEAR, text))
    return some(found, "networks with a probe on mmcr and on simclr or barlow_twins, of one family")


def more_views_help(records: Sequence[RunRecord]) -> list[Finding]:
    """More views of an image make maximum manifold capacity representations better.

    Rule: in every family with `mmcr` of its usual four views and of two, given as many passes, clean accuracy with four
    is higher: the 95 % paired bootstrap interval over samples lies above 0.
    """
    found = []
    for name, own in encoders(records).items():
        fewer = [lesson for lesson in own if lesson.startswith(f"{CAPACITY}:views=2 ")]
        for few in fewer:
            for ours in _of(own, CAPACITY):
                gap = bootstrap(_clean(own[ours]) - _clean(own[few]))
                text = f"{name}: four views minus two {points(gap)} of clean accuracy"
                found.append(Finding(gap.low > 0, gap, text))
    return some(found, "networks with a probe on mmcr of four views and of two")


def views_make_smaller_manifolds(records: Sequence[RunRecord]) -> list[Finding]:
    """An image's views make a smaller manifold of fewer dimensions and more capacity than in the controls.

    Rule: in every family with both, against each control, at the features, of the manifolds of single images' views:
    mean-field radius and dimension are smaller and capacity is larger. Each 95 % paired bootstrap interval over images
    lies above 0.
    """
    found = []
    for name, own, ours, control in _against_controls(records):
        found += _smaller(name, own, ours, control)
    return some(found, "analysed networks with a probe on mmcr and on simclr or barlow_twins")


def capacity_compresses_views(records: Sequence[RunRecord]) -> list[Finding]:
    """Without a term that asks for it, an image's views come closer together.

    Rule: in every family with both, at the features, the radius of the manifold of an image's views is smaller after
    `mmcr` than in an encoder that learned nothing: the 95 % paired bootstrap interval over images lies above 0.
    """
    found = []
    for name, own in encoders(records).items():
        for ours in _of(own, CAPACITY) if NOTHING in own else ():
            found += _less(name, own, ours, NOTHING, ("radius",))
    return some(found, "analysed networks with a probe on mmcr and on an encoder that learned nothing")


def attacked_views_help(records: Sequence[RunRecord]) -> list[Finding]:
    """Attacked views among an image's views make its representation more robust.

    Rule: in every family with both, at every headline radius, of the samples that all seeds of both get right without
    attack, more stay right under attack than with `mmcr` alone: the 95 % paired bootstrap interval over these samples
    lies above 0. A record with a failed check leaves the claim untested.
    """
    found = []
    for name, own in encoders(records).items():
        for ours in (lesson for lesson in own if lesson.split(":")[0].split(" ")[0] == ATTACKED):
            for control in _of(own, CAPACITY):
                found += robust_where_both_are_right(name, own, ours, control)
    return some(found, "networks with a probe on mmcr and on adversarial_mmcr, of one family")


def encoders(records: Sequence[RunRecord]) -> dict[str, Encoders]:
    """Return networks with a frozen encoder and a probe by family, and in it by what the encoder learned."""
    found: dict[str, Encoders] = {}
    for record in records:
        model = record.header.model
        first, _, then = model.objective.rpartition(", then ")
        if then == "linear_probe":
            found.setdefault(model.family, {}).setdefault(first or NOTHING, []).append(record)
    for own in found.values():
        refuse_other_samples([r for group in own.values() for r in group])
    return found


def robust_where_both_are_right(name: str, own: Encoders, ours: str, control: str) -> list[Finding]:
    """Return, at every headline radius, that more samples stand with one encoder than with another.

    Of those that all seeds of both get right clean. Raises `NotTestedError` where attacks differ, a check failed or
    fewer than two samples are left.
    """
    refuse_doubtful([*own[ours], *own[control]])
    refuse_other_attacks([*own[ours], *own[control]])
    right = np.all([mean_mask(own[lesson], 0.0) == 1 for lesson in (ours, control)], axis=0)
    if right.sum() < 2:
        raise NotTestedError(
            f"{name}: no two samples are right without attack with {ours} and with {control}"
        )
    found = []
    for radius in own[ours][0].header.threat.headlines:
        each = [mean_mask(own[lesson], radius)[right] for lesson in (ours, control)]
        gap = bootstrap(each[0] - each[1])
        text = f"{name}, {place(own[ours][0], radius)}: {ours} keeps {percent(each[0].mean())}"
        text += f" of {right.sum()} samples, {control} {percent(each[1].mean())}, difference {points(gap)}"
        found.append(Finding(gap.low > 0, gap, text))
    return found


def _against_controls(records: Sequence[RunRecord]) -> Iterator[tuple[str, Encoders, str, str]]:
    """Yield families' names and encoders, with a lesson of maximum manifold capacity and one of a control."""
    for name, own in encoders(records).items():
        for control in _of(own, *CONTROLS):
            for ours in _of(own, CAPACITY):
                yield name, own, ours, control


def _of(own: Encoders, *objectives: str) -> list[str]:
    """Return the lessons by these objectives with their usual settings."""
    return [lesson for lesson in own if lesson.split(" ", 1)[0] in objectives]


def _clean(records: list[RunRecord]) -> Array:
    return shares(records, 0.0)


def _smaller(name: str, own: Encoders, ours: str, control: str) -> list[Finding]:
    found = _less(name, own, ours, control, ("radius", "dimension"))
    one, other = on_the_same(stimuli(own[ours]), stimuli(own[control]))
    more = one.values("capacity", one.hidden, VIEWS) - other.values("capacity", other.hidden, VIEWS)
    return [*found, above_zero(more, f"{name}: capacity of views, {ours} minus {control}")]


def _less(name: str, own: Encoders, ours: str, control: str, measures: tuple[str, ...]) -> list[Finding]:
    one, other = on_the_same(stimuli(own[ours]), stimuli(own[control]))
    return [
        above_zero(
            other.values(measure, other.hidden, VIEWS) - one.values(measure, one.hidden, VIEWS),
            f"{name}: {measure} of views, {control} minus {ours}",
        )
        for measure in measures
    ]
