"""Logit measures as tables: per sample, and summarised with standard errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from robustgeom.logits.calibration_error import calibration_error
from robustgeom.logits.confidence import confidence
from robustgeom.logits.entropy import entropy
from robustgeom.logits.logit_gap import logit_gap
from robustgeom.logits.margin import margin
from robustgeom.logits.max_logit import max_logit
from robustgeom.logits.mean_gap import mean_gap

__all__ = ["per_sample", "summary_rows"]

_MEASURES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "max_logit": max_logit,
    "logit_gap": logit_gap,
    "mean_gap": mean_gap,
    "confidence": confidence,
    "entropy": entropy,
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
    """Return one analyzer row a measure: mean and standard error over samples, and the calibration error.

    >>> import torch
    >>> rows = summary_rows(torch.zeros(4, 2), torch.zeros(4).long(), model="m", seed=0, condition="clean")
    >>> [r["value"] for r in rows if r["measure"] == "confidence"]
    [0.5]
    """
    common = {"model": model, "seed": seed, "stage": "logits", "condition": condition, "manifold": "all"}
    sizes = {"P": 1, "M": len(logits), "N": logits.shape[1], "n_t": None}
    rows: list[dict[str, object]] = []
    for name, values in per_sample(logits, labels).items():
        se = values.std().item() / len(values) ** 0.5 if len(values) > 1 else None
        rows.append({**common, "measure": name, "value": values.mean().item(), "se": se, **sizes})
    error = calibration_error(logits, labels)
    rows.append({**common, "measure": "calibration_error", "value": error, "se": None, **sizes})
    return rows
