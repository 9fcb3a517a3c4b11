"""Rules of claims about clouds of one stimulus, about noise levels, and about the strength of attacks; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from robustgeom.records import RunRecord
from robustgeom.report.families import UNDECLARED, families
from robustgeom.report.findings import Finding, NotTestedError, above_zero, place, shares
from robustgeom.report.stimuli import ATTACK, OWN, Stimuli, on_the_same, stimuli, with_stimuli
from robustgeom.report.sweep import Sweep, plainly_noisy, sweeps
from robustgeom.stats import Interval, bootstrap, spearman, wilson

__all__ = ["attacks_are_strong", "clouds_overlap", "noise_blurs", "overlap_grows"]

MOST_APART = 0.1  # overlap of clouds that a line tells apart
HALF = 0.5
STRENGTH = ("EOT convergence", "steps doubled", "black box", "falls with radius")
"""Checks that would find a weak attack."""


def clouds_overlap(records: Sequence[RunRecord]) -> list[Finding]:
    """In networks with noise the versions of a stimulus, clean and attacked, lie over each other; in others not.

    Rule: overlap is 2 (1 - held-out accuracy of a line between the two clouds), at the last stage before the logits. In
    every family with networks with noise: at the smallest measured radius their overlap is above 0.5, and it falls from
    the smallest to the largest radius; in the networks of the family without noise (each recipe by itself, seeds
    averaged) it is below 0.1 at every radius. Each 95 % bootstrap interval over stimuli agrees. Of several noise levels
    the one nearest to rho = 3 is taken.
    """
    known = [r for r in records if with_stimuli(r)]
    found = []
    for family in families(known):
        noisy, quiet = plainly_noisy(family.stochastic), _quiet(known, family.name)
        if noisy and quiet:
            found += _falling(family.name, stimuli(noisy))
            found += [f for own in quiet for f in _apart(stimuli(own))]
    if not found:
        raise NotTestedError(
            "needs analyses of single stimuli (`robustgeom study`) of networks with and without noise of one family"
        )
    return found


def overlap_grows(records: Sequence[RunRecord]) -> list[Finding]:
    """The more noise, the more clean and attacked versions of a stimulus overlap.

    Rule: in every sweep of three noise levels above 0 or more, at the smallest headline radius of the records, at the
    last stage before the logits: Spearman's correlation of rho with the overlap (seeds and stimuli averaged) is above
    0, as is its 95 % bootstrap interval over stimuli.
    """
    found = []
    for sweep in _measured(records):
        levels = _levels(sweep)
        eps = min(sweep.records[0].header.threat.headlines)
        stage = _last_hidden(levels)
        table = np.array([g.values("overlap", stage, ATTACK, eps) for g in levels.values()]).T
        rho = np.array(list(levels))
        interval = bootstrap(table, lambda v, x=rho: spearman(x, v.mean(axis=0)))  # type: ignore[misc]
        text = f"{sweep.name} at {stage}, {place(sweep.records[0], eps)}: overlap {_along(levels, table)}"
        found.append(Finding(interval.low > 0, interval, f"{text}, rank correlation {_shown(interval)}"))
    return found


def noise_blurs(records: Sequence[RunRecord]) -> list[Finding]:
    """The more noise, the harder are stimuli to tell apart.

    Rule: in every sweep of three noise levels above 0 or more, the capacity of stimuli under the network's own noise
    (mean-field, a manifold a stimulus), at the last stage before the logits, falls from the smallest to the largest
    level: the 95 % bootstrap interval over stimuli of the fall lies above 0; and from no level to the next does it rise
    by an interval above 0.
    """
    return [f for sweep in _measured(records) for f in _falls(sweep)]


def attacks_are_strong(records: Sequence[RunRecord]) -> list[Finding]:
    """None of this comes from a weak attack.

    Rule: every record of a network with noise whose training is declared is trustworthy (no check failed), and the
    checks that would find a weak attack ran on it and passed: more noise draws a gradient and more steps change
    nothing, no attack without gradients finds more, and robustness falls with the radius.
    """
    declared = [r for r in records if r.header.model.family != UNDECLARED]
    noisy = [r for r in declared if r.header.model.rho > 0 or r.header.model.noise != "none"]
    if not noisy:
        raise NotTestedError("needs a record of a network with noise")
    doubts = [text for record in noisy if (text := _doubt(record))]
    share = wilson(len(noisy) - len(doubts), len(noisy))
    text = f"{len(noisy) - len(doubts)} of {len(noisy)} networks with noise are beyond doubt"
    return [Finding(not doubts, share, "; ".join([text, *doubts]))]


def _doubt(record: RunRecord) -> str:
    passed = {c.name for c in record.checks if c.status == "pass"}
    lacking = [name for name in STRENGTH if name not in passed]
    reasons = [str(record.verdict.word)] if not record.verdict.trustworthy else []
    reasons += [f"{name} did not pass" for name in lacking]
    return f"{record.name}: {', '.join(reasons)}" if reasons else ""


def _quiet(records: Sequence[RunRecord], family: str) -> list[list[RunRecord]]:
    """Return the networks of a family without noise and without a teacher, by front end and recipe."""
    found: dict[tuple[str, ...], list[RunRecord]] = {}
    for record in records:
        model = record.header.model
        if model.family == family and model.noise == "none" and model.teacher is None:
            key = (model.front_end, model.objective, model.threat)
            found.setdefault(key, []).append(record)
    return list(found.values())


def _falling(name: str, noisy: Stimuli) -> list[Finding]:
    radii = noisy.radii()
    if len(radii) < 2:
        raise NotTestedError(f"{name}: needs attacked versions of stimuli at two radii or more")
    low, high = (noisy.values("overlap", noisy.hidden, ATTACK, eps) for eps in (radii[0], radii[-1]))
    texts = [f"{name} at {noisy.hidden}, {place(noisy.records[0], eps)}" for eps in (radii[0], radii[-1])]
    return [
        above_zero(low - HALF, f"{texts[0]}: overlap {low.mean():.2f}, above one half by"),
        above_zero(low - high, f"{texts[1]}: overlap {high.mean():.2f}, less than at the smallest radius by"),
    ]


def _apart(quiet: Stimuli) -> list[Finding]:
    """Return whether a line tells the clouds apart in networks without noise, at the radius where it is least so."""
    found = []
    for eps in quiet.radii():
        overlap = quiet.values("overlap", quiet.hidden, ATTACK, eps)
        where = place(quiet.records[0], eps)
        text = f"{quiet.records[0].name} without noise at {where}: overlap {overlap.mean():.2f}"
        found.append(above_zero(MOST_APART - overlap, f"{text}, below 0.1 by"))
    return [min(found, key=lambda f: f.interval.low)]


def _measured(records: Sequence[RunRecord]) -> list[Sweep]:
    """Return the sweeps with three noise levels above 0 or more whose stimuli were measured."""
    found = [
        s for s in sweeps([r for r in records if with_stimuli(r)]) if sum(rho > 0 for rho in s.levels) >= 3
    ]
    if not found:
        raise NotTestedError(
            "needs a sweep of three noise levels above 0 with analyses of single stimuli (`robustgeom study`)"
        )
    return found


def _levels(sweep: Sweep) -> dict[float, Stimuli]:
    found = {rho: stimuli(group) for rho, group in sweep.levels.items() if rho > 0}
    return dict(zip(found, on_the_same(*found.values()), strict=True))


def _last_hidden(levels: dict[float, Stimuli]) -> str:
    return next(iter(levels.values())).hidden


def _along(levels: dict[float, Stimuli], table: NDArray[np.float64]) -> str:
    return ", ".join(
        f"{mean:.2f} at rho {rho:g}" for rho, mean in zip(levels, table.mean(axis=0), strict=True)
    )


def _falls(sweep: Sweep) -> list[Finding]:
    levels = _levels(sweep)
    stage = _last_hidden(levels)
    capacity = {rho: group.values("capacity", stage, OWN) for rho, group in levels.items()}
    first, *_, last = capacity
    clean = [float(shares(sweep.levels[rho], 0.0).mean()) for rho in levels]
    means = [float(v.mean()) for v in capacity.values()]
    table = np.array(list(capacity.values())).T
    text = f"{sweep.name} at {stage}: capacity of stimuli under own noise {_along(levels, table)} (rank correlation "
    text += f"with clean accuracy over the levels is {spearman(means, clean):.2f}), fall"
    found = [above_zero(capacity[first] - capacity[last], text)]
    for low, high in pairwise(capacity):
        rise = bootstrap(capacity[high] - capacity[low])
        if rise.low > 0:
            fall = Interval(-rise.value, -rise.high, -rise.low, rise.n)
            found.append(Finding(False, fall, f"{sweep.name}: capacity rises from rho {low:g} to {high:g}"))
    return found


def _shown(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
