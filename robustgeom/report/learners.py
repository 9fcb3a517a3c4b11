"""Networks with hard gates: by what trained them, one row a kind, seeds averaged; and beside their limits; no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robustgeom.records import RunRecord
from robustgeom.report.encoder_sheets import encoder_sheets
from robustgeom.report.findings import mean_mask, place, shares
from robustgeom.report.gate_rules import attacked_softly, fell_only, spelled
from robustgeom.report.geometry import Sheet
from robustgeom.report.gln_rules import has_limits, limit_rows
from robustgeom.report.vector_rules import RULES, Learner, has_signals, learners, signal_stages
from robustgeom.stats import bootstrap
from robustgeom.words import percent, points, share_text

__all__ = ["gate_sheets", "hidden_sheets", "learner_sheets", "limit_sheets"]

FOUND = ("seeds", "clean", "robust by plain attacks", "robust", "hidden by gates")
HEADS = ("layers", "units", "trained by", *FOUND)
SIGNALS = ("layers", "units", "trained by", "layer", "angle untrained", "angle trained", "negative at most")


LIMITS = ("network", "limit", "network's accuracy", "limit's accuracy", "unlike the network")


def gate_sheets(records: Sequence[RunRecord]) -> list[tuple[str, Sheet]]:
    """Return the tables of gates and learning rules, those of limits, and those of encoders with probes."""
    gates = [*learner_sheets(records), *hidden_sheets(records), *limit_sheets(records)]
    return [*gates, *encoder_sheets(records)]


def hidden_sheets(records: Sequence[RunRecord]) -> list[tuple[str, Sheet]]:
    """Return a table a family of what hard gates hide, of networks that are not among those of `learner_sheets`."""
    done = [r for r in records if r.header.status == "complete"]
    known = {id(r) for own in learners(done).values() for r in own}
    groups: dict[str, dict[str, list[RunRecord]]] = {}
    for record in done:
        if id(record) not in known and attacked_softly(record) and record.header.model.architecture:
            family = groups.setdefault(record.header.model.family, {})
            family.setdefault(spelled(record), []).append(record)
    return [
        (f"{family}, what gates hide", _hidden(by_network)) for family, by_network in sorted(groups.items())
    ]


def _hidden(by_network: dict[str, list[RunRecord]]) -> Sheet:
    together = [r for own in by_network.values() for r in own]
    radius = _shared(together)
    rows = tuple((name, *_found(own, radius)) for name, own in by_network.items())
    return Sheet(_caption(together[0], radius), ("network", *FOUND), rows)


def limit_sheets(records: Sequence[RunRecord]) -> list[tuple[str, Sheet]]:
    """Return a table of what networks' limits predict, beside the networks; none where no record has any."""
    own = [r for r in records if r.header.status == "complete" and has_limits(r)]
    rows = [
        (
            row["model"],
            row["limit"],
            *(percent(row[name]) for name in ("accuracy", "limit_accuracy", "unlike")),
        )
        for row in limit_rows(own)
    ]
    caption = (
        "What gradient descent tends to in infinite time, by the norm that is least: gln, the network's own; l2, of "
        "weights tied as the architecture ties them; shallow, a support vector machine a context; and ReLU networks "
        "with frozen gates. Unlike the network: samples on which the limit predicts another class."
    )
    return [("Limits", Sheet(caption, LIMITS, tuple(rows)))] if rows else []


def learner_sheets(records: Sequence[RunRecord]) -> list[tuple[str, Sheet]]:
    """Return tables a family: accuracies by architecture and rule, and the signals of units where they were measured.

    None where no network of vectors was evaluated.
    """
    known = learners([r for r in records if r.header.status == "complete"])
    found = []
    for family in sorted({learner.family for learner in known}):
        own = {learner: group for learner, group in known.items() if learner.family == family}
        if any(learner.units == "vectors" for learner in own):
            found.append((f"{family}, accuracies", _accuracies(own)))
            measured = {x: group for x, group in own.items() if all(map(has_signals, group))}
            if measured:
                found.append((f"{family}, signals", _signals(measured)))
    return found


def _accuracies(own: dict[Learner, list[RunRecord]]) -> Sheet:
    together = [r for group in own.values() for r in group]
    radius = _shared(together)
    rows = tuple((*_words(x), *_found(group, radius)) for x, group in sorted(own.items(), key=_order))
    return Sheet(_caption(together[0], radius), HEADS, rows)


def _shared(records: list[RunRecord]) -> float:
    """Return the mildest headline radius of all records; 0 without one."""
    return min(set.intersection(*(set(r.header.threat.headlines) for r in records)), default=0.0)


def _caption(record: RunRecord, radius: float) -> str:
    return (
        "Seeds averaged per sample, with 95 % bootstrap intervals over samples; robust accuracy at "
        f"{place(record, radius)}. Plain attacks climb the network's own gradient; hidden by gates is what fell "
        "along soft gates alone, in points, where every sample met the plain attacks first."
    )


def _found(own: list[RunRecord], radius: float) -> tuple[str | int, ...]:
    robust = mean_mask(own, radius)
    clean, worst = (share_text(bootstrap(v)) for v in (shares(own, 0.0), robust))
    if any(attacked_softly(r) != radius for r in own):
        return (len(own), clean, "", worst, "")
    hidden = np.mean([fell_only(r, radius) for r in own], axis=0)
    plain = share_text(bootstrap(robust + hidden))
    return (len(own), clean, plain, worst, points(bootstrap(hidden)))


def _signals(own: dict[Learner, list[RunRecord]]) -> Sheet:
    caption = (
        "Angle, in degrees, between what backpropagation multiplies the error vector by in each open unit and the ones "
        "that error broadcasting takes; mean over samples and seeds. 90 is no relation. Negative: the largest share "
        "of a layer's open units, of any sample, whose backpropagated signal is below 0."
    )
    rows = [
        (*_words(x), stage, *_numbers(group, stage))
        for x, group in sorted(own.items(), key=_order)
        for stage in signal_stages(group[0])
    ]
    return Sheet(caption, SIGNALS, tuple(rows))


def _numbers(own: list[RunRecord], stage: str) -> tuple[str, ...]:
    rows = [
        r
        for record in own
        for r in record.tables["signals"].to_pylist()
        if r["stage"] == stage and not r["width"]
    ]
    angles = [
        np.mean([r["angle"] for r in rows if r["state"] == state]) for state in ("untrained", "trained")
    ]
    return (*(f"{angle:.1f}" for angle in angles), percent(max(r["negative"] for r in rows)))


def _words(learner: Learner) -> tuple[str, str, str]:
    signs = "" if learner.units == "scalars" else ", nonnegative" if learner.nonnegative else ", mixed signs"
    return f"{learner.kind} {learner.size}".strip(), learner.units + signs, RULES[learner.rule]


def _order(item: tuple[Learner, object]) -> tuple[str, str, str, bool, str]:
    learner = item[0]
    return learner.kind, learner.size, learner.units, not learner.nonnegative, learner.rule
