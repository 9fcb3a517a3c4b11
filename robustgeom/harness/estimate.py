"""What an evaluation will take, before it starts: passes counted on a stand-in, seconds timed on the network itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Generator, Tensor

from robustgeom.attacks._kinds import MINIMUM_NORM, kind_of
from robustgeom.attacks._start import RowGenerators
from robustgeom.attacks.pgd import PGD_NORMS, pgd
from robustgeom.harness.attacking import Battle
from robustgeom.harness.diagnosis import SHARE
from robustgeom.harness.failures._case import BALLS
from robustgeom.harness.find import accepted, find_attack, is_own
from robustgeom.harness.judge import SINGLE_DRAWS
from robustgeom.harness.spec import AttackSpec
from robustgeom.harness.target import Target, row_generators
from robustgeom.seeds import seed_of

__all__ = ["Estimate", "duration", "estimate"]

_PILOTS, _STEPS, _FALLS_AFTER, _WARM = 32, 10, 0.1, 2
_GAP = 10.0  # logits between the stand-in's label and the other classes: nothing in any ball bridges it


@dataclass(frozen=True)
class Estimate:
    """Passes (forward and backward) and seconds of attacks and failure checks; `most_*` if every sample stood.

    `unknown` names the attacks of the user's own, which are not counted.
    """

    passes: float
    seconds: float
    most_passes: float
    most_seconds: float
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        without = f", without {', '.join(self.unknown)}" if self.unknown else ""
        most = f"at most {duration(self.most_seconds)} and {self.most_passes:,.0f}"
        return f"attacks and checks: about {duration(self.seconds)} and {self.passes:,.0f} passes ({most}){without}"


def duration(seconds: float) -> str:
    """Return a time in words, to two digits.

    >>> duration(0.4), duration(75), duration(9000)
    ('1 s', '75 s', '2.5 h')
    """
    if seconds < 120:
        return f"{max(round(seconds), 1)} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@dataclass(frozen=True)
class _Cost:
    """Passes of one sample that stands."""

    forward: float
    backward: float

    def seconds(self, rates: tuple[float, float]) -> float:
        return self.forward * rates[0] + self.backward * rates[1]


def estimate(battle: Battle, attacks: list[AttackSpec], radii: Sequence[float]) -> Estimate:
    """Say what `attacks` at `radii` and the failure checks will take; the battle has looked at the clean samples.

    Passes are those of each attack on a network that nothing fools. How many samples will stand at a radius is
    tried on up to 32 of them with ten steps of PGD; where there is no ball to search, all are taken to stand.
    Nothing of this enters the record.
    """
    counted = [spec for spec in attacks if not is_own(spec)]
    costs = {spec.name: _cost(battle, spec, max(radii)) for spec in counted}
    rates = _rates(battle)
    right = float(battle.standing.sum())
    exhaustive = battle.suite.exhaustive
    everyone = [float(len(battle.data)) if exhaustive else right] * (len(radii) + 1)
    likely = everyone if exhaustive else _standing(battle, radii)
    checks = 1 + (SHARE if battle.table.ball in BALLS else 0)
    (passes, seconds), (most, longest) = (
        _sum(counted, costs, shares, rates) for shares in (likely, everyone)
    )
    own = tuple(spec.name for spec in attacks if is_own(spec))
    return Estimate(checks * passes, checks * seconds, checks * most, checks * longest, own)


def _sum(
    attacks: list[AttackSpec], costs: dict[str, _Cost], standing: Sequence[float], rates: tuple[float, float]
) -> tuple[float, float]:
    """Return passes and seconds, where `standing[i]` samples stand before radius i, and the next one after it."""
    passes = seconds = 0.0
    for i in range(len(standing) - 1):
        before, after = standing[i], standing[i + 1]
        for j, spec in enumerate(attacks):
            once = kind_of(find_attack(spec)) == MINIMUM_NORM and i > 0
            met = 0.0 if once else after + (_FALLS_AFTER * (before - after) if j == 0 else 0.0)
            cost = costs[spec.name]
            passes += met * (cost.forward + cost.backward)
            seconds += met * cost.seconds(rates)
    return passes, seconds


def _cost(battle: Battle, spec: AttackSpec, radius: float) -> _Cost:
    """Count an attack's passes on one sample of a network with real gradients whose answer never turns."""
    part = battle.data.take(torch.tensor([0]))
    classes, noise = len(battle.data.classes), battle.subject.noise
    stand_in = _unfooled(int(part.labels[0]), classes)
    target, source = (Target(stand_in, part.ids, noise, 0, classes) for _ in range(2))
    generator = Generator().manual_seed(0)
    attack = find_attack(spec)
    offered = accepted(
        attack,
        eot=battle.eot,
        source=source if spec.source is not None else None,
        generator=RowGenerators(row_generators(part.ids, 0), generator),
    )
    threat = battle.threat(radius, part)
    attack(target, part.inputs.clone(), part.labels.clone(), threat=threat, **{**spec.settings, **offered})
    judging = 1 if battle.judge_draws == 1 else SINGLE_DRAWS
    forward = int(target.forward_calls.sum() + source.forward_calls.sum()) + judging
    return _Cost(forward, int(target.backward_calls.sum() + source.backward_calls.sum()))


def _unfooled(label: int, classes: int) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        slope = torch.linspace(-1, 1, flat.shape[1]).to(flat) / flat.shape[1]
        logits = (flat @ slope)[:, None] * torch.linspace(0.9, 1.1, classes).to(flat)
        bonus = torch.zeros(classes).to(flat)
        bonus[label] = _GAP
        return logits + bonus

    return forward


def _rates(battle: Battle) -> tuple[float, float]:
    """Return the seconds of one sample's forward pass, and of the backward pass after it, timed on a whole batch.

    The batch holds as many draws of a sample as the attacks ask for, since a network may share work between them.
    """
    rows = torch.arange(min(max(battle.rows_a_pass // battle.eot, 1), len(battle.data)))
    part = battle.data.take(rows)
    target, x = _bare(battle, part.ids), part.inputs.to(battle.subject.device)
    times = {
        wanted: min(_timed(target, x, battle.eot, wanted) for _ in range(_WARM + 1))
        for wanted in (False, True)
    }
    passes = len(rows) * battle.eot
    return times[False] / passes, max(times[True] - times[False], 0.0) / passes


def _timed(target: Target, x: Tensor, draws: int, gradient: bool) -> float:
    began = perf_counter()
    leaf = x.clone().requires_grad_(gradient)
    owners = torch.arange(len(x)).repeat_interleave(draws)
    with torch.set_grad_enabled(gradient):
        total = target.repeated(owners, torch.arange(draws).repeat(len(x)), owners)(leaf).sum()
    if gradient:
        torch.autograd.grad(total, leaf, allow_unused=True)
    total.item()  # a GPU has finished by then
    return perf_counter() - began


def _standing(battle: Battle, radii: Sequence[float]) -> list[float]:
    """Return how many samples will stand when clean and after each radius, by PGD on a few of them."""
    right = battle.standing.nonzero().squeeze(1)
    count = min(_PILOTS, max(len(right) // 10, 1), len(right))
    if battle.table.ball not in PGD_NORMS or not count:
        return [float(len(right))] * (len(radii) + 1)
    rows = right[torch.linspace(0, len(right) - 1, count).long()]
    part = battle.data.take(rows)
    x, labels = part.inputs.to(battle.subject.device), part.labels.to(battle.subject.device)
    left, shares = torch.ones(count, dtype=torch.bool), [1.0]
    for radius in radii:
        threat = battle.threat(radius, part)
        target = _bare(battle, part.ids)
        found = pgd(target, x, labels, threat=threat, steps=_STEPS, loss="margin", generator=Generator())
        with torch.no_grad():
            left &= (target(found).argmax(1) == labels).cpu()
        shares.append(float(left.double().mean()))
    return [len(right) * share for share in shares]


def _bare(battle: Battle, ids: tuple[int, ...]) -> Target:
    """Return the network with its noise, whose passes nobody counts."""
    return battle.subject.target(ids, seed_of(battle.seed, "estimate"))
