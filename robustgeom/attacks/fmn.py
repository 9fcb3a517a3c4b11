"""Fast minimum-norm attack: steps projected onto a ball that closes in on the boundary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustgeom.attacks._kinds import minimum_norm
from robustgeom.attacks._losses import find_loss
from robustgeom.attacks._nearest import (
    GROWTH,
    Near,
    anneal,
    nearest,
    on_sphere,
    onto,
    radii,
    share,
    within,
)
from robustgeom.attacks._oracle import Average, Model, Oracle
from robustgeom.attacks._prepare import prepare
from robustgeom.threat import Norm, ThreatModel, per_row

__all__ = ["FMN_NORMS", "fmn"]

FMN_NORMS: tuple[Norm, ...] = ("linf", "l2", "l1", "l0")
_STEP = {
    "linf": 0.5,
    "l2": 2.0,
    "l1": 0.8,
    "l0": 1.0,
}  # the first step in radii, in l1 times sqrt(width of the domain / radius); for l0 in widths of the domain
_SHORTEST = 0.25  # part of that first step that remains in l1, however large the radius
_LAST, _LAST_CHANGE = 0.01, 0.1  # the last step and change of the radius, in parts of the first
_CHANGE = {"linf": 10.0, "l2": 10.0, "l1": 10.0, "l0": 25.0}  # gamma times the number of steps


@dataclass(frozen=True)
class _Ball:
    """linf, l2 and l1: the change of the radius fades."""

    steps: int
    gamma: float

    def next(self, index: int, near: Near) -> Tensor:
        gamma = anneal(self.gamma, self.gamma * _LAST_CHANGE, index, self.steps)
        radius = radii(near, index, gamma)
        first = _STEP[near.norm]
        step = anneal(first, first * _LAST, index, self.steps)
        if near.norm == "l1":
            width = near.domain[1] - near.domain[0]
            return on_sphere(near, radius, step * (width / radius).sqrt().clamp_min(_SHORTEST))
        return on_sphere(near, radius, step)


@dataclass(frozen=True)
class _Count:
    """l0: the radius is a number of components, and changes by at least one."""

    steps: int
    gamma: float

    def next(self, index: int, near: Near) -> Tensor:
        gamma = anneal(self.gamma, self.gamma * _LAST_CHANGE, index, self.steps)
        count = near.state.get("radius", torch.ones_like(near.reach))
        if index > 0:
            fewer = torch.minimum(count - 1, (count * (1 - gamma)).floor())
            more = torch.maximum(count + 1, (count * (1 + gamma)).floor())
            count = torch.where(near.wrong, fewer, torch.where(near.found, more, GROWTH * count))
        count = torch.minimum(count, near.reach - 1).clamp_min(1)
        near.state["radius"] = within(near, count)
        size = near.gradient.flatten(1).abs().amax(1).clamp_min(torch.finfo(near.gradient.dtype).tiny)
        low, high = near.domain
        step = anneal(_STEP["l0"], _STEP["l0"] * _LAST, index, self.steps) * (high - low)
        return onto(near, near.x + step * (near.gradient / per_row(size, near.x)), near.state["radius"])


@minimum_norm
def fmn(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    steps: int = 100,
    gamma: float | None = None,
    loss: str = "scaled-ce",
    eot: int = 1,
    eot_max: int | None = None,
    average: Average = "gradients",
    source: Model | None = None,
) -> Tensor:
    """Return the nearest points that fool, as FMN finds them (Pintor et al. 2021, arXiv:2102.12827); linf, l2, l1, l0.

    inputs: (n, ...) in the threat's domain; labels: (n,) classes; the result has the inputs' shape. A row for which
    no point was found, or that was wrong from the start, comes back as it was. The radius `threat.eps` is neither a
    budget nor anything else here: one run serves all radii. `gamma` is the share by which the radius changes at first,
    10 / steps (25 / steps in l0) between 0.05 and 0.25 by default. Unlike in the paper the step is a part of the
    radius, in linf along the sign, in l1 a smaller part of a larger one; the radius may exceed the best distance, as
    points that are drawn in from far end up nearer; ball and domain are met together; and the second half of the steps
    climbs the margin instead of the loss.
    `loss` is ce, dlr, margin, scaled-ce or probability-margin. `eot` draws are averaged at each step for a stochastic
    model, more where the direction has not settled, up to `eot_max`; `average` says whether gradients or logits are.
    `source` gives the gradients in the model's place. Nothing is drawn. Costs steps + 11 forward and steps backward
    passes a row and draw, in l0 steps + 23 and steps + 2; on a stochastic model up to 4 * steps + 140 forward passes
    more, which make sure of points. Raises `InputError` on inputs outside the domain, NaN, labels that do not fit,
    counts below 1, and a gamma outside (0, 1).

    >>> model = torch.nn.Linear(4, 2)
    >>> x, y = torch.rand(8, 4), torch.zeros(8, dtype=torch.long)
    >>> near = fmn(model, x, y, threat=ThreatModel("l1", 0), steps=20)
    >>> bool(((near == x).all(1) | (model(near).argmax(1) != y)).all())
    True
    """
    inputs, labels = prepare(inputs, labels, threat, norms=FMN_NORMS, steps=steps, eot=eot)
    gamma, value = share(gamma, _CHANGE[threat.norm], steps), find_loss(loss)
    oracle = Oracle(model, source, eot, average).settled(value, (labels,), inputs, eot_max)
    rule = _Count(steps, gamma) if threat.norm == "l0" else _Ball(steps, gamma)
    return nearest(oracle, value, inputs, labels, threat, rule.next, steps=steps)
