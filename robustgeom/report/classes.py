"""What logits say class by class; no torch."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from robustgeom.records import RunRecord
from robustgeom.report.geometry import Sheet
from robustgeom.report.tables import clean_labels, clean_log_p
from robustgeom.words import percent

__all__ = ["class_sheet"]

MOST = 30  # classes, beyond which a table says little
HEADS = (
    "class",
    "samples",
    "clean",
    "robust",
    "margin",
    "confidence",
    "usual runner-up",
    "fooled into",
)


def class_sheet(record: RunRecord, radius: float, place: str) -> Sheet | None:
    """Return one row a class; None without clean log-probabilities or with more than 30 classes.

    Shares of samples; robust at `radius`, called `place`; margin in logits, confidence as a probability, means over
    clean samples.
    """
    names = record.header.data.classes
    if "log_p.clean" not in record.arrays or not 1 < len(names) <= MOST:
        return None
    log_p, labels = clean_log_p(record), clean_labels(record)
    attacked = record.arrays.get("log_p.attacked")
    masks = record.clean_mask(), record.robust_mask(radius)
    rows = [
        _row(names, k, labels == k, log_p, attacked, masks) for k in range(len(names)) if (labels == k).any()
    ]
    caption = f"By class: shares clean and robust at {place}, means of clean margin (logits) and confidence."
    return Sheet(caption, HEADS, tuple(rows))


def _row(
    names: list[str],
    label: int,
    own: NDArray[np.bool_],
    log_p: NDArray[np.float64],
    attacked: NDArray[np.float32] | None,
    masks: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> tuple[str | int, ...]:
    others = np.delete(np.arange(len(names)), label)
    rest = log_p[own][:, others]
    margin, sure = (log_p[own, label] - rest.max(axis=1)).mean(), np.exp(log_p[own].max(axis=1)).mean()
    fell = [] if attacked is None else attacked[own].argmax(axis=1)[masks[0][own] & ~masks[1][own]].tolist()
    return (
        names[label],
        int(own.sum()),
        *(percent(mask[own].mean()) for mask in masks),
        f"{margin:.2f}",
        f"{sure:.2f}",
        _commonest(names, others[rest.argmax(axis=1)].tolist()),
        _commonest(names, [k for k in fell if k != label]),
    )


def _commonest(names: list[str], found: list[int]) -> str:
    if not found:
        return "none"
    index, count = Counter(found).most_common(1)[0]
    return f"{names[index]} ({percent(count / len(found))})"
