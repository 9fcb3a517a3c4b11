"""Rules of claims about gated linear networks and where gradient descent takes them; no torch.

Networks are told apart by the architecture that their record tells: `gln`, shallow where it has no hidden units, with
its thresholds at medians or at random, and `gated_relu`. What a limit predicts comes with the record, as the table
`limits`. Seeds are averaged per sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustgeom.records import RunRecord
from robustgeom.report.findings import Finding, NotTestedError, above_zero, refuse_other_samples, shares, some
from robustgeom.stats import bootstrap
from robustgeom.words import percent

__all__ = [
    "deep_beats_shallow",
    "has_limits",
    "limit_follows",
    "limit_rows",
    "limit_wrong",
    "margin_grows",
    "margin_rows",
    "medians_help",
    "relu_gates_carry",
    "shallow_has_a_best_size",
    "unlike",
]

CLOSE, POOR = 0.05, 0.1  # of clean accuracy
NEAR = 0.9  # of the best margin
Array = NDArray[np.float64]
Groups = dict[Any, list[RunRecord]]


def limit_follows(records: Sequence[RunRecord]) -> list[Finding]:
    """The limit by the network's own norm predicts what the trained network does; tying alone does so less.

    Rule: in every family, for every number of hidden units, predictions of the limit by the "l2" norm differ from those
    of the trained network on more samples than predictions of the limit by the "gln" norm; and more so for the fewest
    units than for the most. Each 95 % bootstrap interval over samples of the difference lies above 0.
    """
    return _each(records, _following, "limits of two-layer networks of two widths (benchmarks/gln_study.py)")


def medians_help(records: Sequence[RunRecord]) -> list[Finding]:
    """Thresholds that split the training samples in half are better than random ones.

    Rule: in every family, for every number of hidden units with both, the 95 % paired bootstrap interval over samples
    of clean accuracy with medians minus clean accuracy with random thresholds lies above 0.
    """

    def compared(own: list[RunRecord]) -> list[Finding]:
        medians, random = _deep(own), _deep(own, median=False)
        shared = sorted(medians.keys() & random.keys())
        return [_more(medians[h], random[h], f"{h} units: medians", "random") for h in shared]

    return _each(
        records, compared, "two-layer networks of one width with thresholds at medians and at random"
    )


def shallow_has_a_best_size(records: Sequence[RunRecord]) -> list[Finding]:
    """Shallow networks are best with neither few nor many contexts, and better than their limit when stopped early.

    Rule: in every family, of all numbers of hyperplanes but the smallest and the largest, the one with the highest
    clean accuracy on every second sample beats both of those on the other samples, and its trained network beats its
    own limit there: each 95 % paired bootstrap interval over samples lies above 0.
    """
    return _each(
        records, _best_size, "limits of shallow networks of three sizes or more (benchmarks/gln_study.py)"
    )


def deep_beats_shallow(records: Sequence[RunRecord]) -> list[Finding]:
    """A layer of gated units with a read-out beats one gated unit by far.

    Rule: in every family, the widest two-layer network (thresholds at medians) is more accurate than every shallow one:
    each 95 % paired bootstrap interval over samples lies above 0.
    """

    def compared(own: list[RunRecord]) -> list[Finding]:
        deep, groups = _deep(own), _shallow(own)
        widest = max(deep, default=0)
        return [
            _more(deep[widest], group, f"{widest} units", f"shallow, {s} hyperplanes")
            for s, group in sorted(groups.items())
            if deep
        ]

    return _each(records, compared, "shallow and two-layer gated linear networks")


def relu_gates_carry(records: Sequence[RunRecord]) -> list[Finding]:
    """What a ReLU network learns lies in its gates, together with the values behind them.

    Rule: in every family, with the gates of the trained network frozen, the limit is at most 5 points less accurate
    than the network and more accurate than with random gates; the gates by themselves are at least 10 points less
    accurate than the network: each 95 % paired bootstrap interval over samples, of these differences beyond those
    bounds, lies above 0.
    """
    return _each(records, _carried, "limits of ReLU networks with frozen gates (benchmarks/gln_study.py)")


def margin_grows(records: Sequence[RunRecord]) -> list[Finding]:
    """The normalised margin of gradient descent grows towards that of the convex optimum.

    Rule: in every network whose path was followed, on the same few samples, the normalised margin rises from each
    recorded step to the next, never exceeds the optimum, and ends at 90 % of it or more.
    """
    found = []
    for record in records:
        if "margins" in record.tables:
            rows = sorted(record.tables["margins"].to_pylist(), key=lambda r: r["step"])
            parts = [row["margin"] / row["best"] for row in rows]
            rises = all(a < b for a, b in pairwise(parts)) and NEAR <= parts[-1] <= 1 + 1e-6
            steps = ", ".join(
                f"{percent(p)} after {row['step']:,} steps" for p, row in zip(parts, rows, strict=True)
            )
            found.append(Finding(rises, bootstrap([parts[-1]]), f"{record.name}: {steps}"))
    return some(found, "the path of gradient descent to its limit (benchmarks/gln_study.py)")


def has_limits(record: RunRecord) -> bool:
    """Return whether predictions of a network's limits came with its record."""
    return "limits" in record.tables


def limit_rows(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return a row a network and limit: accuracies, and the share of samples on which the two differ."""
    return [
        {
            "model": record.name,
            "limit": limit,
            "accuracy": record.accuracy.value,
            "limit_accuracy": 1 - float(limit_wrong([record], limit).mean()),
            "unlike": float(unlike([record], limit).mean()),
        }
        for record in records
        if has_limits(record)
        for limit in dict.fromkeys(record.tables["limits"]["limit"].to_pylist())
        if _knows_all(record, limit)
    ]


def margin_rows(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return a row a network and recorded step of gradient descent: its normalised margin, and the best one."""
    own = [r for r in records if "margins" in r.tables]
    return [{"model": r.name, **row} for r in own for row in r.tables["margins"].to_pylist()]


def unlike(records: list[RunRecord], limit: str) -> Array:
    """Return how often a limit predicts otherwise than its network on each sample (n,), seeds averaged."""
    return _mean([_predicted(r, limit) != _clean(r) for r in records])


def limit_wrong(records: list[RunRecord], limit: str) -> Array:
    """Return how often a limit is wrong on each sample (n,), seeds averaged."""
    return _mean([_predicted(r, limit) != _column(r, "label") for r in records])


def _each(
    records: Sequence[RunRecord], rule: Callable[[list[RunRecord]], list[Finding]], lacking: str
) -> list[Finding]:
    """Return the findings in every family of gated networks; raise `NotTestedError` where there is none."""
    own = [r for r in records if _named(r) in ("gln", "gated_relu")]
    families = sorted({r.header.model.family for r in own})
    found = []
    for family in families:
        members = [r for r in own if r.header.model.family == family]
        refuse_other_samples(members)
        found += rule(members)
    return some(found, lacking)


def _following(records: list[RunRecord]) -> list[Finding]:
    groups = {h: own for h, own in _deep(records).items() if all(map(has_limits, own))}
    if len(groups) < 2:
        return []
    ahead, found = {}, []
    for h, own in sorted(groups.items()):
        ours, theirs = unlike(own, "gln"), unlike(own, "l2")
        ahead[h] = theirs - ours
        text = (
            f"{h} units: {percent(ours.mean())} unlike the network, by tying alone {percent(theirs.mean())}"
        )
        found.append(above_zero(ahead[h], f"{text}, difference"))
    few, many = min(ahead), max(ahead)
    return [*found, above_zero(ahead[few] - ahead[many], f"from {many} to {few} units that grows by")]


def _best_size(records: list[RunRecord]) -> list[Finding]:
    groups = _shallow(records)
    if len(groups) < 3:
        return []
    right = {s: shares(own, 0.0) for s, own in groups.items()}
    few, *inner, many = sorted(groups)
    best = max(inner, key=lambda s: right[s][::2].mean())
    if not all(map(has_limits, groups[best])):
        return []
    limit = 1 - limit_wrong(groups[best], "shallow")
    against = {f"{few} hyperplanes": right[few], f"{many}": right[many], "its own limit": limit}
    said = (
        f"{best} hyperplanes, best on half of the samples, on the others {percent(right[best][1::2].mean())}"
    )
    return [
        above_zero((right[best] - other)[1::2], f"{said}, {name} {percent(other[1::2].mean())}, difference")
        for name, other in against.items()
    ]


def _carried(records: list[RunRecord]) -> list[Finding]:
    own = [r for r in records if _named(r) == "gated_relu" and has_limits(r)]
    if not own:
        return []
    learned, random, alone = (
        1 - limit_wrong(own, name) for name in ("learned gates", "random gates", "gates alone")
    )
    network = shares(own, 0.0)
    said = f"{percent(network.mean())} the network, {percent(learned.mean())} the limit on its gates"
    return [
        above_zero(learned - network + CLOSE, f"{said}, difference plus 5 points"),
        above_zero(learned - random, f"{percent(random.mean())} on random ones, less by"),
        above_zero(network - alone - POOR, f"{percent(alone.mean())} by gates alone, beyond 10 points"),
    ]


def _mean(each: list[Any]) -> Array:
    found: Array = np.mean(each, axis=0)
    return found


def _predicted(record: RunRecord, limit: str) -> NDArray[np.int64]:
    if not _knows_all(record, limit):
        raise NotTestedError(f"needs what the limit {limit!r} of {record.name} predicts for all samples")
    by = _predictions(record, limit)
    return np.array([by[i] for i in record.header.data.sample_ids])


def _knows_all(record: RunRecord, limit: str) -> bool:
    return set(record.header.data.sample_ids) <= _predictions(record, limit).keys()


def _predictions(record: RunRecord, limit: str) -> dict[int, int]:
    rows = record.tables["limits"].to_pylist()
    return {row["sample_id"]: row["prediction"] for row in rows if row["limit"] == limit}


def _clean(record: RunRecord) -> NDArray[np.int64]:
    return _column(record, "clean_prediction")


def _column(record: RunRecord, name: str) -> NDArray[np.int64]:
    columns = record.samples.to_pydict()
    by = dict(zip(columns["sample_id"], columns[name], strict=True))
    return np.array([by[i] for i in record.header.data.sample_ids])


def _named(record: RunRecord) -> str:
    made = record.header.model.architecture
    return made.name if made is not None and record.header.model.objective == "standard" else ""


def _deep(records: Sequence[RunRecord], *, median: bool = True) -> Groups:
    """Return two-layer networks of one hyperplane a unit, by the number of units."""
    found: Groups = {}
    for record in records:
        given = _gln(record)
        one = given is not None and given.get("hyperplanes", 1) == 1 and len(given.get("hidden", (100,))) == 1
        if one and given is not None and given.get("median", True) == median:
            found.setdefault(given.get("hidden", (100,))[0], []).append(record)
    return found


def _shallow(records: Sequence[RunRecord]) -> Groups:
    """Return shallow networks by the number of hyperplanes."""
    found: Groups = {}
    for record in records:
        given = _gln(record)
        if given is not None and not given.get("hidden", (100,)):
            found.setdefault(given.get("hyperplanes", 1), []).append(record)
    return found


def _gln(record: RunRecord) -> dict[str, Any] | None:
    made = record.header.model.architecture
    return made.arguments if made is not None and _named(record) == "gln" else None


def _more(ours: list[RunRecord], theirs: list[RunRecord], one: str, other: str) -> Finding:
    right = [shares(own, 0.0) for own in (ours, theirs)]
    text = f"{one} {percent(right[0].mean())}, {other} {percent(right[1].mean())}, difference"
    return above_zero(right[0] - right[1], text)
