"""Rules of claims about what networks make of one stimulus: standard, adversarially trained, with noise; no torch.

Width is radius times the root of dimension (mean-field) of the manifold that a stimulus's versions make at a stage, in
norms of its centre. Seeds are averaged stimulus by stimulus. Stages of two networks are matched from the logits
backwards; one that has no counterpart is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from robustgeom.records import RunRecord
from robustgeom.report.families import Family, families
from robustgeom.report.findings import (
    Finding,
    NotTestedError,
    above_zero,
    mean_mask,
    place,
    refuse_doubtful,
    refuse_other_attacks,
)
from robustgeom.report.stimuli import (
    ATTACK,
    NOISE,
    OWN,
    Array,
    Stimuli,
    on_the_same,
    stimuli,
    with_stimuli,
)
from robustgeom.report.sweep import plainly_noisy
from robustgeom.words import percent

__all__ = [
    "most_seeded",
    "noise_is_compressed",
    "noise_widens",
    "signatures_differ",
    "standard_widths_grow",
    "trained_widths_stay",
]

MARGIN = 1.25  # of a width: what still counts as little growth
ALIKE, LEAST = 0.05, 0.1  # accuracies that count as matched, and what they must keep


def standard_widths_grow(records: Sequence[RunRecord]) -> list[Finding]:
    """Standard networks widen what an attack does to a stimulus with its radius and with depth, far more than noise.

    Rule: in every family with standard networks whose versions of stimuli were measured: at each of the last two stages
    the slope of width against eps (least squares over the measured radii, stimulus by stimulus) is above 0; from the
    smallest to the largest radius the width rises more at the last stage before the logits than at the first stage; and
    at the largest radius, at those last two stages, noise of the same norm is at most half as wide as the attack. Each
    95 % bootstrap interval over stimuli lies above 0.
    """
    return [f for family, (standard,) in _each(records, _standard) for f in _growth(family.name, standard)]


def trained_widths_stay(records: Sequence[RunRecord]) -> list[Finding]:
    """Adversarial training holds the width of an attacked stimulus stable.

    Rule: in every family with both kinds, at each of the last two stages, the slope of width against eps (least squares
    over the measured radii, stimulus by stimulus) is at most half that of standard networks: the 95 % bootstrap
    interval over stimuli of (half the standard slope minus the adversarially trained one) lies above 0. Of several
    recipes of adversarial training the one with the most seeds is taken, of those the most robust.
    """
    found = []
    for family, (standard, trained) in _each(records, _standard, most_seeded):
        radii = _radii(standard, trained)
        for ours, theirs in _aligned(standard, trained)[-2:]:
            slopes = _slope(standard, ours, radii), _slope(trained, theirs, radii)
            text = f"{family.name} at {ours}: slope {slopes[0].mean():.3g} standard, {slopes[1].mean():.3g} trained"
            found.append(above_zero(slopes[0] / 2 - slopes[1], f"{text}, half the one minus the other"))
    return found


def noise_widens(records: Sequence[RunRecord]) -> list[Finding]:
    """Networks with noise have wide stimuli already without attack, and an attack adds little.

    Rule: in every family with both, at every stage in the first half of those behind the noise that have a counterpart
    in the other network: the width of a stimulus under the network's own noise is larger than that of an attacked
    stimulus, at the largest measured radius, in adversarially trained networks (chosen as for `trained_widths_stay`);
    and at the smallest measured radius the attack makes it at most 1.25 times as wide as it is without. Each 95 %
    bootstrap interval over stimuli lies above 0. Of several noise levels the one nearest to rho = 3 is taken.
    """
    found = []
    for family, (noisy, trained) in _each(records, _noisy, most_seeded):
        radii = _radii(noisy, trained)
        most, least = (place(noisy.records[0], eps) for eps in (radii[-1], radii[0]))
        for ours, theirs in _early(noisy, trained):
            own, attacked = _width(noisy, ours, OWN), _width(trained, theirs, ATTACK, radii[-1])
            wide = f"{family.name} at {ours}: own noise {own.mean():.3g} wide"
            against = f"{attacked.mean():.3g} under attack at {most} after adversarial training"
            found.append(above_zero(own - attacked, f"{wide}, {against}, difference"))
            moved = _width(noisy, ours, ATTACK, radii[0])
            text = f"{wide}, {moved.mean():.3g} under attack at {least}, what is left to 1.25 times"
            found.append(above_zero(MARGIN * own - moved, text))
    return found


def signatures_differ(records: Sequence[RunRecord]) -> list[Finding]:
    """Equally robust networks, with noise and adversarially trained, differ in the widths of attacked stimuli.

    Rule: in every family with both, of all adversarial recipes, noise levels and radii that were both evaluated and
    measured, the pair whose robust accuracies (seeds averaged, above 10 %) are closest; they may differ by 5 points at
    most. At each of the first two stages behind the noise that have a counterpart, between every seed of the one and
    every seed of the other, the width of an attacked stimulus differs by one and the same sign, and each 95 % bootstrap
    interval over stimuli excludes 0. A record with a failed check leaves the claim untested.
    """
    found = []
    for family in families([r for r in records if with_stimuli(r)]):
        if (match := _matched(family)) is not None:
            refuse_doubtful([*match.noisy, *match.trained])
            refuse_other_attacks([*match.noisy, *match.trained])
            found += _signature(family.name, match)
    if not found:
        raise NotTestedError(
            "needs networks with noise and adversarially trained ones of one family that are equally robust, to 5 "
            "points, at a radius at which versions of stimuli were measured"
        )
    return found


def noise_is_compressed(records: Sequence[RunRecord]) -> list[Finding]:
    """The spread that a network's noise makes is of many dimensions at the front and of few behind.

    Rule: in every family with networks with noise, the dimension (mean-field) of a stimulus under the network's own
    noise at the last stage before the logits is at most half of that at the first stage behind the noise: the 95 %
    bootstrap interval over stimuli of (half the first minus the last) lies above 0. Of several noise levels the one
    nearest to rho = 3 is taken.
    """
    found = []
    for family, (noisy,) in _each(records, _noisy):
        behind = [stage for stage in noisy.noisy if stage != noisy.stages[-1]]
        if len(behind) < 2:
            raise NotTestedError(f"{family.name}: needs own-noise versions at two stages before the logits")
        first, last = (noisy.values("dimension", stage, OWN) for stage in (behind[0], behind[-1]))
        text = f"{family.name}: dimension {first.mean():.3g} at {behind[0]}"
        text += f", {last.mean():.3g} at {behind[-1]}, half the one minus the other"
        found.append(above_zero(first / 2 - last, text))
    return found


Pick = Callable[[Family], list[RunRecord]]


def _each(records: Sequence[RunRecord], *kinds: Pick) -> list[tuple[Family, list[Stimuli]]]:
    """Return the families that have analysed networks of all these kinds, with what each kind makes of stimuli."""
    known = [r for r in records if with_stimuli(r)]
    found = []
    for family in families(known):
        picked = [kind(family) for kind in kinds]
        if all(picked):
            found.append((family, on_the_same(*map(stimuli, picked))))
    if not found:
        wanted = " and ".join(dict.fromkeys((kind.__doc__ or "").strip(".\n ").lower() for kind in kinds))
        raise NotTestedError(
            f"needs analyses of single stimuli (`robustgeom study`) of {wanted} of one family"
        )
    return found


def _standard(family: Family) -> list[RunRecord]:
    """Standard networks."""
    return family.standard


def _noisy(family: Family) -> list[RunRecord]:
    """Networks with noise."""
    return plainly_noisy(family.stochastic)


def most_seeded(family: Family) -> list[RunRecord]:
    """Adversarially trained networks."""
    recipes = _recipes(family)
    return max(recipes, key=lambda own: (len(own), _robust(own, own[0].headline)), default=[])


def _recipes(family: Family) -> list[list[RunRecord]]:
    """Return the adversarially trained networks without noise, by recipe: objective, norm and radius."""
    found: dict[tuple[str, str], list[RunRecord]] = {}
    for record in family.trained:
        model = record.header.model
        if model.rho == 0 and model.noise == "none":
            found.setdefault((model.objective, model.threat), []).append(record)
    return list(found.values())


def _robust(records: list[RunRecord], radius: float) -> float:
    return float(mean_mask(records, radius).mean())


def _radii(*groups: Stimuli) -> list[float]:
    """Return the radii at which all were analysed; two at least."""
    shared = sorted(set.intersection(*(set(g.radii()) for g in groups)))
    if len(shared) < 2:
        names = ", ".join(g.records[0].name for g in groups)
        raise NotTestedError(f"needs attacked versions of stimuli at two radii or more of {names}")
    return shared


def _width(group: Stimuli, stage: str, condition: str, eps: float = 0.0) -> Array:
    return group.values("width", stage, condition, eps)


def _slope(group: Stimuli, stage: str, radii: list[float]) -> Array:
    """Return the least-squares slope of width against eps, stimulus by stimulus."""
    x = np.array(radii) - np.mean(radii)
    widths = np.array([_width(group, stage, ATTACK, eps) for eps in radii])
    slopes: Array = x @ widths / (x @ x)
    return slopes


def _growth(name: str, standard: Stimuli) -> list[Finding]:
    radii, stages = _radii(standard), standard.stages
    if len(stages) < 3:
        raise NotTestedError(f"{name}: needs three stages, the logits among them")
    rise = {
        s: _width(standard, s, ATTACK, radii[-1]) - _width(standard, s, ATTACK, radii[0])
        for s in (stages[0], *stages[-2:])
    }
    found = [
        above_zero(_slope(standard, s, radii), f"{name} at {s}: slope of width against eps")
        for s in stages[-2:]
    ]
    deeper = rise[stages[-2]] - rise[stages[0]]
    found.append(above_zero(deeper, f"{name}: width rises more at {stages[-2]} than at {stages[0]} by"))
    for s in stages[-2:]:
        attack, noise = (_width(standard, s, c, radii[-1]) for c in (ATTACK, NOISE))
        text = (
            f"{name} at {s}, {place(standard.records[0], radii[-1])}: {attack.mean():.3g} wide under attack, "
        )
        text += f"{noise.mean():.3g} under noise, half the one minus the other"
        found.append(above_zero(attack / 2 - noise, text))
    return found


def _aligned(ours: Stimuli, theirs: Stimuli) -> list[tuple[str, str]]:
    """Return the stages of two networks in pairs, in order, matched from the logits backwards."""
    pairs = zip(reversed(ours.stages), reversed(theirs.stages), strict=False)
    return list(pairs)[::-1]


def _early(noisy: Stimuli, trained: Stimuli) -> list[tuple[str, str]]:
    """Return the first half of the stages behind the noise, with those of the other network."""
    behind = [pair for pair in _aligned(noisy, trained) if pair[0] in noisy.noisy]
    if len(behind) < 2:
        raise NotTestedError(f"needs own-noise versions at two stages or more of {noisy.records[0].name}")
    return behind[: len(behind) // 2]


@dataclass(frozen=True)
class _Match:
    """Two groups of networks that are about equally robust at a radius; their accuracies differ by `gap`."""

    noisy: list[RunRecord]
    trained: list[RunRecord]
    eps: float
    gap: float


def _matched(family: Family) -> _Match | None:
    plain = [r for r in family.stochastic if r.header.model.threat == "none"]
    levels: dict[tuple[str, float], list[RunRecord]] = {}
    for record in plain:
        levels.setdefault((record.header.model.front_end, record.header.model.rho), []).append(record)
    pairs = [_match(n, t, e) for n in levels.values() for t in _recipes(family) for e in _evaluated(n, t)]
    good = [m for m in pairs if m is not None and m.gap <= ALIKE]
    return min(good, key=lambda m: m.gap, default=None)


def _evaluated(noisy: list[RunRecord], trained: list[RunRecord]) -> list[float]:
    """Return the radii at which both were attacked and both had their stimuli measured."""
    measured = set(stimuli(noisy).radii()) & set(stimuli(trained).radii())
    grids = [r.header.threat.grid for r in (*noisy, *trained)]
    return sorted(e for e in measured if all(any(abs(e - r) < 1e-12 for r in grid) for grid in grids))


def _match(noisy: list[RunRecord], trained: list[RunRecord], eps: float) -> _Match | None:
    ours, theirs = _robust(noisy, eps), _robust(trained, eps)
    return _Match(noisy, trained, eps, abs(ours - theirs)) if min(ours, theirs) >= LEAST else None


def _signature(name: str, match: _Match) -> list[Finding]:
    noisy, trained = on_the_same(stimuli(match.noisy), stimuli(match.trained))
    pairs = [pair for pair in _aligned(noisy, trained) if pair[0] in noisy.noisy][:2]
    seeds = list(product(_seeds(noisy), _seeds(trained)))
    apart = {
        (ours, a.records[0].name, b.records[0].name): _width(a, ours, ATTACK, match.eps)
        - _width(b, theirs, ATTACK, match.eps)
        for ours, theirs in pairs
        for a, b in seeds
    }
    sign = 1.0 if sum(float(v.mean()) for v in apart.values()) >= 0 else -1.0
    shares = [percent(_robust(g, match.eps)) for g in (match.noisy, match.trained)]
    where = place(match.noisy[0], match.eps)
    said = f"{name} at {where}, {shares[0]} with noise and {shares[1]} adversarially trained"
    word = "wider" if sign > 0 else "narrower"
    return [
        above_zero(sign * v, f"{said}: at {stage} {a} is {word} than {b} by")
        for (stage, a, b), v in apart.items()
    ]


def _seeds(group: Stimuli) -> list[Stimuli]:
    return [
        replace(group, records=(record,), tables=(table,))
        for record, table in zip(group.records, group.tables, strict=True)
    ]
