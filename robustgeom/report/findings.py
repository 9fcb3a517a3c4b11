"""What the rules of claims are made of: findings, what is missing, masks averaged over seeds; no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustgeom.records import ModelInfo, RunRecord
from robustgeom.stats import Interval, bootstrap
from robustgeom.words import radius_text, span

__all__ = [
    "Finding",
    "NotTestedError",
    "above_zero",
    "is_standard",
    "mean_mask",
    "met",
    "place",
    "refuse_doubtful",
    "refuse_other_attacks",
    "refuse_other_samples",
    "refuse_twins",
    "shares",
    "some",
]


@dataclass(frozen=True)
class Finding:
    """One comparison inside a rule: it holds or not."""

    holds: bool
    interval: Interval
    text: str


class NotTestedError(Exception):
    """What is missing to test a claim."""


def above_zero(values: NDArray[np.float64], text: str) -> Finding:
    """Return the finding that the mean over units (n,) is above 0: its 95 % bootstrap interval is, as `text` says."""
    interval = bootstrap(values)
    return Finding(interval.low > 0, interval, f"{text} {span(interval)}")


def some(found: list[Finding], what: str) -> list[Finding]:
    """Return the findings; raise `NotTestedError`, which says that `what` is needed, where there is none."""
    if not found:
        raise NotTestedError(f"needs {what}")
    return found


def place(record: RunRecord, radius: float) -> str:
    """Write a radius with the norm of a record; 0 is clean."""
    norm = record.header.threat.norm
    return f"{norm} {radius_text(radius, norm)}" if radius else "clean"


def refuse_doubtful(records: list[RunRecord]) -> None:
    """Raise `NotTestedError` where a record has a failed check: its robust accuracy cannot be believed."""
    doubtful = [r.name for r in records if not r.verdict.trustworthy]
    if doubtful:
        raise NotTestedError(f"needs records without a failed check; {', '.join(doubtful)} failed one")


def refuse_other_samples(records: list[RunRecord]) -> None:
    """Raise `NotTestedError` where records are not of the same samples under the same norm."""
    for record in records[1:]:
        ours, theirs = records[0].header, record.header
        same = theirs.data.hash == ours.data.hash and theirs.data.sample_ids == ours.data.sample_ids
        if not same or theirs.threat.norm != ours.threat.norm:
            names = f"{records[0].name} and {record.name}"
            raise NotTestedError(f"{names} were evaluated on other samples or under another norm")


def refuse_other_attacks(records: list[RunRecord]) -> None:
    """Raise `NotTestedError` where records met different attacks, or two are of the same network."""
    for record in records:
        if met(record) != met(records[0]):
            names = f"{records[0].name} and {record.name}"
            raise NotTestedError(f"{names} met different attacks or remedies")
    refuse_twins(records)


def refuse_twins(records: list[RunRecord]) -> None:
    """Raise `NotTestedError` where two records are of the same network."""
    for i, record in enumerate(records):
        if record.header.model.digest in [r.header.model.digest for r in records[:i]]:
            raise NotTestedError(f"{record.name} is there twice: one network is no second seed")


def met(record: RunRecord) -> tuple[object, ...]:
    """Return what decides what a record met; of noise draws the suite says how many, for networks with noise."""
    header = record.header
    return (header.suite.digest, frozenset(r.attack for r in header.remedies))


def is_standard(model: ModelInfo) -> bool:
    """Return whether a network was trained on nothing but its clean samples, as far as its record says."""
    return model.threat == "none" and model.objective in ("", "standard")


def mean_mask(records: list[RunRecord], radius: float, *, undecided: bool = False) -> NDArray[np.float64]:
    """Return the share of the records (seeds) in whose `robust_mask` at `radius` each sample (n,) is."""
    masks: NDArray[np.float64] = np.mean(
        [r.robust_mask(radius, undecided=undecided) for r in records], axis=0
    )
    return masks


def shares(records: list[RunRecord], radius: float, *, undecided: bool = False) -> NDArray[np.float64]:
    """Return how right each sample (n,) is, records (seeds) averaged: by `mean_mask`, and at radius 0 by noise draws.

    Where verdicts are undecided more often the more noise there is, draws are what clean accuracies can be compared by.
    """
    if radius:
        return mean_mask(records, radius, undecided=undecided)
    draws: NDArray[np.float64] = np.mean([r.right_draws(0.0) for r in records], axis=0)
    return draws
