"""The rule of the claim that hard gates hide adversarial examples; no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robustgeom.records import RunRecord
from robustgeom.report.findings import (
    Finding,
    above_zero,
    mean_mask,
    place,
    refuse_other_samples,
    some,
)
from robustgeom.words import percent

__all__ = ["attacked_softly", "fell_only", "gates_hide", "spelled"]

HIDDEN = 0.1  # of samples: how many hide behind gates, at least
GATED = "soft-gates"
Array = NDArray[np.float64]


def gates_hide(records: Sequence[RunRecord]) -> list[Finding]:
    """Hard gates hide adversarial examples from attacks that climb gradients.

    Rule: of every family and architecture whose suite attacked along soft gates after plain attacks, at the mildest
    radius that was attacked at all if it is a headline, more than 10 points of all samples survive the plain attacks
    and fall along soft gates: the 95 % bootstrap interval over samples (seeds averaged) of (their share minus 10
    points) lies above 0.
    """
    groups: dict[tuple[str, str, float], list[RunRecord]] = {}
    for record in records:
        if (radius := attacked_softly(record)) is not None and record.header.model.architecture is not None:
            groups.setdefault((record.header.model.family, spelled(record), radius), []).append(record)
    found = []
    for (family, made, radius), own in groups.items():
        refuse_other_samples(own)
        hidden = np.mean([fell_only(r, radius) for r in own], axis=0)
        left = float(mean_mask(own, radius).mean())
        text = (
            f"{family}, {made} at {place(own[0], radius)}: {percent(left + hidden.mean())} by plain attacks, "
        )
        found.append(above_zero(hidden - HIDDEN, f"{text}{percent(left)} with soft gates, beyond 10 points"))
    return some(found, "records of networks with hard gates under a suite with soft gates")


def attacked_softly(record: RunRecord) -> float | None:
    """Return the radius at which all plain attacks came before those along soft gates and met every sample.

    That is the mildest one, as samples that have fallen meet no further attack; None where it is no headline, or where
    no attack of the suite went along soft gates.
    """
    softly = _softly(record)
    mildest = min((r for r in record.header.threat.grid if r > 0), default=None)
    return mildest if softly and mildest in record.header.threat.headlines else None


def fell_only(record: RunRecord, radius: float) -> Array:
    """Return which samples (n,) survived at `radius` until an attack along soft gates felled them."""
    softly, rows = _softly(record), record.samples.to_pydict()
    plain: set[int] = set()
    fell: set[int] = set()
    for name, at, success, sample in zip(
        rows["attack"], rows["radius"], rows["success"], rows["sample_id"], strict=True
    ):
        if success and at <= radius + 1e-12:
            (fell if name in softly else plain).add(sample)
    return np.array([float(i in fell and i not in plain) for i in record.header.data.sample_ids])


def _softly(record: RunRecord) -> set[str]:
    """Return the names of the attacks along soft gates, where plain ones came before all of them."""
    specs = record.header.suite.attacks
    soft = [i for i, spec in enumerate(specs) if spec.get("source") == GATED]
    return {specs[i]["name"] for i in soft} if soft and soft[0] > 0 else set()


def spelled(record: RunRecord) -> str:
    """Return the architecture and what trained it, as in `vnn by gevb`."""
    model = record.header.model
    assert model.architecture is not None
    arguments = "".join(f" {key}={value}" for key, value in sorted(model.architecture.arguments.items()))
    trained = model.objective + (f" at {model.threat}" if model.threat != "none" else "")
    return f"{model.architecture.name}{arguments} by {trained}"
