"""Standard and adversarially trained networks of a family side by side: their logits, sample by sample; no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustgeom.records import RunRecord
from robustgeom.report.families import Family, contrasts
from robustgeom.report.findings import NotTestedError
from robustgeom.report.geometry import Sheet
from robustgeom.report.images import Example, portrait
from robustgeom.report.logit_rules import agreement, both_right, confidences, gaps, shares_of_rank
from robustgeom.report.tables import clean_labels, clean_log_p
from robustgeom.stats import Interval, bootstrap, wilson
from robustgeom.words import percent

__all__ = ["Inputs", "Kinds", "kinds", "nowhere"]

Array = NDArray[np.float64]
Inputs = Callable[[RunRecord], NDArray[Any] | None]
SHOWN = 8
GAP = "gap to the next"
TENTH = 10
ROWS = 1000  # of pairs of classes at once


@dataclass(frozen=True)
class Kinds:
    """What the page says of one family: shrinkage network by network, agreement, and the samples that differ most."""

    name: str
    shrinkage: Sheet
    agreement: Sheet
    extremes: tuple[tuple[str, tuple[Example, ...]], ...]


def nowhere(record: RunRecord) -> None:
    """Return no samples: none are at hand."""
    del record


def kinds(records: Sequence[RunRecord], inputs: Inputs = nowhere) -> list[Kinds]:
    """Return one comparison a family of `records` that has both kinds of networks with clean log-probabilities.

    `inputs` returns the samples (n, c, h, w) of a record, or None where they are not at hand; then none is drawn.
    """
    complete = [r for r in records if r.header.status == "complete" and "log_p.clean" in r.arrays]
    try:
        found = contrasts(complete)
    except NotTestedError:
        return []
    return [Kinds(f.name, _shrinkage(f), _agreement(f), _extremes(f, inputs(f.standard[0]))) for f in found]


def _shrinkage(family: Family) -> Sheet:
    """Each trained network against the standard ones, averaged per sample."""
    standard = _measures(family.standard)
    measured = [(record.name, _measures([record])) for record in family.trained]
    rows = [
        (
            name,
            *(_signed(bootstrap(values - standard[measure])) for measure, values in own.items()),
            _share(own[GAP] > standard[GAP]),
        )
        for name, own in measured
    ]
    caption = (
        "Adversarially trained minus standard (seeds averaged), means over clean samples with 95 % intervals; logits, "
        "confidence as a probability. The largest logit is centred: (classes - 1) / classes of the mean gap."
    )
    heads = ("network", *standard, "larger gap on")
    return Sheet(caption, heads, tuple(rows))


def _measures(records: Sequence[RunRecord]) -> dict[str, Array]:
    found = [clean_log_p(r) for r in records]
    distances = [gaps(p) for p in found]
    means = np.mean(distances, axis=0)
    return {
        "largest logit": np.mean([p.max(axis=1) - p.mean(axis=1) for p in found], axis=0),
        GAP: means[:, 0],
        **({"gap to the third": means[:, 1]} if means.shape[1] > 1 else {}),
        "confidence": confidences(records).mean(axis=1),
    }


def _agreement(family: Family) -> Sheet:
    """How alike networks are: between the kinds, and between seeds of either as the ceiling."""
    everyone, count = [*family.standard, *family.trained], len(family.standard)
    right = both_right(everyone)
    correlations = agreement(confidences(everyone)[right], count) if right.sum() > 2 else (np.nan,) * 3
    places = range(len(everyone))
    pairs = (
        [(i, j) for i, j in product(places, places) if i < count <= j],
        [(i, j) for i, j in product(places, places) if i < j < count],
        [(i, j) for i, j in product(places, places) if count <= i < j],
    )
    logs, labels = [clean_log_p(r) for r in everyone], clean_labels(everyone[0])
    names = ("between the kinds", "between standard seeds", "between adversarially trained seeds")
    rows = tuple(
        (name, f"{rho:.3f}", *_means([_alike(logs[i], logs[j], labels) for i, j in chosen]))
        for name, rho, chosen in zip(names, correlations, pairs, strict=True)
        if chosen
    )
    caption = (
        "Agreement of clean predictions, means over pairs of networks. Confidences: Spearman's rho over the "
        f"{int(right.sum())} samples that all classify rightly. Wrong classes: Kendall's tau of their order in each "
        "sample, without the label and both predictions. Tenths: shared part; unrelated networks share 10 %."
    )
    heads = (
        "pairs",
        "confidences",
        "order of wrong classes",
        "same prediction",
        "surest tenth",
        "least sure tenth",
    )
    return Sheet(caption, heads, rows)


def _alike(first: Array, second: Array, labels: NDArray[np.int64]) -> tuple[float, float, float, float]:
    sure = [p.max(axis=1) for p in (first, second)]
    count = max(len(labels) // TENTH, 1)
    order = [np.argsort(-s, kind="stable") for s in sure]
    tenths = [len(np.intersect1d(order[0][p], order[1][p])) / count for p in (np.s_[:count], np.s_[-count:])]
    same = float((first.argmax(axis=1) == second.argmax(axis=1)).mean())
    return _order(first, second, labels), same, tenths[0], tenths[1]


def _order(first: Array, second: Array, labels: NDArray[np.int64]) -> float:
    """Return the mean Kendall correlation (tau-b) of logits over the classes that neither predicts nor is right."""
    parts = np.array_split(np.arange(len(labels)), len(labels) // ROWS + 1)
    found = [_tau(first[part], second[part], labels[part]) for part in parts]
    each = np.concatenate(found)
    return float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")


def _tau(first: Array, second: Array, labels: NDArray[np.int64]) -> Array:
    """Return the correlation of each row (n,), NaN where fewer than two classes are left or all are tied."""
    rows, classes = np.arange(len(labels)), np.arange(first.shape[1])
    kept = np.ones(first.shape, dtype=bool)
    for out in (labels, first.argmax(axis=1), second.argmax(axis=1)):
        kept[rows, out] = False
    pairs = kept[:, :, None] & kept[:, None, :] & (classes[:, None] < classes)
    one, two = (np.sign(z[:, :, None] - z[:, None, :]) * pairs for z in (first, second))
    untied = np.sqrt((one**2).sum(axis=(1, 2)) * (two**2).sum(axis=(1, 2)))
    agree = (one * two).sum(axis=(1, 2))
    found: Array = np.divide(agree, untied, out=np.full(len(rows), np.nan), where=untied > 0)
    return found


def _means(rows: list[tuple[float, float, float, float]]) -> tuple[str, ...]:
    order, *shares = np.mean(rows, axis=0)
    return (f"{order:.3f}", *map(percent, shares))


def _extremes(family: Family, inputs: NDArray[Any] | None) -> tuple[tuple[str, tuple[Example, ...]], ...]:
    """Return the samples whose rank of confidence differs most between the kinds, both ways."""
    if inputs is None or inputs.ndim != 4 or inputs.shape[1] not in (1, 3):
        return ()
    sure = [confidences(kind).mean(axis=1) for kind in (family.standard, family.trained)]
    moved = shares_of_rank(sure[1]) - shares_of_rank(sure[0])
    header, labels = family.standard[0].header, clean_labels(family.standard[0])
    order = np.argsort(-moved, kind="stable")

    def shown(places: NDArray[np.int64]) -> tuple[Example, ...]:
        return tuple(
            portrait(
                inputs[i],
                header.data.domain,
                header.data.sample_ids[i],
                header.data.classes[labels[i]],
                f"standard {sure[0][i]:.2f}, adversarially trained {sure[1][i]:.2f}",
            )
            for i in places
        )

    return (
        ("Adversarial training gains most rank", shown(order[:SHOWN])),
        ("Adversarial training loses most rank", shown(order[::-1][:SHOWN])),
    )


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"


def _share(mask: NDArray[np.bool_]) -> str:
    interval = wilson(int(mask.sum()), len(mask))
    return f"{percent(interval.value)} [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"
