"""What each attack of a record found, and what it cost; no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robustgeom.records import CLEAN, RunRecord

__all__ = ["AttackYield", "attack_yields"]

_SLACK = 1e-12
_COSTS = ("forward_calls", "backward_calls", "seconds")


@dataclass(frozen=True)
class AttackYield:
    """How many clean-correct samples an attack fooled, up to the strictest headline radius, and at what cost.

    `first`: those no attack before it in the suite's order had fooled, its marginal yield. `met`: those it was
    tried on; a suite that spares fallen samples tries its later attacks on fewer. Passes and seconds are sums
    over all samples and radii, the judge's passes included; `passes_per_sample` is over the samples it was given.
    """

    attack: str
    met: int
    first: int
    at_all: int
    forward_calls: int
    backward_calls: int
    seconds: float
    passes_per_sample: float


def attack_yields(record: RunRecord, radius: float) -> tuple[AttackYield, ...]:
    """Return what each attack found and cost up to `radius`, in the suite's order."""
    columns = {n: np.asarray(record.samples[n]) for n in ("sample_id", "attack", "success", *_COSTS)}
    right = np.asarray(record.header.data.sample_ids)[record.clean_mask()]
    correct = np.isin(columns["sample_id"], right)
    near = np.asarray(record.samples["radius"]) <= radius + _SLACK
    taken: set[int] = set()
    found = []
    for attack in _attack_order(record):
        given = near & (columns["attack"] == attack)
        fooled = {int(i) for i in columns["sample_id"][given & correct & columns["success"]]}
        met, samples = (len(np.unique(columns["sample_id"][rows])) for rows in (given & correct, given))
        cost = {n: columns[n][given].sum().item() for n in _COSTS}
        passes = (cost["forward_calls"] + cost["backward_calls"]) / max(samples, 1)
        found.append(
            AttackYield(attack, met, len(fooled - taken), len(fooled), **cost, passes_per_sample=passes)
        )
        taken |= fooled
    return tuple(found)


def _attack_order(record: RunRecord) -> list[str]:
    seen = list(dict.fromkeys(record.samples["attack"].to_pylist()))
    listed = [str(a["name"]) for a in record.header.suite.attacks if "name" in a]
    return [a for a in dict.fromkeys([*listed, *seen]) if a in seen and a != CLEAN]
