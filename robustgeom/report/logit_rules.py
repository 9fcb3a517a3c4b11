"""Rules of claims about the logits of standard and adversarially trained networks of one family; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise, product

import numpy as np
from numpy.typing import NDArray

from robustgeom.errors import InputError
from robustgeom.records import RunRecord
from robustgeom.report.families import Family, contrasts
from robustgeom.report.findings import Finding, NotTestedError, refuse_doubtful
from robustgeom.report.tables import clean_labels, clean_log_p
from robustgeom.stats import Interval, bootstrap
from robustgeom.words import parse_radius, percent, points, share_text, span

__all__ = [
    "agreement",
    "both_right",
    "confidences",
    "confidences_disagree",
    "every_gap_shrinks",
    "extremes_differ",
    "gaps",
    "less_overconfident",
    "margin_ranks_robustness",
    "not_every_sample",
    "shares_of_rank",
    "shrinkage_grows",
]

Array = NDArray[np.float64]
RANKS_WELL = 0.5  # Kendall's tau


def every_gap_shrinks(records: Sequence[RunRecord]) -> list[Finding]:
    """The gaps from the largest logit to each of the others are smaller after adversarial training.

    Rule: in every family with standard networks and networks of one adversarial recipe, for each of these and each k
    from 2 to the number of classes, the 95 % paired bootstrap interval over samples of the clean mean of (standard
    minus adversarially trained) distance from the largest to the k-th largest logit lies above 0; standard seeds are
    averaged per sample first. What is shown is each network's least favourable k.
    """
    return [_gap_finding(f, record) for f in contrasts(records) for record in f.trained]


def not_every_sample(records: Sequence[RunRecord]) -> list[Finding]:
    """Gaps are smaller on average and not of each sample.

    Rule: in every family with standard networks and networks of one adversarial recipe, seeds averaged per sample,
    the 95 % bootstrap interval of the share of samples whose gap between the two largest clean logits is larger in
    the adversarially trained networks lies above 1 % and below 50 %.
    """
    return [_exception_finding(f) for f in contrasts(records)]


def shrinkage_grows(records: Sequence[RunRecord]) -> list[Finding]:
    """The larger the radius of adversarial training, the smaller the gaps.

    Rule: in every family with standard networks and ones that the same objective trained adversarially in the same
    norm at two radii or more, the clean mean gap falls from each radius to the next, standard training being radius
    0: all 95 % paired bootstrap intervals over samples lie above 0. Seeds are averaged per sample first.
    """
    found = _series(contrasts(records))
    if not found:
        raise NotTestedError("needs a standard record and two of adversarial training at different radii")
    return [finding for name, levels in found.items() for finding in _falls(name, levels)]


def confidences_disagree(records: Sequence[RunRecord]) -> list[Finding]:
    """Standard and adversarially trained networks differ in which samples they are sure of.

    Rule: in every family with two seeds or more of standard networks and of one adversarial recipe, over the samples
    that all of them classify rightly, the mean rank correlation (Spearman) of clean confidences between the kinds is
    below that between seeds of either kind: the 95 % bootstrap interval over samples of the smaller of the two minus
    the one between kinds lies above 0.
    """
    return [_disagreement_finding(f) for f in _seeded(records)]


def extremes_differ(records: Sequence[RunRecord]) -> list[Finding]:
    """Samples of which only one kind of network is sure are of other classes than those of which only the other is.

    Rule: in every family with two seeds or more of standard networks and of one adversarial recipe, samples are
    ranked by clean confidence in either kind (seeds averaged). Of the fifth that gains most ranks by adversarial
    training and the fifth that loses most, taken among every other sample of each class, the class whose shares
    differ most is found; among the remaining samples its shares differ in the same direction: the 95 % bootstrap
    interval of the difference lies above 0, and above the largest difference that two seeds of one kind give in the
    same way. So neither the choice of the class nor that of the seed can make the claim true.
    """
    return [_extremes_finding(f) for f in _seeded(records)]


def less_overconfident(records: Sequence[RunRecord]) -> list[Finding]:
    """Adversarially trained networks are less sure of their wrong predictions.

    Rule: in every family with two seeds or more of standard networks and of one adversarial recipe, the mean clean
    confidence of wrong predictions (seeds pooled) is lower by more than seeds of one kind differ: the 95 % bootstrap
    interval over samples of standard minus adversarially trained, minus the larger range among seeds of one kind, lies
    above 0. The effect is that excess.
    """
    return [_overconfidence_finding(f) for f in _seeded(records)]


def margin_ranks_robustness(records: Sequence[RunRecord]) -> list[Finding]:
    """In adversarially trained networks the clean margin ranks samples by how much they withstand.

    Rule: in every family with standard networks and networks of one adversarial recipe, over the samples that a network
    classifies rightly, Kendall's tau-b between the clean logit margin and the number of radii of the grid that a sample
    withstands: the 95 % bootstrap interval of its mean over the adversarially trained networks lies above 0.5. Records
    need five radii or more. A record with a failed check leaves the claim untested.
    """
    found = contrasts(records)
    for family in found:
        refuse_doubtful([*family.standard, *family.trained])
    return [_ranking_finding(f) for f in found]


def gaps(log_p: Array) -> Array:
    """Return the distances (n, classes - 1) from the largest to each next-largest of log-probabilities (n, classes).

    >>> gaps(np.array([[-3.0, -1.0, -2.0]])).tolist()
    [[1.0, 2.0]]
    """
    ordered = -np.sort(-log_p, axis=1)
    distances: Array = ordered[:, :1] - ordered[:, 1:]
    return distances


def confidences(records: Sequence[RunRecord]) -> Array:
    """Return clean confidences (n, records), largest probabilities in [0, 1]."""
    return np.stack([np.exp(clean_log_p(r).max(axis=1)) for r in records], axis=1)


def both_right(records: Sequence[RunRecord]) -> NDArray[np.bool_]:
    """Return which samples (n,) all records classify rightly without attack."""
    right: NDArray[np.bool_] = np.all([r.clean_mask() for r in records], axis=0)
    return right


def shares_of_rank(values: Array) -> Array:
    """Return each value's place among the values (n,), as a share in (0, 1); ties share theirs.

    >>> shares_of_rank(np.array([5.0, 1.0, 5.0, 7.0])).tolist()
    [0.5, 0.125, 0.5, 0.875]
    """
    from scipy.stats import rankdata  # half a second, which `robustgeom --help` need not wait for

    shares: Array = (rankdata(values) - 0.5) / len(values)
    return shares


def agreement(sure: Array, standard: int) -> tuple[float, float, float]:
    """Return mean Spearman correlations of confidences (n, networks): between kinds, standard seeds, trained seeds.

    The first `standard` columns are standard networks. NaN where there is one seed of a kind.

    >>> agreement(np.array([[0.1, 0.2, 0.9], [0.5, 0.6, 0.8], [0.8, 0.9, 0.1]]), 2)[:2]
    (-1.0, 1.0)
    """
    ranks = np.apply_along_axis(shares_of_rank, 0, sure)
    table = np.round(np.corrcoef(ranks.T), 12)
    count = sure.shape[1]
    first, second = range(standard), range(standard, count)
    between = [table[i, j] for i, j in product(first, second)]
    within = [[table[i, j] for i in kind for j in kind if i < j] for kind in (first, second)]
    means = [float(np.mean(v)) if v else float("nan") for v in (between, *within)]
    return means[0], means[1], means[2]


def _seeded(records: Sequence[RunRecord]) -> list[Family]:
    found = [f for f in contrasts(records) if min(len(f.standard), len(f.trained)) >= 2]
    if not found:
        raise NotTestedError(
            "needs two seeds of standard and of adversarially trained networks of one family"
        )
    return found


def _mean_gaps(records: Sequence[RunRecord]) -> Array:
    means: Array = np.mean([gaps(clean_log_p(r)) for r in records], axis=0)
    return means


def _gap_finding(family: Family, record: RunRecord) -> Finding:
    less = _mean_gaps(family.standard) - gaps(clean_log_p(record))
    intervals = [bootstrap(column) for column in less.T]
    k = int(np.argmin([i.low for i in intervals]))
    text = f"{record.name}: least at k = {k + 2}, {span(intervals[k])} logits smaller"
    return Finding(all(i.low > 0 for i in intervals), intervals[k], text)


def _exception_finding(family: Family) -> Finding:
    larger = _mean_gaps(family.trained)[:, 0] > _mean_gaps(family.standard)[:, 0]
    interval = bootstrap(larger)
    text = f"{family.name}: larger on {share_text(interval)}"
    return Finding(interval.low > 0.01 and interval.high < 0.5, interval, f"{text} of {interval.n} samples")


def _series(found: list[Family]) -> dict[str, dict[float, list[RunRecord]]]:
    """Return series of radii, 0 being standard training, of one objective and norm, where there are two or more."""
    series: dict[str, dict[float, list[RunRecord]]] = {}
    for family in found:
        model = family.trained[0].header.model
        norm, _, written = model.threat.partition(" ")
        try:
            radius = parse_radius(written)
        except InputError:  # a card's threat is free text
            continue
        name = f"{model.family}, {model.objective or 'trained'} {norm}"
        series.setdefault(name, {0.0: family.standard})[radius] = family.trained
    return {name: dict(sorted(levels.items())) for name, levels in series.items() if len(levels) >= 3}


def _falls(name: str, levels: dict[float, list[RunRecord]]) -> list[Finding]:
    means = {radius: _mean_gaps(group)[:, 0] for radius, group in levels.items()}
    steps = [(low, high, bootstrap(means[low] - means[high])) for low, high in pairwise(means)]
    return [
        Finding(i.low > 0, i, f"{name}, from radius {low:g} to {high:g}: {span(i)} logits smaller")
        for low, high, i in steps
    ]


def _disagreement_finding(family: Family) -> Finding:
    everyone, count = [*family.standard, *family.trained], len(family.standard)
    sure = confidences(everyone)[both_right(everyone)]
    if len(sure) < 10 or (np.ptp(sure, axis=0) == 0).any():
        raise NotTestedError(
            f"{family.name}: needs ten samples that all classify rightly, with confidences that differ"
        )
    between, *within = agreement(sure, count)

    def lack(rows: Array) -> float:
        cross, *own = agreement(rows, count)
        return min(own) - cross

    interval = bootstrap(sure, lack)
    text = f"{family.name}: Spearman {between:.2f} between kinds, {within[0]:.2f} and {within[1]:.2f} between seeds"
    return Finding(interval.low > 0, interval, f"{text}, difference {span(interval)}")


def _extremes_finding(family: Family) -> Finding:
    interval, text = _extreme_class(family.standard, family.trained)
    seeds = [pair for kind in (family.standard, family.trained) for pair in combinations(kind, 2)]
    ceiling = max(_extreme_class([a], [b])[0].value for a, b in seeds)
    text = f"{family.name}: {text}, difference {points(interval)}, between seeds at most {100 * ceiling:.1f}"
    return Finding(interval.low > max(ceiling, 0), interval, text)


def _extreme_class(first: list[RunRecord], second: list[RunRecord]) -> tuple[Interval, str]:
    """Return by how much the class that tells both tails apart on half of the samples does so on the others."""
    moved = np.subtract(*(shares_of_rank(confidences(r).mean(axis=1)) for r in (second, first)))
    labels, names = clean_labels(first[0]), first[0].header.data.classes
    seen = [int((labels[:i] == label).sum()) for i, label in enumerate(labels)]
    halves = [np.array(seen) % 2 == half for half in (0, 1)]  # of each class, however samples are ordered
    found, held = (_tails(moved[half], labels[half], np.arange(len(names))) for half in halves)
    difference = found[0].mean(axis=0) - found[1].mean(axis=0)
    best = int(np.argmax(np.abs(difference)))
    signed = np.sign(difference[best]) * np.stack([held[0][:, best], -held[1][:, best]], axis=1)
    interval = bootstrap(signed, lambda rows: float(rows.sum(axis=1).mean()))
    shares = [percent(tail[:, best].mean()) for tail in held]
    return interval, f"{names[best]} is {shares[0]} of those that gain rank, {shares[1]} of those that lose"


def _tails(moved: Array, labels: NDArray[np.int64], classes: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return one-hot labels (a fifth, classes) of the samples that gain most and of those that lose most."""
    order, count = np.argsort(-moved, kind="stable"), max(len(moved) // 5, 1)
    member = (labels[:, None] == classes).astype(np.float64)
    return member[order[:count]], member[order[-count:]]


def _overconfidence_finding(family: Family) -> Finding:
    everyone, count = [*family.standard, *family.trained], len(family.standard)
    wrong = np.stack([~r.clean_mask() for r in everyone], axis=1).astype(np.float64)
    if not wrong.any(axis=0).all():
        raise NotTestedError(f"{family.name}: a network is never wrong")
    table = np.concatenate([wrong * confidences(everyone), wrong], axis=1)

    def excess(rows: Array) -> float:
        standard, trained, spread = _when_wrong(rows, count)
        return standard - trained - spread

    interval, (standard, trained, spread) = bootstrap(table, excess), _when_wrong(table, count)
    means = f"{standard:.3f} standard, {trained:.3f} adversarially trained, seeds up to {spread:.3f} apart"
    text = f"{family.name}: mean confidence when wrong {means}, excess {span(interval)}"
    return Finding(interval.low > 0, interval, text)


def _when_wrong(rows: Array, count: int) -> tuple[float, float, float]:
    """Return mean confidence of wrong predictions of the first `count` networks and of the others, and seeds' range."""
    sums, wrong = np.split(rows.sum(axis=0), 2)
    each = sums / np.maximum(wrong, 1)
    kinds = np.split(each, [count])
    pooled = [
        s.sum() / max(w.sum(), 1)
        for s, w in zip(np.split(sums, [count]), np.split(wrong, [count]), strict=True)
    ]
    return float(pooled[0]), float(pooled[1]), float(max(np.ptp(kind) for kind in kinds))


def _ranking_finding(family: Family) -> Finding:
    def tau(kind: list[RunRecord]) -> Interval:
        columns = np.concatenate([_margins_and_depths(r) for r in kind], axis=1)
        return bootstrap(columns, _mean_tau, repeats=500)

    interval, standard = tau(family.trained), tau(family.standard)
    text = (
        f"{family.name}: tau {span(interval)} in adversarially trained, {span(standard)} in standard networks"
    )
    return Finding(interval.low > RANKS_WELL, interval, text)


def _margins_and_depths(record: RunRecord) -> Array:
    """Return clean margin, radii withstood and whether it is right clean, of each sample: (n, 3)."""
    radii = [r for r in record.header.threat.grid if r > 0]
    if len(radii) < 5:
        raise NotTestedError(f"needs records at five radii or more; {record.name} has {len(radii)}")
    log_p, labels = clean_log_p(record), clean_labels(record)
    rows = np.arange(len(labels))
    others = log_p.copy()
    others[rows, labels] = -np.inf
    depth = np.sum([record.robust_mask(r) for r in radii], axis=0)
    return np.stack([log_p[rows, labels] - others.max(axis=1), depth, record.clean_mask()], axis=1)


def _mean_tau(rows: Array) -> float:
    from scipy.stats import kendalltau  # half a second, which `robustgeom --help` need not wait for

    networks = np.split(rows, rows.shape[1] // 3, axis=1)
    found = [kendalltau(*each[each[:, 2] > 0, :2].T).statistic for each in networks]
    return float(np.mean(np.nan_to_num(found)))
