"""Claims from papers, judged on records by rules that were committed before the results; no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from robustgeom.errors import unknown
from robustgeom.records import RunRecord
from robustgeom.report.embedding_rules import (
    attacked_views_help,
    capacity_compresses_views,
    capacity_is_more_robust,
    more_views_help,
    probes_are_as_accurate,
    views_make_smaller_manifolds,
)
from robustgeom.report.families import (
    at_keeps_capacity,
    late_capacity,
    logit_gap,
    noise_helps,
    noise_keeps_capacity,
)
from robustgeom.report.findings import Finding, NotTestedError
from robustgeom.report.gate_rules import gates_hide
from robustgeom.report.gln_rules import (
    deep_beats_shallow,
    limit_follows,
    margin_grows,
    medians_help,
    relu_gates_carry,
    shallow_has_a_best_size,
)
from robustgeom.report.graph_rules import (
    attacks_change_graphs_more,
    attacks_undo_class_modules,
    graphs_differ,
    graphs_explain_robustness,
    norm_raises_efficiency,
)
from robustgeom.report.logit_rules import (
    confidences_disagree,
    every_gap_shrinks,
    extremes_differ,
    less_overconfident,
    margin_ranks_robustness,
    not_every_sample,
    shrinkage_grows,
)
from robustgeom.report.noise_rules import attacks_are_strong, clouds_overlap, noise_blurs, overlap_grows
from robustgeom.report.stimulus_rules import (
    noise_is_compressed,
    noise_widens,
    signatures_differ,
    standard_widths_grow,
    trained_widths_stay,
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
from robustgeom.report.vector_rules import (
    broadcasting_keeps_up,
    broadcasting_trains_convolutions,
    rule_matters_little,
    scalars_are_more_robust,
    signals_align,
    signals_keep_their_sign,
    vectors_cost_accuracy,
)
from robustgeom.report.wave_rules import (
    shuffles_lose_the_gain,
    waves_help_classes_little,
    waves_leave_contrasts,
    waves_resist_attacks,
    waves_resist_shifts,
    waves_shrink_translations,
    waves_tell_images_apart,
)
from robustgeom.stats import Interval

__all__ = ["RULES", "Claim", "ClaimResult", "judge"]

Status = Literal["reproduced", "not reproduced", "not tested"]


@dataclass(frozen=True)
class Claim:
    """A statement from a paper, the name of the rule in `RULES` that judges it, and the study that it belongs to.

    `section` of the page shows what it is about, the CSV file `table` beside the page has the numbers.
    """

    id: str
    text: str
    source: str
    rule: str
    study: str
    section: str
    table: str


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

    >>> claim = Claim("gap", "Gaps shrink.", "arXiv:2108.12001", "logit_gap", "logits", "kinds", "logits.csv")
    >>> judge(claim, []).status
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
    "attacked_views_help": attacked_views_help,
    "attacks_are_strong": attacks_are_strong,
    "attacks_change_graphs_more": attacks_change_graphs_more,
    "attacks_undo_class_modules": attacks_undo_class_modules,
    "broadcasting_keeps_up": broadcasting_keeps_up,
    "broadcasting_trains_convolutions": broadcasting_trains_convolutions,
    "capacity_compresses_views": capacity_compresses_views,
    "capacity_is_more_robust": capacity_is_more_robust,
    "clean_lessons_help": clean_lessons_help,
    "clouds_overlap": clouds_overlap,
    "confidences_disagree": confidences_disagree,
    "deep_beats_shallow": deep_beats_shallow,
    "every_gap_shrinks": every_gap_shrinks,
    "extremes_differ": extremes_differ,
    "gates_hide": gates_hide,
    "graphs_differ": graphs_differ,
    "graphs_explain_robustness": graphs_explain_robustness,
    "interior_peak": interior_peak,
    "late_capacity": late_capacity,
    "less_overconfident": less_overconfident,
    "limit_follows": limit_follows,
    "logit_gap": logit_gap,
    "margin_grows": margin_grows,
    "margin_ranks_robustness": margin_ranks_robustness,
    "medians_help": medians_help,
    "more_views_help": more_views_help,
    "noise_beyond_filters": noise_beyond_filters,
    "noise_blurs": noise_blurs,
    "noise_costs_clean": noise_costs_clean,
    "noise_helps": noise_helps,
    "noise_is_compressed": noise_is_compressed,
    "noise_keeps_capacity": noise_keeps_capacity,
    "noise_widens": noise_widens,
    "norm_raises_efficiency": norm_raises_efficiency,
    "not_every_sample": not_every_sample,
    "overlap_grows": overlap_grows,
    "probes_are_as_accurate": probes_are_as_accurate,
    "relu_gates_carry": relu_gates_carry,
    "robust_distillation_keeps_up": robust_distillation_keeps_up,
    "rule_matters_little": rule_matters_little,
    "sample_confidence_matters": sample_confidence_matters,
    "scalars_are_more_robust": scalars_are_more_robust,
    "shallow_has_a_best_size": shallow_has_a_best_size,
    "shrinkage_grows": shrinkage_grows,
    "shrinkage_is_not_enough": shrinkage_is_not_enough,
    "shuffles_lose_the_gain": shuffles_lose_the_gain,
    "signals_align": signals_align,
    "signals_keep_their_sign": signals_keep_their_sign,
    "signatures_differ": signatures_differ,
    "simple_distributions_fail": simple_distributions_fail,
    "standard_widths_grow": standard_widths_grow,
    "students_stay_below": students_stay_below,
    "trained_widths_stay": trained_widths_stay,
    "vectors_cost_accuracy": vectors_cost_accuracy,
    "views_make_smaller_manifolds": views_make_smaller_manifolds,
    "waves_help_classes_little": waves_help_classes_little,
    "waves_leave_contrasts": waves_leave_contrasts,
    "waves_resist_attacks": waves_resist_attacks,
    "waves_resist_shifts": waves_resist_shifts,
    "waves_shrink_translations": waves_shrink_translations,
    "waves_tell_images_apart": waves_tell_images_apart,
    "wrong_classes_matter": wrong_classes_matter,
}
