"""Targeted FAB: the nearest point behind the boundary of each target class, by repeated linearisation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustgeom.attacks._hyperplane import nearest_on
from robustgeom.attacks._losses import targeted_margin
from robustgeom.attacks._oracle import Average, Model, Oracle
from robustgeom.attacks._prepare import prepare
from robustgeom.attacks._rows import Rows
from robustgeom.attacks._targets import in_waves, ranked
from robustgeom.threat import Norm, ThreatModel, distance, per_row

__all__ = ["fab_t"]

_OVERSHOOT, _BACK, _BIAS = 1.05, 0.9, 0.1
_VOTES = 4  # further queries that must agree where one does not decide


@dataclass
class _Pairs(Rows):
    """Samples and targets under way; every tensor has one entry a pair."""

    rows: Tensor
    origins: Tensor
    labels: Tensor
    goals: Tensor
    radii: Tensor
    x: Tensor
    best: Tensor
    reach: Tensor


def fab_t(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    steps: int = 100,
    targets: int = 9,
    eot: int = 1,
    eot_max: int | None = None,
    average: Average = "gradients",
    source: Model | None = None,
) -> Tensor:
    """Return inputs that targeted FAB finds inside the radius (Croce & Hein 2020, arXiv:1907.02044); linf, l2, l1.

    inputs: (n, ...) in the threat's domain; labels: (n,) classes. For each of the `targets` likeliest other classes
    it looks for the nearest point of that class; a row ends at the first point that fools inside its radius, and
    comes back unchanged without one. `eot`, `eot_max`, `average` and `source` are as in apgd. Nothing is drawn. Costs
    1 + 2 * targets * steps forward and targets * steps backward passes a row and draw, less for rows that are fooled.
    Raises `InputError` on inputs outside the domain, NaN, labels that do not fit, and counts below 1.

    >>> model = torch.nn.Linear(4, 3)
    >>> x, y = torch.rand(8, 4), torch.zeros(8, dtype=torch.long)
    >>> adversarial = fab_t(model, x, y, threat=ThreatModel("l2", 0.1), steps=5)
    >>> bool((adversarial - x).norm(dim=1).max() <= 0.1 + 1e-6)
    True
    """
    counts = {"steps": steps, "targets": targets, "eot": eot}
    inputs, labels = prepare(inputs, labels, threat, norms=("linf", "l2", "l1"), **counts)
    oracle, found = Oracle(model, source, eot, average), inputs.clone()
    goals = ranked(oracle, inputs, labels, threat, targets, "logits")
    if goals.shape[1]:
        oracle = oracle.settled(targeted_margin, (labels, goals[:, 0]), inputs, eot_max)
    radii = threat.radii(inputs).flatten().expand(len(inputs))
    oracle = oracle.later(oracle.stride)

    def run(left: Tensor, columns: list[int]) -> Tensor:
        nonlocal oracle
        rows = left.repeat(len(columns))
        x, aims = inputs[rows], goals[left][:, columns].T.flatten()
        far = radii.new_full((len(rows),), float("inf"))
        pairs = _Pairs(rows, x, labels[rows], aims, radii[rows], x, x, far)
        fooled = _descend(oracle, pairs, threat, steps, found)[left]
        oracle = oracle.later(steps * (2 + _VOTES) * oracle.stride)
        return fooled

    in_waves(run, torch.arange(len(inputs), device=inputs.device), goals.shape[1], None)
    return found


def _descend(oracle: Oracle, pairs: _Pairs, threat: ThreatModel, steps: int, found: Tensor) -> Tensor:
    """Walk all pairs, put points that fool inside the radius into `found`; return which samples are fooled."""
    fooled = torch.zeros(len(found), dtype=torch.bool, device=found.device)
    for index in range(steps):
        seen = oracle.along(index, steps).look(
            targeted_margin, (pairs.labels, pairs.goals), pairs.x, pairs.rows, (2 + _VOTES) * index
        )
        pairs.x = _across(pairs, seen.loss.to(pairs.x.dtype), seen.gradient, threat)
        wrong = _fools(oracle, pairs, (2 + _VOTES) * index + 1)
        if not bool(wrong.any()):
            continue
        _remember(pairs, wrong, threat.norm)
        done = pairs.reach <= pairs.radii
        if bool(done.any()):
            found[pairs.rows[done]] = pairs.best[done]
            fooled[pairs.rows[done]] = True
            pairs.keep(~fooled[pairs.rows])
            if len(pairs.rows) == 0:
                break
    return fooled


def _fools(oracle: Oracle, pairs: _Pairs, step: int) -> Tensor:
    """Return which pairs fool; on a stochastic model only where fresh draws say so again and again."""
    wrong = oracle.logits(pairs.x, pairs.rows, step).argmax(1) != pairs.labels
    for vote in range(0 if oracle.certain else _VOTES):
        left = wrong.nonzero().squeeze(1)
        if len(left):
            again = oracle.logits(pairs.x[left], pairs.rows[left], step + 1 + vote)
            wrong[left] = again.argmax(1) != pairs.labels[left]
    return wrong


def _across(pairs: _Pairs, margin: Tensor, gradient: Tensor, threat: ThreatModel) -> Tensor:
    """Return points just behind the linearised boundary, from here, and to a small part from the origin."""
    n, x, origins = len(pairs.rows), pairs.x.flatten(1), pairs.origins.flatten(1)
    slope = gradient.flatten(1)
    gap = torch.cat([-margin, -margin + (slope * (x - origins)).sum(1)])
    moves = nearest_on(torch.cat([x, origins]), slope.repeat(2, 1), gap, threat)
    size = distance(moves, torch.zeros_like(moves), threat.norm).clamp_min(1e-8)
    share = (size[:n] / (size[:n] + size[n:])).clamp(0, _BIAS)[:, None]
    here, there = x + _OVERSHOOT * moves[:n], origins + _OVERSHOOT * moves[n:]
    return (here + share * (there - here)).clamp(*threat.domain).view_as(pairs.x)


def _remember(pairs: _Pairs, wrong: Tensor, norm: Norm) -> None:
    """Keep the nearest point that fools, and go back towards the origin from there."""
    reach = distance(pairs.x, pairs.origins, norm)
    nearer = wrong & (reach < pairs.reach)
    pairs.reach = torch.where(nearer, reach, pairs.reach)
    pairs.best = torch.where(per_row(nearer, pairs.x), pairs.x, pairs.best)
    back = pairs.origins + _BACK * (pairs.x - pairs.origins)
    pairs.x = torch.where(per_row(wrong, pairs.x), back, pairs.x)
