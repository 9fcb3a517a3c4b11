"""Analyzers of logits (n, classes): pure functions, one number a row unless they say otherwise."""

from robustgeom.logits.adaptive_calibration_error import adaptive_calibration_error
from robustgeom.logits.best_temperature import best_temperature
from robustgeom.logits.brier_score import brier_score
from robustgeom.logits.calibration_error import calibration_error
from robustgeom.logits.confidence import confidence
from robustgeom.logits.confidence_correlation import confidence_correlation
from robustgeom.logits.confidence_difference import confidence_difference
from robustgeom.logits.confident_overlap import confident_overlap
from robustgeom.logits.disagreement import disagreement
from robustgeom.logits.entropy import entropy
from robustgeom.logits.gap_profile import gap_profile
from robustgeom.logits.linear_gaussian import linear_gaussian
from robustgeom.logits.logit_gap import logit_gap
from robustgeom.logits.margin import margin
from robustgeom.logits.max_logit import max_logit
from robustgeom.logits.mean_gap import mean_gap
from robustgeom.logits.order_agreement import order_agreement
from robustgeom.logits.overconfidence import overconfidence
from robustgeom.logits.tables import per_sample, summary_rows
from robustgeom.logits.underconfidence import underconfidence

__all__ = [
    "adaptive_calibration_error",
    "best_temperature",
    "brier_score",
    "calibration_error",
    "confidence",
    "confidence_correlation",
    "confidence_difference",
    "confident_overlap",
    "disagreement",
    "entropy",
    "gap_profile",
    "linear_gaussian",
    "logit_gap",
    "margin",
    "max_logit",
    "mean_gap",
    "order_agreement",
    "overconfidence",
    "per_sample",
    "summary_rows",
    "underconfidence",
]
