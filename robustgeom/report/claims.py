"""Claims from papers, judged on records by rules that were committed before the results; no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from robustgeom.errors import unknown
from robustgeom.records import RunRecord
from robustgeom.report.families import at_keeps_capacity, late_capacity, logit_gap, noise_helps
from robustgeom.report.findings import Finding, NotTestedError
from robustgeom.report.logit_rules import (
    confidences_disagree,
    every_gap_shrinks,
    extremes_differ,
    less_overconfident,
    margin_ranks_robustness,
    not_every_sample,
    shrinkage_grows,
)
from robustgeom.report.student_rules import (
    clean_lessons_help,
    robust_distillation_keeps_up,
    sample_confidence_matters,
    shrinkage_is_not_enough,
    simple_distributions_fail,
    students_stay_below,
    wrong_classes_matter,
)
from robustgeom.report.sweep import interior_peak, noise_beyond_filters, noise_costs_clean
from robustgeom.stats import Interval

__all__ = ["CLAIMS", "RULES", "Claim", "ClaimResult", "judge"]

Status = Literal["reproduced", "not reproduced", "not tested"]


@dataclass(frozen=True)
class Claim:
    """A statement from a paper, the name of the rule in `RULES` that judges it, and the study that it belongs to."""

    id: str
    text: str
    source: str
    rule: str
    study: str = "networks"


@dataclass(frozen=True)
class ClaimResult:
    """How a claim fared: status, effect with its 95 % interval, and the numbers or the lack behind it."""

    claim: Claim
    status: Status
    effect: float | None
    interval: Interval | None
    reason: str


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


RULES: dict[str, Callable[[Sequence[RunRecord]], list[Finding]]] = {
    "at_keeps_capacity": at_keeps_capacity,
    "clean_lessons_help": clean_lessons_help,
    "confidences_disagree": confidences_disagree,
    "every_gap_shrinks": every_gap_shrinks,
    "extremes_differ": extremes_differ,
    "interior_peak": interior_peak,
    "late_capacity": late_capacity,
    "less_overconfident": less_overconfident,
    "logit_gap": logit_gap,
    "margin_ranks_robustness": margin_ranks_robustness,
    "noise_beyond_filters": noise_beyond_filters,
    "noise_costs_clean": noise_costs_clean,
    "noise_helps": noise_helps,
    "not_every_sample": not_every_sample,
    "robust_distillation_keeps_up": robust_distillation_keeps_up,
    "sample_confidence_matters": sample_confidence_matters,
    "shrinkage_grows": shrinkage_grows,
    "shrinkage_is_not_enough": shrinkage_is_not_enough,
    "simple_distributions_fail": simple_distributions_fail,
    "students_stay_below": students_stay_below,
    "wrong_classes_matter": wrong_classes_matter,
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
    Claim(
        "every-gap",
        "The gaps to all next-largest logits shrink under adversarial training.",
        "Seguin et al. 2021, arXiv:2108.12001, abstract",
        "every_gap_shrinks",
        "logits",
    ),
    Claim(
        "not-every-sample",
        "Gaps shrink on average, not for every sample.",
        "Seguin et al. 2021, arXiv:2108.12001, abstract; the bounds are ours",
        "not_every_sample",
        "logits",
    ),
    Claim(
        "shrinkage-grows",
        "Gaps shrink the more the larger the radius of adversarial training is.",
        "derived from the worst-case margin of a linear classifier; compare Seguin et al. 2021, arXiv:2108.12001",
        "shrinkage_grows",
        "logits",
    ),
    Claim(
        "confidences-disagree",
        "Standard and adversarially trained networks differ in which samples they are sure of.",
        "Seguin et al. 2021, arXiv:2108.12001, abstract; the ceiling by seeds is ours",
        "confidences_disagree",
        "logits",
    ),
    Claim(
        "extremes-differ",
        "Samples with the largest difference of confidence look different.",
        "Seguin et al. 2021, arXiv:2108.12001, abstract; measured by their classes, which is ours",
        "extremes_differ",
        "logits",
    ),
    Claim(
        "less-overconfident",
        "Robust networks are less overconfident, also on clean data.",
        "Grabinski et al. 2022, arXiv:2210.05938, abstract",
        "less_overconfident",
        "logits",
    ),
    Claim(
        "margin-ranks-robustness",
        "The logit margin ranks samples of a robust network by their distance from the boundary.",
        "Ngnawe et al. 2024, arXiv:2406.18451, abstract; the threshold is ours",
        "margin_ranks_robustness",
        "logits",
    ),
    Claim(
        "clean-lessons-help",
        "Distilled on clean inputs alone, an adversarially trained teacher hands on some robustness.",
        "Seguin et al. 2021, arXiv:2108.12001, abstract; Goldblum et al. 2020, arXiv:1905.09747",
        "clean_lessons_help",
        "students",
    ),
    Claim(
        "students-stay-below",
        "That student stays less robust than its teacher.",
        'Seguin et al. 2021, arXiv:2108.12001, abstract ("some robustness")',
        "students_stay_below",
        "students",
    ),
    Claim(
        "wrong-classes-matter",
        "What the teacher says of incorrect classes is essential.",
        "Seguin et al. 2021, arXiv:2108.12001, abstract; the manipulations are ours",
        "wrong_classes_matter",
        "students",
    ),
    Claim(
        "shrinkage-is-not-enough",
        "Small logits and gaps alone do not make a student robust.",
        "Seguin et al. 2021, arXiv:2108.12001, abstract; inferred",
        "shrinkage_is_not_enough",
        "students",
    ),
    Claim(
        "sample-confidence-matters",
        "The confidences of single samples are needed.",
        "Seguin et al. 2021, arXiv:2108.12001, abstract; the manipulations are ours",
        "sample_confidence_matters",
        "students",
    ),
    Claim(
        "simple-distributions-fail",
        "The distributions needed are complex: class means and Gaussians do not suffice.",
        "Seguin et al. 2021, arXiv:2108.12001, abstract; the manipulations are ours",
        "simple_distributions_fail",
        "students",
    ),
    Claim(
        "robust-distillation-keeps-up",
        "A student taught on attacked inputs is at least as robust as one of its size that was trained adversarially.",
        "Goldblum et al. 2020, arXiv:1905.09747; Zi et al. 2021, arXiv:2108.07969; Huang et al. 2023 (AdaAD)",
        "robust_distillation_keeps_up",
        "students",
    ),
)
