"""Analyzers of logits (n, classes): pure functions, one number a row unless they say otherwise."""

from robustgeom.logits.calibration_error import calibration_error
from robustgeom.logits.confidence import confidence
from robustgeom.logits.entropy import entropy
from robustgeom.logits.logit_gap import logit_gap
from robustgeom.logits.margin import margin
from robustgeom.logits.max_logit import max_logit
from robustgeom.logits.mean_gap import mean_gap
from robustgeom.logits.tables import per_sample, summary_rows

__all__ = [
    "calibration_error",
    "confidence",
    "entropy",
    "logit_gap",
    "margin",
    "max_logit",
    "mean_gap",
    "per_sample",
    "summary_rows",
]
