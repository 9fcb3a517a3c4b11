"""Rules of claims about vectorised networks, and about learning without backpropagation; no torch.

Networks are told apart by the architecture that their record tells: vectors (`vnn`, with nonnegative or mixed weights)
or scalar units (`mlp`), dense, convolutional or locally connected; and by their objective: backpropagation
(`standard`), global error-vector broadcasting (`gevb`) or direct feedback (`dfa`). Seeds are averaged per sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

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
from robustgeom.stats import bootstrap
from robustgeom.words import percent, points

__all__ = [
    "RULES",
    "Learner",
    "broadcasting_keeps_up",
    "broadcasting_trains_convolutions",
    "has_signals",
    "learners",
    "rule_matters_little",
    "scalars_are_more_robust",
    "signal_stages",
    "signals_align",
    "signals_keep_their_sign",
    "vectors_cost_accuracy",
]

LITTLE = 0.02  # of clean accuracy: what still counts as about as good
ALIKE = 0.05  # of robust accuracy
RIGHT_ANGLE = 90.0  # degrees
OFF = 15.0  # degrees: three seeds of 64 units, half of them open, are off by 6 by chance
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Learner:
    """How a network is built and what trained it; `size` are its maps and hidden units."""

    family: str
    kind: str
    size: str
    units: str
    nonnegative: bool
    rule: str

    def __str__(self) -> str:
        """Return it in words."""
        signs = "" if self.units == "scalars" else "nonnegative " if self.nonnegative else "mixed "
        return f"{self.kind} {signs}{self.units} by {RULES[self.rule]}"


RULES = {"standard": "backpropagation", "gevb": "error broadcasting", "dfa": "direct feedback"}
Learners = dict[Learner, list[RunRecord]]


def broadcasting_keeps_up(records: Sequence[RunRecord]) -> list[Finding]:
    """In nonnegative vectorised networks error broadcasting learns about as well as backpropagation.

    Rule: in every family, of dense and of locally connected ones trained by both, clean accuracy by error broadcasting
    is at most 2 points lower: the 95 % paired bootstrap interval over samples of (broadcasting minus backpropagation
    plus 2 points) lies above 0.
    """
    pairs = _pairs(records, _vectors("gevb"), _vectors("standard"), kinds=("dense", "local"))
    return [_more(a, b, margin=LITTLE) for a, b in pairs]


def broadcasting_trains_convolutions(records: Sequence[RunRecord]) -> list[Finding]:
    """Error broadcasting trains convolutional networks that direct feedback cannot.

    Rule: in every family, convolutional nonnegative vectors trained by error broadcasting have a higher clean accuracy
    than convolutional scalar units trained by direct feedback: the 95 % paired bootstrap interval over samples lies
    above 0.
    """
    return [_more(a, b) for a, b in _pairs(records, _vectors("gevb"), _scalars("dfa"), kinds=("conv",))]


def vectors_cost_accuracy(records: Sequence[RunRecord]) -> list[Finding]:
    """Vectors themselves cost accuracy: trained alike, by backpropagation, scalar units are more accurate.

    Rule: in every family and kind with both, the 95 % paired bootstrap interval over samples of clean accuracy of
    scalar units minus nonnegative vectors lies above 0.
    """
    return [_more(a, b) for a, b in _pairs(records, _scalars("standard"), _vectors("standard"))]


def signals_align(records: Sequence[RunRecord]) -> list[Finding]:
    """Backpropagated signals point where broadcast ones do in nonnegative networks; with mixed weights they learn to.

    Rule: in every family and kind trained by error broadcasting, at every hidden layer: with nonnegative weights the
    mean angle between both is below 90 degrees, untrained and trained; with mixed weights it lies within 15 degrees of
    90 untrained, and below its untrained value once trained. Each 95 % bootstrap interval over samples agrees.
    """
    found = []
    for learner, own in learners(records).items():
        if learner.rule == "gevb" and all(has_signals(r) for r in own):
            for stage in signal_stages(own[0]):
                found += _alignment(learner, own, stage)
    return some(found, "signals of networks trained by error broadcasting (benchmarks/vector_study.py)")


def signals_keep_their_sign(records: Sequence[RunRecord]) -> list[Finding]:
    """Nonnegative weights keep every backpropagated signal from turning negative, and they align as layers widen.

    Rule: in every family and kind of nonnegative networks, trained or not, no signal at all is negative; and in
    untrained ones of growing width the mean angle between backpropagated and broadcast signals at the first layer
    falls from each width to the next: each 95 % bootstrap interval over samples of the fall lies above 0.
    """
    found = []
    for learner, own in learners(records).items():
        if learner.units == "vectors" and learner.nonnegative and all(has_signals(r) for r in own):
            worst = bootstrap([max(r.tables["signals"]["negative"].to_pylist()) for r in own])
            found.append(
                Finding(worst.high == 0, worst, f"{learner}: {percent(worst.value)} negative at most")
            )
            found += _narrowing(learner, own)
    return some(found, "signals of nonnegative networks (benchmarks/vector_study.py)")


def rule_matters_little(records: Sequence[RunRecord]) -> list[Finding]:
    """What trained a network, error broadcasting or backpropagation, makes no difference to its robustness.

    Rule: in every family and kind of nonnegative vectors trained by both, at every headline radius, robust accuracies
    differ by less than 5 points: the 95 % paired bootstrap interval over samples lies within -5 and 5 points. A record
    with a failed check leaves the claim untested.
    """
    found = []
    for (learner, ours), (_, theirs) in _pairs(records, _vectors("gevb"), _vectors("standard")):
        for radius in _comparable(ours, theirs):
            gap = bootstrap(mean_mask(ours, radius) - mean_mask(theirs, radius))
            text = f"{learner} minus backpropagation at {place(ours[0], radius)}: {points(gap)}"
            found.append(Finding(max(-gap.low, gap.high) < ALIKE, gap, text))
    return found


def scalars_are_more_robust(records: Sequence[RunRecord]) -> list[Finding]:
    """Vectorised networks are less robust than scalar ones of the same shape, whatever trained them.

    Rule: in every family and kind with scalar units trained by backpropagation, they are more robust than nonnegative
    vectors trained by either rule at the mildest headline radius: each 95 % paired bootstrap interval over samples lies
    above 0. A record with a failed check leaves the claim untested.
    """
    found = []
    for rule in ("standard", "gevb"):
        for (scalars, ours), (vectors, theirs) in _pairs(records, _scalars("standard"), _vectors(rule)):
            radius = min(_comparable(ours, theirs))
            text = f"{scalars} minus {vectors} at {place(ours[0], radius)}:"
            found.append(above_zero(mean_mask(ours, radius) - mean_mask(theirs, radius), text))
    return found


def learners(records: Sequence[RunRecord]) -> Learners:
    """Return the networks of vectors and their scalar twins that were trained on clean samples, by how."""
    found: Learners = {}
    for record in records:
        if (learner := _learner(record)) is not None:
            found.setdefault(learner, []).append(record)
    return found


def _learner(record: RunRecord) -> Learner | None:
    model = record.header.model
    known = model.architecture is not None and model.architecture.name in ("vnn", "mlp")
    if not known or model.objective not in RULES or model.threat != "none":
        return None
    assert model.architecture is not None
    given: dict[str, Any] = model.architecture.arguments
    vectors = model.architecture.name == "vnn"
    kind = given.get("kind", "dense") if vectors else "conv" if given.get("maps") else "dense"
    nonnegative = vectors and given.get("nonnegative", True)
    sizes = ["-".join(map(str, given[key])) for key in ("maps", "hidden") if given.get(key)]
    size = ", ".join(sizes + ([f"stride {given['stride']}"] if given.get("stride", 1) > 1 else []))
    return Learner(
        model.family, kind, size, "vectors" if vectors else "scalars", nonnegative, model.objective
    )


def _vectors(rule: str) -> tuple[str, bool, str]:
    return ("vectors", True, rule)


def _scalars(rule: str) -> tuple[str, bool, str]:
    return ("scalars", False, rule)


Group = tuple[Learner, list[RunRecord]]


def _pairs(
    records: Sequence[RunRecord],
    ours: tuple[str, bool, str],
    theirs: tuple[str, bool, str],
    *,
    kinds: tuple[str, ...] = ("dense", "conv", "local"),
) -> list[tuple[Group, Group]]:
    """Return networks of the same family and kind that were built and trained in these two ways."""
    known, found = learners(records), []
    for family, kind, size in sorted({(x.family, x.kind, x.size) for x in known if x.kind in kinds}):
        pair = [Learner(family, kind, size, *way) for way in (ours, theirs)]
        groups = [(learner, known[learner]) for learner in pair if learner in known]
        if len(groups) == 2:
            refuse_other_samples([r for _, own in groups for r in own])
            found.append((groups[0], groups[1]))
    if not found:
        kind = kinds[0] if len(kinds) == 1 else ""
        ways = " and ".join(str(Learner("", kind, "", *way)).strip() for way in (ours, theirs))
        raise NotTestedError(f"needs {ways}, of one family and size")
    return found


def _more(ours: Group, theirs: Group, *, margin: float = 0.0) -> Finding:
    """Return whether one is more accurate than the other on clean samples, `margin` given."""
    right = [shares(own, 0.0) for _, own in (ours, theirs)]
    said = [f"{percent(r.mean())} {learner}" for r, (learner, _) in zip(right, (ours, theirs), strict=True)]
    plus = f" plus {100 * margin:g} points" if margin else ""
    return above_zero(
        right[0] - right[1] + margin, f"{ours[0].family}: {said[0]}, {said[1]}; difference{plus}"
    )


def _comparable(*groups: list[RunRecord]) -> list[float]:
    """Return the headline radii that all share; raise unless all met the same attacks and none has a failed check."""
    together = [r for own in groups for r in own]
    refuse_doubtful(together)
    refuse_other_attacks(together)
    shared = sorted(set.intersection(*(set(r.header.threat.headlines) for r in together)))
    if not shared:
        raise NotTestedError(f"needs headline radii that {', '.join(r.name for r in together)} share")
    return shared


def has_signals(record: RunRecord) -> bool:
    """Return whether the signals of a network's units came with its record."""
    return "signals" in record.tables and record.tables["signals"].num_rows > 0


def signal_stages(record: RunRecord) -> list[str]:
    """Return the hidden layers whose signals were measured, in order."""
    rows = record.tables["signals"].to_pylist()
    return list(dict.fromkeys(row["stage"] for row in rows if row["state"] == "trained"))


def _angles(records: list[RunRecord], state: str, stage: str, width: int = 0) -> Array:
    """Return the angle of each sample (n,) in degrees, seeds averaged."""
    each = []
    for record in records:
        rows = record.tables["signals"].to_pylist()
        wanted = {
            r["sample_id"]: r["angle"]
            for r in rows
            if (r["state"], r["stage"], r["width"]) == (state, stage, width)
        }
        each.append(wanted)
    shared = sorted(set.intersection(*(set(e) for e in each)))
    if not shared:
        raise NotTestedError(f"needs signals of {records[0].name}, {state}, at {stage}")
    return np.array([np.mean([e[i] for e in each]) for i in shared])


def _alignment(learner: Learner, own: list[RunRecord], stage: str) -> list[Finding]:
    before, after = (_angles(own, state, stage) for state in ("untrained", "trained"))
    text = f"{learner} at {stage}"
    if learner.nonnegative:
        pairs = (("untrained", before), ("trained", after))
        return [
            above_zero(RIGHT_ANGLE - v, f"{text}: {v.mean():.0f} degrees {s}, below 90 by") for s, v in pairs
        ]
    start = bootstrap(before)
    near = abs(start.low - RIGHT_ANGLE) <= OFF and abs(start.high - RIGHT_ANGLE) <= OFF
    return [
        Finding(near, start, f"{text}: {start.value:.0f} degrees untrained"),
        above_zero(before - after, f"{text}: {after.mean():.0f} degrees trained, less than untrained by"),
    ]


def _narrowing(learner: Learner, own: list[RunRecord]) -> list[Finding]:
    """Return whether angles at the first layer of untrained networks fall as they widen, where that was measured."""
    rows = own[0].tables["signals"].to_pylist()
    widths = sorted({row["width"] for row in rows if row["width"]})
    first = signal_stages(own[0])[0]
    by = {width: _angles(own, "untrained", first, width) for width in widths}
    return [
        above_zero(
            by[a] - by[b], f"{learner}, untrained, {a} to {b} units at {first}: the angle falls by (degrees)"
        )
        for a, b in pairwise(widths)
    ]
