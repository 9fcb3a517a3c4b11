"""Claims from papers, judged on records by rules that were committed before the results; no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from robustgeom.errors import unknown
from robustgeom.records import RunRecord
from robustgeom.report.findings import (
    Finding,
    NotTestedError,
    is_standard,
    mean_mask,
    refuse_doubtful,
    refuse_other_attacks,
    refuse_other_samples,
)
from robustgeom.report.sweep import interior_peak, nearest_to_three, noise_beyond_filters, noise_costs_clean
from robustgeom.report.tables import INPUT, logit_values, manifold_values, stages
from robustgeom.schema import PLAIN_FRONT_ENDS
from robustgeom.stats import Interval, bootstrap
from robustgeom.words import percent, points, radius_text

__all__ = ["CLAIMS", "RULES", "Claim", "ClaimResult", "judge"]

Status = Literal["reproduced", "not reproduced", "not tested"]
Key = TypeVar("Key", int, str)
UNDECLARED = "user"


@dataclass(frozen=True)
class Claim:
    """A statement from a paper and the name of the rule in `RULES` that judges it."""

    id: str
    text: str
    source: str
    rule: str


@dataclass(frozen=True)
class ClaimResult:
    """How a claim fared: status, effect with its 95 % interval, and the numbers or the lack behind it."""

    claim: Claim
    status: Status
    effect: float | None
    interval: Interval | None
    reason: str


@dataclass(frozen=True)
class _Family:
    name: str
    standard: list[RunRecord]
    trained: list[RunRecord]
    stochastic: list[RunRecord]


def judge(claim: Claim, records: Iterable[RunRecord]) -> ClaimResult:
    """Judge `claim` on the complete ones among `records`; unfinished runs never count.

    The effect is that of the least favourable comparison, so one family that disagrees decides. Raises
    `UnknownNameError` where the claim names a rule that does not exist.

    >>> judge(CLAIMS[0], []).status
    'not tested'
    """
    if claim.rule not in RULES:
        raise unknown("rule", claim.rule, RULES)
    complete = [r for r in records if r.header.status == "complete"]
    try:
        findings = RULES[claim.rule](complete)
    except NotTestedError as lack:
        return ClaimResult(claim, "not tested", None, None, str(lack))
    worst = min(findings, key=lambda f: (f.holds, f.interval.low))
    status: Status = "reproduced" if all(f.holds for f in findings) else "not reproduced"
    return ClaimResult(
        claim, status, worst.interval.value, worst.interval, "; ".join(f.text for f in findings)
    )


def logit_gap(records: Sequence[RunRecord]) -> list[Finding]:
    """Adversarially trained models have a smaller centred max logit and a smaller gap than standard ones.

    Rule: in every family with both, the 95 % paired bootstrap interval over samples of the clean mean of
    (standard minus adversarially trained) lies above 0 for `max_logit` and for `logit_gap`. Seeds of a kind
    are averaged per sample first.
    """
    families = [f for f in _families(records) if f.standard and f.trained]
    if not families:
        raise NotTestedError("needs a standard and an adversarially trained record of one family")
    return [_logit_finding(f, measure) for f in families for measure in ("max_logit", "logit_gap")]


def late_capacity(records: Sequence[RunRecord]) -> list[Finding]:
    """In standard networks the attack lowers class-manifold capacity in the last two stages.

    Rule: in every family with standard networks and at each of the last two stages of the model's list
    (logits included where listed), the 95 % bootstrap interval over manifolds of the paired drop (clean minus
    attacked) lies above 0. Seeds are averaged per manifold first.
    """
    families = [f for f in _families(records) if f.standard]
    if not families:
        raise NotTestedError("needs a record of a standard network")
    return [_drop_finding(f, stage) for f in families for stage in _last_stages(f.standard, 2)]


def at_keeps_capacity(records: Sequence[RunRecord]) -> list[Finding]:
    """In adversarially trained networks the relative capacity drop at the last stage is at most half.

    Rule: in every family with both, relative drop = 1 - mean attacked / mean clean capacity over manifolds at
    the last stage; the standard one's is above 0, the adversarially trained one's is at most half of it, and
    the 95 % bootstrap interval over manifolds of (standard minus adversarially trained relative drop) lies
    above 0.
    """
    families = [f for f in _families(records) if f.standard and f.trained]
    if not families:
        raise NotTestedError("needs a standard and an adversarially trained record of one family")
    return [_relative_finding(f) for f in families]


def noise_helps(records: Sequence[RunRecord]) -> list[Finding]:
    """Stochastic networks are more robust than the standard network of their family.

    Rule: at the positive radius of the common grid where the standard network keeps closest to 40 % (seeds
    averaged; the smaller radius on a tie), the stochastic network of the same family, not adversarially
    trained, is at least 15 points more robust, and the 95 % paired bootstrap interval over samples lies above
    0. Of several noise levels the one nearest to rho = 3 on a logarithmic axis is taken, of a V1 front end or else a
    cochleagram where there is one. A record with a failed check leaves the claim untested: its robust accuracy cannot
    be believed.
    """
    families = [f for f in _families(records) if f.standard and _plain_noise(f)]
    if not families:
        raise NotTestedError("needs a standard and a stochastic record (rho > 0) of one family")
    return [_noise_finding(f) for f in families]


RULES: dict[str, Callable[[Sequence[RunRecord]], list[Finding]]] = {
    "at_keeps_capacity": at_keeps_capacity,
    "interior_peak": interior_peak,
    "late_capacity": late_capacity,
    "logit_gap": logit_gap,
    "noise_beyond_filters": noise_beyond_filters,
    "noise_costs_clean": noise_costs_clean,
    "noise_helps": noise_helps,
}

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "logit-gap",
        "Adversarially trained models have on average a smaller max logit and a smaller logit gap than "
        "standard ones of the same family.",
        "Seguin et al. 2021, arXiv:2108.12001, abstract",
        "logit_gap",
    ),
    Claim(
        "late-capacity",
        "In standard networks the attack lowers class-manifold capacity in the last two stages.",
        "Dapello et al. 2021, arXiv:2111.06979, abstract; the direction is inferred",
        "late_capacity",
    ),
    Claim(
        "at-keeps-capacity",
        "In adversarially trained networks the attack costs at most half as much of the last stage's "
        "capacity as in the standard network.",
        "Dapello et al. 2021, arXiv:2111.06979, abstract; the factor is ours",
        "at_keeps_capacity",
    ),
    Claim(
        "noise-helps",
        "A stochastic network is at least 15 points more robust where the standard one keeps about 40 %.",
        "Dapello et al. 2021, arXiv:2111.06979, abstract; the margin is ours",
        "noise_helps",
    ),
    Claim(
        "noise-beyond-filters",
        "The gain is not from the fixed filters alone: with noise the same front end is more robust than without.",
        "Dapello et al. 2021, arXiv:2111.06979; inferred, with a twin trained without noise",
        "noise_beyond_filters",
    ),
    Claim(
        "noise-costs-clean",
        "Noise costs clean accuracy: the more noise, the lower it is.",
        "Dapello et al. 2021, arXiv:2111.06979, abstract (a trade-off); the order is inferred",
        "noise_costs_clean",
    ),
    Claim(
        "interior-peak",
        "Robust accuracy peaks at an intermediate noise level.",
        "Dapello et al. 2021, arXiv:2111.06979, abstract (competing effects); the test is ours",
        "interior_peak",
    ),
)


def _families(records: Sequence[RunRecord]) -> list[_Family]:
    found: dict[str, _Family] = {}
    for record in records:
        model = record.header.model
        # Nothing says how a user's network was trained, and a student is what its teacher made of it.
        if model.family == UNDECLARED or model.teacher:
            continue
        family = found.setdefault(model.family, _Family(model.family, [], [], []))
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


def _plain_noise(family: _Family) -> list[RunRecord]:
    return nearest_to_three([r for r in family.stochastic if r.header.model.threat == "none"])


def _logit_finding(family: _Family, measure: str) -> Finding:
    standard, trained = (_sample_means(records, measure) for records in (family.standard, family.trained))
    common = sorted(standard.keys() & trained.keys())
    if not common:
        raise NotTestedError(f"{family.name}: no sample has {measure} in both kinds of records")
    interval = bootstrap([standard[i] - trained[i] for i in common])
    text = f"{family.name}, {measure}: standard minus adversarially trained {_span(interval)} logits"
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


def _drop_finding(family: _Family, stage: str) -> Finding:
    values = _capacities(family.standard, stage)
    interval = bootstrap(values[:, 0] - values[:, 1])
    return Finding(
        interval.low > 0, interval, f"{family.name} at {stage}: capacity falls by {_span(interval)}"
    )


def _relative_drop(values: NDArray[np.float64]) -> float:
    clean, attacked = values.mean(axis=0)
    return float(1 - attacked / clean)


def _relative_finding(family: _Family) -> Finding:
    ours, theirs = (_last_stages(r, 1)[0] for r in (family.trained, family.standard))
    if ours != theirs:
        raise NotTestedError(f"{family.name}: the last stages differ ({theirs} and {ours})")
    standard, trained = (_capacities(r, theirs) for r in (family.standard, family.trained))
    if len(standard) != len(trained):
        raise NotTestedError(f"{family.name}: the two kinds were measured on different manifolds")
    drops = _relative_drop(standard), _relative_drop(trained)
    both = np.hstack([standard, trained])
    interval = bootstrap(both, lambda v: _relative_drop(v[:, :2]) - _relative_drop(v[:, 2:]))
    shares = f"{percent(drops[0])} standard, {percent(drops[1])} adversarially trained"
    text = (
        f"{family.name} at {theirs}: relative drop {shares}, difference {points(interval)} (n={interval.n})"
    )
    holds = drops[0] > 0 and drops[1] <= drops[0] / 2 and interval.low > 0
    return Finding(holds, interval, text)


def _noise_finding(family: _Family) -> Finding:
    noisy = _plain_noise(family)
    refuse_doubtful([*family.standard, *noisy])
    refuse_other_attacks([*family.standard, *noisy])
    radius = _telling_radius(family.standard, noisy)
    standard, stochastic = (mean_mask(records, radius) for records in (family.standard, noisy))
    interval = bootstrap(stochastic - standard)
    shares = f"{percent(stochastic.mean())} stochastic, {percent(standard.mean())} standard"
    norm = family.standard[0].header.threat.norm
    place = f"{norm} {radius_text(radius, norm)}"
    text = f"{family.name} at {place}: {shares}, difference {points(interval)} (n={interval.n})"
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


def _span(interval: Interval) -> str:
    return f"{interval.value:.3g} [{interval.low:.3g}, {interval.high:.3g}] (n={interval.n})"
