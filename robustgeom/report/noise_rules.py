"""Rules of claims about clouds of one stimulus, about noise levels, and about the strength of attacks; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from robustgeom.records import RunRecord
from robustgeom.report.families import families
from robustgeom.report.findings import Finding, NotTestedError, above_zero, place, shares
from robustgeom.report.stimuli import ATTACK, OWN, Stimuli, stimuli, with_stimuli
from robustgeom.report.sweep import Sweep, nearest_to_three, sweeps
from robustgeom.stats import Interval, bootstrap, spearman, wilson

__all__ = ["attacks_are_strong", "clouds_overlap", "noise_blurs", "overlap_grows"]

MOST_APART = 0.1  # overlap of clouds that a line tells apart
HALF = 0.5
STRENGTH = ("EOT convergence", "steps doubled", "black box", "falls with radius")
"""Checks that would find a weak attack."""


def clouds_overlap(records: Sequence[RunRecord]) -> list[Finding]:
    """In networks with noise the versions of an image, clean and attacked, lie over each other; in others they do not.

    Rule: overlap is 2 (1 - held-out accuracy of a line between the two clouds), at the last stage before the logits. In
    every family with networks with noise: at the smallest measured radius their overlap is above 0.5, and it falls from
    the smallest to the largest radius; in networks of the family without noise it is below 0.1 at every radius. Each
    95 % bootstrap interval over images agrees. Of several noise levels the one nearest to rho = 3 is taken.
    """
    found = []
    for family in families([r for r in records if with_stimuli(r)]):
        noisy = nearest_to_three([r for r in family.stochastic if r.header.model.threat == "none"])
        quiet = [r for r in (*family.standard, *family.trained) if r.header.model.noise == "none"]
        if noisy and quiet:
            found += _overlapping(family.name, stimuli(noisy), stimuli(quiet))
    if not found:
        raise NotTestedError(
            "needs analyses of single stimuli (`robustgeom study`) of networks with and without noise of one family"
        )
    return found


def overlap_grows(records: Sequence[RunRecord]) -> list[Finding]:
    """The more noise, the more clean and attacked versions of an image overlap.

    Rule: in every sweep of three noise levels above 0 or more, at the smallest headline radius of the records, at the
    last stage before the logits: Spearman's correlation of rho with the overlap (seeds and images averaged) is above 0,
    as is its 95 % bootstrap interval over images.
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
    """The more noise, the harder are images to tell apart.

    Rule: in every sweep of three noise levels above 0 or more, the capacity of images under the network's own noise
    (mean-field, a manifold an image), at the last stage before the logits, falls from the smallest to the largest
    level: the 95 % bootstrap interval over images of the fall lies above 0; and from no level to the next does it rise
    by an interval above 0.
    """
    return [f for sweep in _measured(records) for f in _falls(sweep)]


def attacks_are_strong(records: Sequence[RunRecord]) -> list[Finding]:
    """None of this comes from a weak attack.

    Rule: every record of a network with noise is trustworthy (no check failed), and the checks that would find a weak
    attack ran on it and passed: more noise draws a gradient and more steps change nothing, no attack without gradients
    finds more, and robustness falls with the radius.
    """
    noisy = [r for r in records if r.header.model.rho > 0 or r.header.model.noise != "none"]
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


def _overlapping(name: str, noisy: Stimuli, quiet: Stimuli) -> list[Finding]:
    radii = sorted(set(noisy.radii()) & set(quiet.radii()))
    if len(radii) < 2:
        raise NotTestedError(f"{name}: needs attacked versions of images at two radii or more")
    stage, other = noisy.stages[-2], quiet.stages[-2]
    found = {eps: noisy.values("overlap", stage, ATTACK, eps) for eps in radii}
    low, high = found[radii[0]], found[radii[-1]]
    texts = [f"{name} at {stage}, {place(noisy.records[0], eps)}" for eps in (radii[0], radii[-1])]
    all_quiet = [quiet.values("overlap", other, ATTACK, eps) for eps in radii]
    worst = max(all_quiet, key=lambda v: float(v.mean()))
    return [
        above_zero(low - HALF, f"{texts[0]}: overlap {low.mean():.2f}, above one half by"),
        above_zero(low - high, f"{texts[1]}: overlap {high.mean():.2f}, less than at the smallest radius by"),
        above_zero(
            MOST_APART - worst,
            f"{name} without noise at {other}: overlap at most {worst.mean():.2f}, below 0.1 by",
        ),
    ]


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
    return {rho: stimuli(group) for rho, group in sweep.levels.items() if rho > 0}


def _last_hidden(levels: dict[float, Stimuli]) -> str:
    return next(iter(levels.values())).stages[-2]


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
    text = f"{sweep.name} at {stage}: capacity of images under own noise {_along(levels, table)} (its rank correlation "
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
