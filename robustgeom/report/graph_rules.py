"""Rules of claims about functional graphs: whether they differ, change and explain robustness; no torch.

Graphs are those of all stages' units together. Kinds of networks are those of `families`: standard, adversarially
trained (the recipe with most seeds, of those the most robust), with noise (nearest to rho = 3), and those without it
that have the same front end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.special import stdtrit

from robustgeom.records import RunRecord
from robustgeom.report.families import families
from robustgeom.report.findings import (
    Finding,
    NotTestedError,
    is_standard,
    place,
    refuse_doubtful,
    refuse_other_attacks,
    refuse_other_samples,
    refuse_twins,
    some,
)
from robustgeom.report.stimulus_rules import most_seeded
from robustgeom.report.sweep import plainly_noisy
from robustgeom.report.tables import INPUT, aggregates, stages
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
SEEDS, RECIPES = 3, 12  # fewer say nothing of a kind, or of what explains what
LEVEL = 0.05
NORMED = "batch_norm"
Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Kind:
    name: str
    records: list[RunRecord]


def graphs_differ(records: Sequence[RunRecord]) -> list[Finding]:
    """Adversarially trained networks and ones with noise have other functional graphs than their standard twins.

    Rule: in every family, of three seeds or more, adversarially trained networks against standard ones, and networks
    with noise against those of the same front end without noise, or standard ones where there are none, differ clean in
    one of eight measures at least: the interval of the difference of means over seeds (Welch's t, at 95 % for all eight
    together by Bonferroni) excludes 0. The measure whose interval is farthest from 0, in its half widths, is told.
    """
    found = []
    for name, base, other in _contrasts(records):
        pairs = [(m, _gap(_values(other, m), _values(base, m))) for m in GRAPH_MEASURES]
        measure, gap = max(pairs, key=lambda pair: _clear(pair[1]))
        text = f"{name}, {other.name} minus {base.name}: {measure} {span(gap)}"
        found.append(Finding(_clear(gap) > 0, gap, text))
    return some(found, _WANTED)


def attacks_change_graphs_more(records: Sequence[RunRecord]) -> list[Finding]:
    """An attack changes a network's functional graph more than noise of the same size.

    Rule: in every family and kind of three seeds or more, at the strictest radius, the root mean square change of
    correlations is larger under attack than under noise of the same norm: the 95 % t interval over seeds of the
    difference lies above 0.
    """
    found = []
    for name, kind in _each_kind(records):
        attacked, noisy = (_values(kind, "edge_change", under) for under in ("attacked", "noisy"))
        gap = _interval(attacked - noisy)
        text = f"{name}, {kind.name}: {attacked.mean():.3g} under attack, {noisy.mean():.3g} under noise"
        found.append(Finding(gap.low > 0, gap, f"{text}, difference {span(gap)}"))
    return some(found, _WANTED)


def attacks_undo_class_modules(records: Sequence[RunRecord]) -> list[Finding]:
    """An attack makes units that prefer a class less of a module.

    Rule: in every family and kind of three seeds or more, at the strictest radius, modularity of units by the class
    that they prefer is lower under attack than clean: the 95 % t interval over seeds of the fall lies above 0.
    """
    found = []
    for name, kind in _each_kind(records):
        clean, attacked = (_values(kind, "class_modularity", c) for c in ("clean", "attacked"))
        fall = _interval(clean - attacked)
        text = f"{name}, {kind.name}: class modularity falls by {span(fall)}"
        found.append(Finding(fall.low > 0, fall, text))
    return some(found, _WANTED)


def graphs_explain_robustness(records: Sequence[RunRecord]) -> list[Finding]:
    """A measure of the functional graph adds to clean accuracy and capacity in explaining robust accuracy.

    Rule: of all networks with a graph and a clean capacity of classes at the last hidden stage, whose robust accuracy
    can be believed, seeds of a recipe (family, front end, objective, threat, noise, architecture) averaged, twelve
    recipes at least: robust accuracy at the strictest radius is predicted for each recipe by least squares on the
    others, from clean accuracy and capacity, and from these and one of eight measures more, chosen without the recipe
    that is predicted. The squared error is smaller with the measure: the 95 % bootstrap interval over recipes of the
    difference lies above 0.
    """
    own = [r for r in records if r.verdict.trustworthy and _has(r) and _capacity(r) is not None]
    refuse_other_samples(own)
    refuse_twins(own)
    recipes: dict[str, list[RunRecord]] = {}
    for record in own:
        recipes.setdefault(_recipe(record), []).append(record)
    if len(recipes) < RECIPES:
        raise NotTestedError(f"needs {RECIPES} recipes with graphs and capacities, has {len(recipes)}")
    facts = np.array([np.mean([_facts(r) for r in group], axis=0) for group in recipes.values()])
    robust, base, more = facts[:, 0], facts[:, 1:3], facts[:, 3:]
    plain = np.square(robust - [_predicted(base, robust, i) for i in range(len(robust))])
    picked = [_picked(base, more, robust, i) for i in range(len(robust))]
    with_graph = np.square(robust - [value for value, _ in picked])
    names = [GRAPH_MEASURES[j] for _, j in picked]
    usual = max(dict.fromkeys(names), key=names.count)
    gain = bootstrap(plain - with_graph)
    text = (
        f"{len(robust)} recipes at {place(own[0], own[0].headline)}: mean squared error {plain.mean():.3g} "
    )
    text += f"from clean accuracy and capacity, {with_graph.mean():.3g} with a graph's measure too (mostly {usual}), "
    return [Finding(gain.low > 0, gain, f"{text}smaller by {span(gain)}")]


def norm_raises_efficiency(records: Sequence[RunRecord]) -> list[Finding]:
    """Batch norm raises a network's global efficiency and lowers its robustness.

    Rule: in every family with standard networks of one architecture that differ in its argument `batch_norm` alone, of
    three seeds or more, global efficiency of clean graphs is higher and robust accuracy at the mildest headline radius
    lower with it: the 95 % intervals over seeds of both differences (Welch's t) lie above 0. A record with a failed
    check leaves the claim untested.
    """
    found = []
    for name, normed, plain in _by_norm(records):
        refuse_doubtful([*normed.records, *plain.records])
        refuse_other_attacks([*normed.records, *plain.records])
        on, off = (_values(k, "graph_efficiency") for k in (normed, plain))
        gap = _gap(on, off, tests=1)
        text = f"{name}: efficiency, with batch norm minus without, {span(gap)}"
        found.append(Finding(gap.low > 0, gap, text))
        radius = min(plain.records[0].header.threat.headlines)
        kept, lost = (np.array([r.robust_mask(radius).mean() for r in k.records]) for k in (plain, normed))
        loss = _gap(kept, lost, tests=1)
        text = f"{name}, {place(plain.records[0], radius)}: robust accuracy without minus with {span(loss)}"
        found.append(Finding(loss.low > 0, loss, text))
    return some(found, "standard networks with batch norm and without, three seeds each, with graphs")


def graph_values(record: RunRecord, condition: str = "clean") -> dict[str, float]:
    """Return a record's measures of the graph of all stages' units under a condition, whatever its radius."""
    if (study := record.tables.get("study")) is None:
        return {}
    own = study.filter(pc.equal(study["stage"], TOGETHER)).to_pylist()
    return {
        row["measure"]: float(row["value"]) for row in own if row["condition"].partition(",")[0] == condition
    }


_WANTED = (
    "analyses of graphs (`robustgeom study network-science`) of networks of one family, three seeds or more"
)


def _has(record: RunRecord) -> bool:
    return set(GRAPH_MEASURES) <= graph_values(record).keys()


def _families(records: Sequence[RunRecord]) -> Iterator[tuple[str, list[_Kind]]]:
    """Yield families with graphs: standard networks, adversarially trained ones, with noise, and these without it."""
    measured = [r for r in records if _has(r)]
    for family in families(measured):
        noisy = plainly_noisy(family.stochastic)
        groups = {
            "standard": [r for r in family.standard if not _normed(r)],
            "adversarially trained": most_seeded(family),
            "with noise": noisy,
            "without noise": [r for r in measured if _is_without_noise(r, family.name, noisy)],
        }
        for group in groups.values():
            refuse_twins(group)
        yield family.name, [_Kind(name, group) for name, group in groups.items()]


def _is_without_noise(record: RunRecord, family: str, noisy: list[RunRecord]) -> bool:
    """Return whether a network is what noisy ones of a front end are without their noise."""
    model, front = record.header.model, noisy[0].header.model.front_end if noisy else "none"
    alike = model.family == family and front != "none" and model.front_end == front
    return alike and model.rho == 0 and model.noise == "none" and is_standard(model)


def _contrasts(records: Sequence[RunRecord]) -> Iterator[tuple[str, _Kind, _Kind]]:
    """Yield each family's kinds of three seeds or more beside what they differ from by one thing."""
    for name, (standard, trained, noisy, twins) in _families(records):
        quiet = twins if len(twins.records) >= SEEDS else standard
        for base, other in ((standard, trained), (quiet, noisy)):
            if min(len(base.records), len(other.records)) >= SEEDS:
                yield name, base, other


def _each_kind(records: Sequence[RunRecord]) -> Iterator[tuple[str, _Kind]]:
    for name, kinds in _families(records):
        for kind in kinds:
            if len(kind.records) >= SEEDS:
                yield name, kind


def _by_norm(records: Sequence[RunRecord]) -> Iterator[tuple[str, _Kind, _Kind]]:
    """Yield standard networks of one architecture with batch norm, and without."""
    for family in families([r for r in records if _has(r)]):
        groups: dict[str, tuple[list[RunRecord], list[RunRecord]]] = {}
        for record in family.standard:
            if (built := record.header.model.architecture) is not None:
                rest = {k: v for k, v in built.arguments.items() if k != NORMED}
                pair = groups.setdefault(f"{built.name} {sorted(rest.items())}", ([], []))
                pair[0 if _normed(record) else 1].append(record)
        for normed, plain in groups.values():
            if min(len(normed), len(plain)) >= SEEDS:
                yield family.name, _Kind("with batch norm", normed), _Kind("without", plain)


def _normed(record: RunRecord) -> bool:
    built = record.header.model.architecture
    return built is not None and bool(built.arguments.get(NORMED, False))


def _recipe(record: RunRecord) -> str:
    """Return what the seeds of a recipe share."""
    m = record.header.model
    built = m.architecture and (m.architecture.name, sorted(m.architecture.arguments.items()))
    return str((m.family, m.front_end, m.objective, m.threat, m.rho, m.noise, built))


def _facts(record: RunRecord) -> list[float]:
    """Return robust accuracy, clean accuracy and capacity, and the measures of the graph."""
    graph = graph_values(record)
    robust, clean = record.robust_mask(record.headline).mean(), record.clean_mask().mean()
    return [float(robust), float(clean), _capacity(record) or 0.0, *(graph[m] for m in GRAPH_MEASURES)]


def _values(kind: _Kind, measure: str, condition: str = "clean") -> Array:
    found = [graph_values(r, condition).get(measure) for r in kind.records]
    lacking = [r.name for r, value in zip(kind.records, found, strict=True) if value is None]
    if lacking:
        raise NotTestedError(f"{', '.join(lacking)} has no {measure}, {condition}")
    return np.array(found, dtype=np.float64)


def _interval(values: Array) -> Interval:
    """Return the mean over seeds with its t interval."""
    half = float(stdtrit(len(values) - 1, 1 - LEVEL / 2)) * float(values.std(ddof=1)) / len(values) ** 0.5
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
