"""Rules of claims about families of networks: standard, adversarially trained, and with noise; no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from robustgeom.records import RunRecord
from robustgeom.report.findings import (
    Finding,
    NotTestedError,
    is_standard,
    mean_mask,
    place,
    refuse_doubtful,
    refuse_other_attacks,
    refuse_other_samples,
    refuse_twins,
)
from robustgeom.report.sweep import plainly_noisy
from robustgeom.report.tables import INPUT, logit_values, manifold_values, stages
from robustgeom.schema import PLAIN_FRONT_ENDS
from robustgeom.stats import bootstrap
from robustgeom.words import percent, points, span

__all__ = [
    "Family",
    "at_keeps_capacity",
    "contrasts",
    "families",
    "late_capacity",
    "logit_gap",
    "noise_helps",
    "noise_keeps_capacity",
]

Key = TypeVar("Key", int, str)
UNDECLARED = "user"


@dataclass(frozen=True)
class Family:
    """Records of one family by how its networks were trained; students of a teacher are none of these."""

    name: str
    standard: list[RunRecord]
    trained: list[RunRecord]
    stochastic: list[RunRecord]


def logit_gap(records: Sequence[RunRecord]) -> list[Finding]:
    """Adversarially trained models have a smaller centred max logit and a smaller gap than standard ones.

    Rule: in every family with both, the 95 % paired bootstrap interval over samples of the clean mean of
    (standard minus adversarially trained) lies above 0 for `max_logit` and for `logit_gap`. Seeds of a kind
    are averaged per sample first.
    """
    found = [f for f in families(records) if f.standard and f.trained]
    if not found:
        raise NotTestedError("needs a standard and an adversarially trained record of one family")
    return [_logit_finding(f, measure) for f in found for measure in ("max_logit", "logit_gap")]


def late_capacity(records: Sequence[RunRecord]) -> list[Finding]:
    """In standard networks the attack lowers class-manifold capacity in the last two stages.

    Rule: in every family with standard networks and at each of the last two stages of the model's list
    (logits included where listed), the 95 % bootstrap interval over manifolds of the paired drop (clean minus
    attacked) lies above 0. Seeds are averaged per manifold first.
    """
    found = [f for f in families(records) if f.standard]
    if not found:
        raise NotTestedError("needs a record of a standard network")
    return [_drop_finding(f, stage) for f in found for stage in _last_stages(f.standard, 2)]


def at_keeps_capacity(records: Sequence[RunRecord]) -> list[Finding]:
    """In adversarially trained networks the relative capacity drop at the last stage is at most half.

    Rule: in every family with both, for every recipe of adversarial training (without noise), relative drop = 1 - mean
    attacked / mean clean capacity over manifolds at the last stage; the standard one's is above 0, the adversarially
    trained one's is at most half of it, and the 95 % bootstrap interval over manifolds of (standard minus adversarially
    trained relative drop) lies above 0.
    """
    return [
        _relative_finding(f.name, f.standard, f.trained, "adversarially trained") for f in contrasts(records)
    ]


def noise_keeps_capacity(records: Sequence[RunRecord]) -> list[Finding]:
    """In networks with noise the relative capacity drop at the last stage is at most half.

    Rule: as for adversarially trained networks (`at_keeps_capacity`), of the stochastic networks that were not trained
    adversarially; of several noise levels the one nearest to rho = 3 on a logarithmic axis is taken, of a V1 front end
    or else a cochleagram where there is one.
    """
    found = [f for f in families(records) if f.standard and plainly_noisy(f.stochastic)]
    if not found:
        raise NotTestedError("needs a standard and a stochastic record (rho > 0) of one family")
    return [_relative_finding(f.name, f.standard, plainly_noisy(f.stochastic), "with noise") for f in found]


def noise_helps(records: Sequence[RunRecord]) -> list[Finding]:
    """Stochastic networks are more robust than the standard network of their family.

    Rule: at the positive radius of the common grid where the standard network keeps closest to 40 % (seeds
    averaged; the smaller radius on a tie), the stochastic network of the same family, not adversarially
    trained, is at least 15 points more robust, and the 95 % paired bootstrap interval over samples lies above
    0. Of several noise levels the one nearest to rho = 3 on a logarithmic axis is taken, of a V1 front end or else a
    cochleagram where there is one. A record with a failed check leaves the claim untested: its robust accuracy cannot
    be believed.
    """
    found = [f for f in families(records) if f.standard and plainly_noisy(f.stochastic)]
    if not found:
        raise NotTestedError("needs a standard and a stochastic record (rho > 0) of one family")
    return [_noise_finding(f) for f in found]


def families(records: Sequence[RunRecord]) -> list[Family]:
    """Return the records by family; those of one family are of the same samples, or `NotTestedError` is raised."""
    found: dict[str, Family] = {}
    for record in records:
        model = record.header.model
        # Nothing says how a user's network was trained, and a student is what its teacher made of it.
        if model.family == UNDECLARED or model.teacher:
            continue
        family = found.setdefault(model.family, Family(model.family, [], [], []))
        trained, stochastic = model.threat != "none", model.rho > 0 or model.noise != "none"
        if trained:
            family.trained.append(record)
        if stochastic:
            family.stochastic.append(record)
        if not trained and not stochastic and model.front_end in PLAIN_FRONT_ENDS and is_standard(model):
            family.standard.append(record)
    for family in found.values():
        refuse_other_samples([*family.standard, *family.trained, *family.stochastic])
    return list(found.values())


def contrasts(records: Sequence[RunRecord]) -> list[Family]:
    """Return families with standard networks and ones trained adversarially by one recipe, without noise.

    A family that was trained by several recipes (objective, norm and radius) comes once for each, and is called so.
    Raises `NotTestedError` where there is none, where samples differ, and where a network is there twice.
    """
    found = []
    for family in families(records):
        recipes: dict[tuple[str, str], list[RunRecord]] = {}
        for record in family.trained:
            model = record.header.model
            if model.rho == 0 and model.noise == "none":
                recipes.setdefault((model.objective, model.threat), []).append(record)
        for (objective, threat), trained in recipes.items() if family.standard else ():
            refuse_twins([*family.standard, *trained])
            name = f"{family.name}, {objective or 'trained'} {threat}"
            found.append(Family(name, family.standard, trained, []))
    if not found:
        raise NotTestedError("needs a standard and an adversarially trained record of one family")
    return found


def _logit_finding(family: Family, measure: str) -> Finding:
    standard, trained = (_sample_means(records, measure) for records in (family.standard, family.trained))
    common = sorted(standard.keys() & trained.keys())
    if not common:
        raise NotTestedError(f"{family.name}: no sample has {measure} in both kinds of records")
    interval = bootstrap([standard[i] - trained[i] for i in common])
    text = f"{family.name}, {measure}: standard minus adversarially trained {span(interval)} logits"
    return Finding(interval.low > 0, interval, text)


def _sample_means(records: list[RunRecord], measure: str) -> dict[int, float]:
    return _average(records, lambda r: logit_values(r, measure, "clean"), "logits tables")


def _average(
    records: list[RunRecord], read: Callable[[RunRecord], dict[Key, float]], what: str
) -> dict[Key, float]:
    tables = [read(r) for r in records]
    bare = [r.name for r, table in zip(records, tables, strict=True) if not table]
    if bare:
        raise NotTestedError(f"{what} of {', '.join(bare)} are missing")
    common = set.intersection(*(set(t) for t in tables))
    return {key: float(np.mean([t[key] for t in tables])) for key in common}


def _last_stages(records: list[RunRecord], count: int) -> list[str]:
    listed = records[0].header.model.stages or [s for s in stages(records[0], "capacity") if s != INPUT]
    if len(listed) < count:
        got = f"{records[0].name} lists {len(listed)}"
        raise NotTestedError(f"needs capacity at the last {count} stages; {got}")
    return listed[-count:]


def _capacities(records: list[RunRecord], stage: str) -> NDArray[np.float64]:
    """Per-manifold capacities at `stage`: (manifolds, 2), clean and attacked, averaged over seeds."""
    what = f"capacities of manifolds at stage {stage}"
    clean, attacked = (_average(records, _capacity_reader(stage, c), what) for c in ("clean", "attacked"))
    common = sorted(clean.keys() & attacked.keys())
    if len(common) < 2:
        raise NotTestedError(
            f"{records[0].name}: {what}, clean and attacked, for two manifolds or more are missing"
        )
    return np.array([[clean[m], attacked[m]] for m in common])


def _capacity_reader(stage: str, condition: str) -> Callable[[RunRecord], dict[str, float]]:
    return lambda record: manifold_values(record, "capacity", stage).get(condition, {})


def _drop_finding(family: Family, stage: str) -> Finding:
    values = _capacities(family.standard, stage)
    interval = bootstrap(values[:, 0] - values[:, 1])
    return Finding(
        interval.low > 0, interval, f"{family.name} at {stage}: capacity falls by {span(interval)}"
    )


def _relative_drop(values: NDArray[np.float64]) -> float:
    clean, attacked = values.mean(axis=0)
    return float(1 - attacked / clean)


def _relative_finding(name: str, standard: list[RunRecord], others: list[RunRecord], kind: str) -> Finding:
    ours, theirs = (_last_stages(r, 1)[0] for r in (others, standard))
    if ours != theirs:
        raise NotTestedError(f"{name}: the last stages differ ({theirs} and {ours})")
    first, second = (_capacities(r, theirs) for r in (standard, others))
    if len(first) != len(second):
        raise NotTestedError(f"{name}: the two kinds were measured on different manifolds")
    drops = _relative_drop(first), _relative_drop(second)
    both = np.hstack([first, second])
    interval = bootstrap(both, lambda v: _relative_drop(v[:, :2]) - _relative_drop(v[:, 2:]))
    shares = f"{percent(drops[0])} standard, {percent(drops[1])} {kind}"
    text = f"{name} at {theirs}: relative drop {shares}, difference {points(interval)} (n={interval.n})"
    holds = drops[0] > 0 and drops[1] <= drops[0] / 2 and interval.low > 0
    return Finding(holds, interval, text)


def _noise_finding(family: Family) -> Finding:
    noisy = plainly_noisy(family.stochastic)
    refuse_doubtful([*family.standard, *noisy])
    refuse_other_attacks([*family.standard, *noisy])
    radius = _telling_radius(family.standard, noisy)
    standard, stochastic = (mean_mask(records, radius) for records in (family.standard, noisy))
    interval = bootstrap(stochastic - standard)
    shares = f"{percent(stochastic.mean())} stochastic, {percent(standard.mean())} standard"
    where = place(family.standard[0], radius)
    text = f"{family.name} at {where}: {shares}, difference {points(interval)} (n={interval.n})"
    # A share of 15 / 100 is not exactly 0.15 in binary.
    return Finding(interval.value >= 0.15 - 1e-9 and interval.low > 0, interval, text)


def _telling_radius(standard: list[RunRecord], noisy: list[RunRecord]) -> float:
    grids = [r.header.threat.grid for r in [*standard, *noisy]]
    common = [
        x for x in sorted(set(grids[0])) if x > 0 and all(any(abs(x - y) < 1e-12 for y in g) for g in grids)
    ]
    if not common:
        raise NotTestedError("the records share no positive radius")
    return min(common, key=lambda radius: abs(float(mean_mask(standard, radius).mean()) - 0.4))
