"""Decoupled direction and norm: gradient steps on a sphere whose radius follows the verdict."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustgeom.attacks._kinds import minimum_norm
from robustgeom.attacks._losses import find_loss
from robustgeom.attacks._nearest import Near, anneal, nearest, on_sphere, radii, share
from robustgeom.attacks._oracle import Average, Model, Oracle
from robustgeom.attacks._prepare import prepare
from robustgeom.threat import ThreatModel

__all__ = ["ddn"]

_STEP, _LAST = 2.0, 0.02  # the first and the last step, in radii: far points are looked at first
_CHANGE = 5.0  # gamma times the number of steps


@dataclass(frozen=True)
class _Sphere:
    """The radius shrinks by a fixed share where the last point fools and grows by it where not."""

    steps: int
    gamma: float

    def next(self, index: int, near: Near) -> Tensor:
        radius = radii(near, index, self.gamma)
        return on_sphere(near, radius, anneal(_STEP, _LAST, index, self.steps))


@minimum_norm
def ddn(
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
    """Return the nearest points in l2 that fool, as DDN finds them (Rony et al. 2019, arXiv:1811.09600).

    inputs: (n, ...) in the threat's domain; labels: (n,) classes; the result has the inputs' shape. A row for which
    no point was found, or that was wrong from the start, comes back as it was. The radius `threat.eps` is neither a
    budget nor anything else here: one run serves all radii. `gamma` is the share by which the radius changes at each
    step, 5 / steps between 0.05 and 0.25 by default: 0.05, the paper's, at 100 steps. Unlike in the paper no scale has
    to be set: the first radius is the margin's linearisation and the step a part of the radius. The projection meets
    ball and domain together, and the second half of the steps climbs the margin instead of the loss. `loss` is ce, dlr,
    margin, scaled-ce or probability-margin. `eot` draws are averaged at each step for a stochastic model, more where
    the direction has not settled, up to `eot_max`; `average` says whether gradients or logits are. `source` gives the
    gradients in the model's place. Nothing is drawn. Costs steps + 11 forward and steps backward passes a row and
    draw; on a stochastic model up to 4 * steps + 70 forward passes more, which make sure of points. Raises `InputError`
    on inputs outside the domain, NaN, labels that do not fit, counts below 1, and a gamma outside (0, 1).

    >>> import torch
    >>> model = torch.nn.Linear(4, 2)
    >>> x, y = torch.rand(8, 4), torch.zeros(8, dtype=torch.long)
    >>> near = ddn(model, x, y, threat=ThreatModel("l2", 0), steps=20)
    >>> bool(((near == x).all(1) | (model(near).argmax(1) != y)).all())
    True
    """
    inputs, labels = prepare(inputs, labels, threat, norms=("l2",), steps=steps, eot=eot)
    rule, value = _Sphere(steps, share(gamma, _CHANGE, steps)), find_loss(loss)
    oracle = Oracle(model, source, eot, average).settled(value, (labels,), inputs, eot_max)
    return nearest(oracle, value, inputs, labels, threat, rule.next, steps=steps)
