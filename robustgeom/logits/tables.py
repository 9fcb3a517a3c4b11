"""Logit measures as tables: per sample, and summarised with standard errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from robustgeom.logits.adaptive_calibration_error import adaptive_calibration_error
from robustgeom.logits.best_temperature import best_temperature
from robustgeom.logits.brier_score import brier_score
from robustgeom.logits.calibration_error import calibration_error
from robustgeom.logits.confidence import confidence
from robustgeom.logits.entropy import entropy
from robustgeom.logits.logit_gap import logit_gap
from robustgeom.logits.margin import margin
from robustgeom.logits.max_logit import max_logit
from robustgeom.logits.mean_gap import mean_gap
from robustgeom.logits.overconfidence import overconfidence
from robustgeom.logits.underconfidence import underconfidence

__all__ = ["per_sample", "summary_rows"]

_MEASURES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "max_logit": max_logit,
    "logit_gap": logit_gap,
    "mean_gap": mean_gap,
    "confidence": confidence,
    "entropy": entropy,
}
_BINS = 15
_TOGETHER: Mapping[str, Callable[[Tensor, Tensor], float]] = {
    "calibration_error": partial(calibration_error, bins=_BINS),
    "adaptive_calibration_error": lambda z, y: adaptive_calibration_error(z, y, bins=min(_BINS, len(z))),
    "best_temperature": best_temperature,
    "overconfidence": overconfidence,
    "underconfidence": underconfidence,
}


def per_sample(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return every per-row measure of logits (n, classes): a mapping from its name to (n,) float64.

    >>> import torch
    >>> sorted(per_sample(torch.zeros(1, 2), torch.tensor([0])))
    ['confidence', 'entropy', 'logit_gap', 'margin', 'max_logit', 'mean_gap']
    """
    wide = logits.double()
    return {**{name: f(wide) for name, f in _MEASURES.items()}, "margin": margin(wide, labels)}


def summary_rows(
    logits: Tensor, labels: Tensor, *, model: str, seed: int, condition: str
) -> list[dict[str, object]]:
    """Return one analyzer row a measure: mean and standard error over samples, and measures of all samples together.

    Those that have no finite number, such as the confidence of wrong predictions where none is wrong, have no row.

    >>> import torch
    >>> rows = summary_rows(torch.zeros(4, 2), torch.zeros(4).long(), model="m", seed=0, condition="clean")
    >>> [r["value"] for r in rows if r["measure"] == "confidence"]
    [0.5]
    """
    common = {"model": model, "seed": seed, "stage": "logits", "condition": condition, "manifold": "all"}
    sizes = {"P": 1, "M": len(logits), "N": logits.shape[1], "n_t": None}
    rows: list[dict[str, object]] = []
    each = {**per_sample(logits, labels), "brier_score": brier_score(logits.double(), labels)}
    for name, values in each.items():
        se = values.std().item() / len(values) ** 0.5 if len(values) > 1 else None
        rows.append({**common, "measure": name, "value": values.mean().item(), "se": se, **sizes})
    found = {name: measure(logits, labels) for name, measure in _TOGETHER.items()}
    rows += [
        {**common, "measure": name, "value": value, "se": None, **sizes}
        for name, value in found.items()
        if math.isfinite(value)
    ]
    return rows
