"""Primal-dual proximal gradient descent: shrunk gradient steps whose price of distance follows the verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustgeom.attacks._kinds import minimum_norm
from robustgeom.attacks._losses import find_loss
from robustgeom.attacks._nearest import Near, anneal, moved, nearest
from robustgeom.attacks._oracle import Average, Model, Oracle
from robustgeom.attacks._prepare import prepare
from robustgeom.threat import ThreatModel

__all__ = ["pdpgd"]

_STEP, _LAST = 1.0, 0.03  # the first and the last step, in widths of the domain
_PRICE = 0.01  # of a unit of distance at first, in parts of the steepest component: far points come first
# How much the logarithm of the price moves at a step: at first, times the number of steps, its bounds, and last.
_RISE, _LEAST, _MOST, _LAST_RISE = 30.0, 0.3, 1.0, 0.1


@dataclass(frozen=True)
class _Proximal:
    """A gradient step, then the nearest point to it at the current price: soft thresholding, cut to the domain."""

    steps: int

    def next(self, index: int, near: Near) -> Tensor:
        low, high = near.domain
        price = near.state.get("price", torch.full_like(near.reach, math.log(_PRICE)))
        if index > 0:
            first = min(max(_RISE / self.steps, _LEAST), _MOST)
            rise = anneal(first, first * _LAST_RISE, index, self.steps)
            price = (price + torch.where(near.wrong, rise, -rise)).clamp_max(0)
        near.state["price"] = price
        step = (high - low) * anneal(_STEP, _LAST, index, self.steps)
        gradient = near.gradient.flatten(1)
        steepest = gradient.abs().amax(1, keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
        ahead = (near.x - near.origins).flatten(1) + step * gradient / steepest
        shrunk = (ahead.abs() - step * price.exp()[:, None].to(ahead)).clamp_min(0)
        return moved(near, (ahead.sign() * shrunk).view_as(near.x))


@minimum_norm
def pdpgd(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    steps: int = 100,
    loss: str = "scaled-ce",
    eot: int = 1,
    eot_max: int | None = None,
    average: Average = "gradients",
    source: Model | None = None,
) -> Tensor:
    """Return the nearest points in l1 that fool, as PDPGD finds them (Matyasko & Chau 2021, arXiv:2106.01538).

    inputs: (n, ...) in the threat's domain; labels: (n,) classes; the result has the inputs' shape. A row for which
    no point was found, or that was wrong from the start, comes back as it was. The radius `threat.eps` is neither a
    budget nor anything else here: one run serves all radii. Points are the primal variable; the dual one, the price
    of a unit of distance against the loss, rises by a factor where the last point fools and falls where not. Steps
    are gradients scaled to a largest component of 1, without the paper's scaling of each component, and the second
    half of them climbs the margin instead of the loss. `loss` is ce, dlr, margin, scaled-ce or probability-margin.
    `eot` draws are averaged at each step for a stochastic model, more where the direction has not settled, up to
    `eot_max`; `average` says whether gradients or logits are. `source` gives the gradients in the model's place.
    Nothing is drawn. Costs steps + 11 forward and steps backward passes a row and draw; on a stochastic model up to
    4 * steps + 70 forward passes more, which make sure of points. Raises `InputError` on inputs outside the domain,
    NaN, labels that do not fit, and counts below 1.

    >>> model = torch.nn.Linear(4, 2)
    >>> x, y = torch.rand(8, 4), torch.zeros(8, dtype=torch.long)
    >>> near = pdpgd(model, x, y, threat=ThreatModel("l1", 0), steps=20)
    >>> bool(((near == x).all(1) | (model(near).argmax(1) != y)).all())
    True
    """
    inputs, labels = prepare(inputs, labels, threat, norms=("l1",), steps=steps, eot=eot)
    value = find_loss(loss)
    oracle = Oracle(model, source, eot, average).settled(value, (labels,), inputs, eot_max)
    return nearest(oracle, value, inputs, labels, threat, _Proximal(steps).next, steps=steps)
