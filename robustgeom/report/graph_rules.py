"""Rules of claims about functional graphs: whether they differ, change and explain robustness; no torch.

Graphs are those of all stages' units together. Kinds of networks are those of `families`: standard, adversarially
trained (the recipe with most seeds, of those the most robust), and with noise (nearest to rho = 3).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from robustgeom.records import RunRecord
from robustgeom.report.families import Family, families
from robustgeom.report.findings import Finding, NotTestedError, place, some
from robustgeom.report.stimulus_rules import most_seeded
from robustgeom.report.sweep import plainly_noisy
from robustgeom.report.tables import INPUT, aggregates, analyzer_rows, stages
from robustgeom.stats import Interval, bootstrap
from robustgeom.words import span

__all__ = [
    "GRAPH_MEASURES",
    "TOGETHER",
    "attacks_change_graphs_more",
    "attacks_undo_class_modules",
    "graph_values",
    "graphs_differ",
    "graphs_explain_robustness",
    "norm_raises_efficiency",
]

TOGETHER = "all stages"
GRAPH_MEASURES = (
    "graph_strength",
    "graph_modularity",
    "class_modularity",
    "graph_participation",
    "graph_efficiency",
    "small_world",
    "rich_club",
    "controllability",
)
SEEDS, NETWORKS = 3, 15  # fewer say nothing of a kind, or of what explains what
LEVEL = 0.05
NORMED = "batch_norm"
Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Kind:
    name: str
    records: list[RunRecord]


def graphs_differ(records: Sequence[RunRecord]) -> list[Finding]:
    """Standard networks, adversarially trained ones and ones with noise have different functional graphs.

    Rule: in every family with standard networks and another kind, of three seeds or more, each other kind differs from
    the standard one, clean, in one of eight measures at least: the interval of the difference of means over seeds
    (Welch's t, at 95 % for all eight together by Bonferroni) excludes 0. The measure whose interval is farthest from 0,
    in standard errors, is told.
    """
    found = []
    for family, standard, others in _kinds(records):
        for kind in others:
            pairs = [(m, _gap(_values(kind, m), _values(standard, m))) for m in GRAPH_MEASURES]
            measure, gap = max(pairs, key=lambda pair: _clear(pair[1]))
            text = f"{family}, {kind.name} minus standard: {measure} {span(gap)}"
            found.append(Finding(_clear(gap) > 0, gap, text))
    return some(found, _WANTED)


def attacks_change_graphs_more(records: Sequence[RunRecord]) -> list[Finding]:
    """An attack changes a network's functional graph more than noise of the same size.

    Rule: in every family and kind of three seeds or more, at the strictest radius, the root mean square change of
    correlations is larger under attack than under noise of the same norm: the 95 % t interval over seeds of the
    difference lies above 0.
    """
    found = []
    for family, standard, others in _kinds(records, fewest=0):
        for kind in (standard, *others):
            if len(kind.records) >= SEEDS:
                attacked, noisy = (_values(kind, "edge_change", under) for under in ("attacked", "noisy"))
                gap = _interval(attacked - noisy, LEVEL)
                text = f"{family}, {kind.name}: {attacked.mean():.3g} under attack, {noisy.mean():.3g} under noise"
                found.append(Finding(gap.low > 0, gap, f"{text}, difference {span(gap)}"))
    return some(found, _WANTED)


def attacks_undo_class_modules(records: Sequence[RunRecord]) -> list[Finding]:
    """An attack makes units that prefer a class less of a module.

    Rule: in every family and kind of three seeds or more, at the strictest radius, modularity of units by the class
    that they prefer is lower under attack than clean: the 95 % t interval over seeds of the fall lies above 0.
    """
    found = []
    for family, standard, others in _kinds(records, fewest=0):
        for kind in (standard, *others):
            if len(kind.records) >= SEEDS:
                clean, attacked = (_values(kind, "class_modularity", c) for c in ("clean", "attacked"))
                fall = _interval(clean - attacked, LEVEL)
                text = f"{family}, {kind.name}: class modularity falls by {span(fall)}"
                found.append(Finding(fall.low > 0, fall, text))
    return some(found, _WANTED)


def graphs_explain_robustness(records: Sequence[RunRecord]) -> list[Finding]:
    """A measure of the functional graph adds to clean accuracy and capacity in explaining robust accuracy.

    Rule: of all networks with a graph and a clean capacity of classes at the last hidden stage, fifteen at least, whose
    robust accuracy can be believed: robust accuracy at the strictest radius is predicted for each network by least
    squares on the others, from clean accuracy and capacity, and from these and one of eight measures more, chosen
    without the network that is predicted. The squared error is smaller with the measure: the 95 % bootstrap interval
    over networks of the difference lies above 0.
    """
    own = [r for r in records if r.verdict.trustworthy and _has(r)]
    rows = [(r, c) for r in own if (c := _capacity(r)) is not None]
    if len(rows) < NETWORKS:
        raise NotTestedError(f"needs {NETWORKS} networks with graphs and capacities, has {len(rows)}")
    robust = np.array([r.robust_mask(r.headline).mean() for r, _ in rows])
    base = np.array([(r.clean_mask().mean(), c) for r, c in rows])
    more = np.array([[graph_values(r)[m] for m in GRAPH_MEASURES] for r, _ in rows])
    plain = np.square(robust - [_predicted(base, robust, i) for i in range(len(rows))])
    picked = [_picked(base, more, robust, i) for i in range(len(rows))]
    with_graph = np.square(robust - [value for value, _ in picked])
    names = [GRAPH_MEASURES[j] for _, j in picked]
    usual = max(set(names), key=names.count)
    gain = bootstrap(plain - with_graph)
    text = f"{len(rows)} networks at {place(rows[0][0], rows[0][0].headline)}: mean squared error {plain.mean():.3g} "
    text += f"from clean accuracy and capacity, {with_graph.mean():.3g} with a graph's measure too (mostly {usual}), "
    return [Finding(gain.low > 0, gain, f"{text}smaller by {span(gain)}")]


def norm_raises_efficiency(records: Sequence[RunRecord]) -> list[Finding]:
    """Batch norm raises a network's global efficiency and lowers its robustness.

    Rule: in every family with standard networks that differ in batch norm alone, of three seeds or more, global
    efficiency of clean graphs is higher and robust accuracy at the mildest radius lower with it: the 95 % t intervals
    over seeds of both differences (Welch) lie above 0. A record with a failed check leaves the claim untested.
    """
    found = []
    for family in families([r for r in records if _has(r)]):
        with_norm, without = ([r for r in family.standard if _normed(r) is is_on] for is_on in (True, False))
        if min(len(with_norm), len(without)) < SEEDS:
            continue
        doubtful = [r.name for r in (*with_norm, *without) if not r.verdict.trustworthy]
        if doubtful:
            raise NotTestedError(f"needs records without a failed check; {', '.join(doubtful)} failed one")
        kinds = [_Kind("with", with_norm), _Kind("without", without)]
        on, off = (_values(k, "graph_efficiency") for k in kinds)
        gap = _gap(on, off, tests=1)
        found.append(
            Finding(
                gap.low > 0, gap, f"{family.name}: efficiency, with batch norm minus without, {span(gap)}"
            )
        )
        radius = min(with_norm[0].header.threat.headlines)
        robust = [np.array([r.robust_mask(radius).mean() for r in k.records]) for k in kinds]
        loss = _gap(robust[1], robust[0], tests=1)
        text = (
            f"{family.name}, {place(with_norm[0], radius)}: robust accuracy without minus with {span(loss)}"
        )
        found.append(Finding(loss.low > 0, loss, text))
    return some(found, "standard networks with batch norm and without, three seeds each, with graphs")


def graph_values(record: RunRecord, condition: str = "clean") -> dict[str, float]:
    """Return a record's measures of the graph of all stages' units under a condition, whatever its radius."""
    return {
        row["measure"]: float(row["value"])
        for row in analyzer_rows(record)
        if row["stage"] == TOGETHER and row["condition"].partition(",")[0] == condition
    }


_WANTED = (
    "analyses of graphs (`robustgeom study network-science`) of networks of one family, three seeds or more"
)


def _has(record: RunRecord) -> bool:
    return set(GRAPH_MEASURES) <= graph_values(record).keys()


def _kinds(records: Sequence[RunRecord], fewest: int = SEEDS) -> Iterator[tuple[str, _Kind, list[_Kind]]]:
    """Yield families with analysed standard networks, and their other kinds, of so many seeds at least."""
    for family in families([r for r in records if _has(r)]):
        standard = _Kind("standard", [r for r in family.standard if not _normed(r)])
        others = [_Kind("adversarially trained", most_seeded(family)), _Kind("with noise", _noisy(family))]
        others = [k for k in others if len(k.records) >= max(fewest, 1)]
        if len(standard.records) >= fewest:
            yield family.name, standard, others


def _noisy(family: Family) -> list[RunRecord]:
    return plainly_noisy(family.stochastic)


def _normed(record: RunRecord) -> bool:
    built = record.header.model.architecture
    return built is not None and bool(built.arguments.get(NORMED, False))


def _values(kind: _Kind, measure: str, condition: str = "clean") -> Array:
    found = [graph_values(r, condition).get(measure) for r in kind.records]
    lacking = [r.name for r, value in zip(kind.records, found, strict=True) if value is None]
    if lacking:
        raise NotTestedError(f"{', '.join(lacking)} has no {measure}, {condition}")
    return np.array(found, dtype=np.float64)


def _interval(values: Array, level: float) -> Interval:
    """Return the mean over seeds with its t interval."""
    half = float(stdtrit(len(values) - 1, 1 - level / 2)) * float(values.std(ddof=1)) / len(values) ** 0.5
    return Interval(
        float(values.mean()), float(values.mean()) - half, float(values.mean()) + half, len(values)
    )


def _gap(ours: Array, theirs: Array, tests: int = len(GRAPH_MEASURES)) -> Interval:
    """Return the difference of means over seeds with Welch's interval, for so many tests at once."""
    each = [float(v.var(ddof=1)) / len(v) for v in (ours, theirs)]
    total = sum(each)
    gap = float(ours.mean() - theirs.mean())
    if total == 0:
        return Interval(gap, gap, gap, len(ours) + len(theirs))
    freedom = total**2 / sum(e**2 / (len(v) - 1) for e, v in zip(each, (ours, theirs), strict=True))
    half = float(stdtrit(freedom, 1 - LEVEL / tests / 2)) * total**0.5
    return Interval(gap, gap - half, gap + half, len(ours) + len(theirs))


def _clear(gap: Interval) -> float:
    """Return how far an interval is from 0, in its own half width; below 0 where it holds 0."""
    half = (gap.high - gap.low) / 2
    return (abs(gap.value) - half) / half if half else float(np.sign(abs(gap.value)))


def _capacity(record: RunRecord) -> float | None:
    hidden = [s for s in stages(record, "capacity") if s not in (INPUT, "logits")]
    found = [
        row["value"]
        for row in aggregates(record, "capacity")
        if hidden and row["stage"] == hidden[-1] and row["condition"] == "clean"
    ]
    return float(found[0]) if found else None


def _predicted(x: Array, y: Array, left_out: int) -> float:
    """Return what least squares on the others says of one."""
    others = np.arange(len(y)) != left_out
    design = np.column_stack([np.ones(len(y)), (x - x[others].mean(0)) / np.maximum(x[others].std(0), 1e-12)])
    slopes = np.linalg.lstsq(design[others], y[others], rcond=None)[0]
    return float(design[left_out] @ slopes)


def _picked(base: Array, more: Array, y: Array, left_out: int) -> tuple[float, int]:
    """Return the prediction with the measure that predicts the others best, each from the rest; and which it is."""
    others = np.flatnonzero(np.arange(len(y)) != left_out)
    errors = []
    for j in range(more.shape[1]):
        x = np.column_stack([base, more[:, j]])[others]
        errors.append(sum((y[i] - _predicted(x, y[others], k)) ** 2 for k, i in enumerate(others)))
    best = int(np.argmin(errors))
    return _predicted(np.column_stack([base, more[:, best]]), y, left_out), best
