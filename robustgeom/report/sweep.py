"""Noise sweeps: one network trained at several noise levels, and the rules of the claims about them; no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from robustgeom.records import RunRecord
from robustgeom.report.findings import (
    Finding,
    NotTestedError,
    is_standard,
    place,
    refuse_doubtful,
    refuse_other_attacks,
    refuse_other_samples,
    shares,
)
from robustgeom.stats import Interval, bootstrap
from robustgeom.words import percent, points

__all__ = [
    "Sweep",
    "interior_peak",
    "nearest_to_three",
    "noise_beyond_filters",
    "noise_costs_clean",
    "plainly_noisy",
    "sweeps",
]

LEVELS = 3  # fewer are no sweep


@dataclass(frozen=True)
class Sweep:
    """Records of one family and front end by noise level, ascending; several records of a level are its seeds."""

    name: str
    levels: dict[float, list[RunRecord]]

    @property
    def records(self) -> list[RunRecord]:
        """All records."""
        return [r for group in self.levels.values() for r in group]

    def interval(self, rho: float, radius: float) -> Interval:
        """Return the mean of a level's `shares` with its interval, bootstrapped over samples."""
        return bootstrap(shares(self.levels[rho], radius))


def sweeps(records: Sequence[RunRecord]) -> list[Sweep]:
    """Return every family and front end that was trained on clean samples at three noise levels or more."""
    found: dict[str, dict[float, list[RunRecord]]] = {}
    for record in records:
        model = record.header.model
        if model.front_end != "none" and is_standard(model):
            levels = found.setdefault(f"{model.family}, front end {model.front_end}", {})
            levels.setdefault(model.rho, []).append(record)
    return [
        Sweep(name, dict(sorted(levels.items()))) for name, levels in found.items() if len(levels) >= LEVELS
    ]


def nearest_to_three(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the records of the noise level nearest to rho = 3 (in the log), of one front end where it is a known one.

    That is a V1 front end, else a cochleagram with Gaussian noise after its compression, else any.
    rho = 3 is about the noise of the CIFAR network released with Dapello et al. 2021.
    """
    by = {f: [r for r in records if r.header.model.front_end == f] for f in ("vone", "cochlea")}
    fronted = by["vone"] or by["cochlea"] or list(records)
    levels = {r.header.model.rho for r in fronted}
    best = min(levels, key=lambda rho: abs(math.log(max(rho, 1e-9) / 3)), default=0.0)
    return [r for r in fronted if r.header.model.rho == best]


def plainly_noisy(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return, of networks with noise that were not trained adversarially, those of the level `nearest_to_three`."""
    return nearest_to_three([r for r in records if r.header.model.threat == "none"])


def noise_beyond_filters(records: Sequence[RunRecord]) -> list[Finding]:
    """With noise the same front end is more robust than its twin trained without.

    Rule: in every sweep with rho = 0, at every headline radius that all its records share, the noise level nearest to
    rho = 3 (seeds averaged) is more robust than rho = 0: the 95 % paired bootstrap interval over samples lies above
    0. A record with a failed check leaves the claim untested.
    """
    return [_beyond(s, radius) for s in _with_twin(records) for radius in _headlines(s)]


def noise_costs_clean(records: Sequence[RunRecord]) -> list[Finding]:
    """The more noise, the lower the clean accuracy.

    Rule: in every sweep with rho = 0, clean accuracy (of noise draws, seeds averaged) of the largest rho is lower than
    that of rho = 0: the 95 % paired bootstrap interval over samples of the loss lies above 0; and from rho = 1 on no
    level is more accurate than the one before by an interval above 0.
    """
    return [f for s in _with_twin(records) for f in _costs(s)]


def interior_peak(records: Sequence[RunRecord]) -> list[Finding]:
    """Robust accuracy peaks at an intermediate noise level.

    Rule: in every sweep with rho = 0, at the largest headline radius at which some level keeps at least 10 % (seeds
    averaged), the best level is neither the smallest nor the largest, and is more robust than both, also where the
    largest is granted its undecided samples: the paired bootstrap intervals over samples lie above 0 at 95 %, made
    wider for the choice of the best level among those between (Bonferroni). A record with a failed check leaves the
    claim untested.
    """
    return [f for s in _with_twin(records) for f in _peak(s)]


def _with_twin(records: Sequence[RunRecord]) -> list[Sweep]:
    found = [s for s in sweeps(records) if 0 in s.levels]
    if not found:
        raise NotTestedError(
            "needs a sweep: one front end trained at rho = 0 and at two more levels of noise"
        )
    for sweep in found:
        refuse_other_samples(sweep.records)
        refuse_other_attacks(sweep.records)
        refuse_doubtful(sweep.records)
    return found


def _headlines(sweep: Sweep) -> list[float]:
    shared = set.intersection(*(set(r.header.threat.headlines) for r in sweep.records))
    if not shared:
        raise NotTestedError(f"{sweep.name}: the records share no headline radius")
    return sorted(shared)


def _gain(
    sweep: Sweep,
    high: float,
    low: float,
    radius: float,
    *,
    undecided: bool = False,
    confidence: float = 0.95,
) -> Interval:
    """How much more often the level `high` is right than `low`, which may be granted its undecided samples."""
    first, second = shares(sweep.levels[high], radius), shares(sweep.levels[low], radius, undecided=undecided)
    return bootstrap(first - second, confidence=confidence)


def _beyond(sweep: Sweep, radius: float) -> Finding:
    noisy = [r for r in sweep.records if r.header.model.rho > 0]
    rho = nearest_to_three(noisy)[0].header.model.rho
    gain = _gain(sweep, rho, 0.0, radius)
    text = f"{sweep.name} at {place(sweep.records[0], radius)}: {_share(sweep, rho, radius)} at rho {rho:g}, "
    text += f"{_share(sweep, 0.0, radius)} without noise, difference {points(gain)} (n={gain.n})"
    return Finding(gain.low > 0, gain, text)


def _costs(sweep: Sweep) -> list[Finding]:
    levels = list(sweep.levels)
    loss = _gain(sweep, 0.0, levels[-1], 0.0)
    text = f"{sweep.name}: clean accuracy {_share(sweep, 0.0, 0.0)} without noise, "
    text += f"{_share(sweep, levels[-1], 0.0)} at rho {levels[-1]:g}, loss {points(loss)} (n={loss.n})"
    found = [Finding(loss.low > 0, loss, text)]
    for low, high in pairwise(levels):
        fall = _gain(sweep, low, high, 0.0)
        if low >= 1 and fall.high < 0:
            found.append(
                Finding(False, fall, f"{sweep.name}: clean accuracy rises from rho {low:g} to {high:g}")
            )
    return found


def _peak(sweep: Sweep) -> list[Finding]:
    means: dict[float, dict[float, float]] = {
        radius: {rho: float(shares(group, radius).mean()) for rho, group in sweep.levels.items()}
        for radius in _headlines(sweep)
    }
    telling = [radius for radius, by in means.items() if max(by.values()) >= 0.1]
    if not telling:
        raise NotTestedError(f"{sweep.name}: no level keeps 10 % at a headline radius")
    radius, (low, *between, high) = max(telling), sweep.levels
    best = max(between, key=means[radius].__getitem__)
    where, found = f"{sweep.name} at {place(sweep.records[0], radius)}", []
    for end in (low, high):
        gain = _gain(sweep, best, end, radius, undecided=True, confidence=1 - 0.05 / len(between))
        text = f"{where}: between the ends best at rho {best:g} ({_share(sweep, best, radius)}), rho {end:g} "
        text += f"{_share(sweep, end, radius, undecided=True)} with what is undecided there, "
        text += f"difference {points(gain)} (n={gain.n})"
        found.append(Finding(gain.low > 0, gain, text))
    return found


def _share(sweep: Sweep, rho: float, radius: float, *, undecided: bool = False) -> str:
    return percent(float(shares(sweep.levels[rho], radius, undecided=undecided).mean()))
