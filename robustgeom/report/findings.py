"""What the rules of claims are made of: findings, what is missing, masks averaged over seeds; no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustgeom.records import RunRecord
from robustgeom.stats import Interval

__all__ = ["Finding", "NotTestedError", "mean_mask", "refuse_doubtful", "refuse_other_samples"]


@dataclass(frozen=True)
class Finding:
    """One comparison inside a rule: it holds or not."""

    holds: bool
    interval: Interval
    text: str


class NotTestedError(Exception):
    """What is missing to test a claim."""


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


def mean_mask(records: list[RunRecord], radius: float) -> NDArray[np.float64]:
    """Return the share of the records (seeds) in which each sample (n,) is right at `radius`."""
    masks: NDArray[np.float64] = np.mean([r.robust_mask(radius) for r in records], axis=0)
    return masks
