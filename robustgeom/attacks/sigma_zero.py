"""sigma-zero: gradient steps on a smooth count of the changes, with small changes cut to zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustgeom.attacks._kinds import minimum_norm
from robustgeom.attacks._losses import margin
from robustgeom.attacks._nearest import Near, anneal, moved, nearest
from robustgeom.attacks._oracle import Average, Model, Oracle
from robustgeom.attacks._prepare import prepare
from robustgeom.threat import ThreatModel

__all__ = ["sigma_zero"]

_SIGMA = 1e-3  # how sharply the smooth count tells changes from none, in squared widths of the domain
_STEP, _LAST = 1.0, 0.1  # the first and the last step, in widths of the domain
_CUT, _CUT_STEP = 0.3, 0.01  # changes below this many widths are cut to zero, and how that moves, in steps
_MEAN, _SQUARE = 0.9, 0.999  # the memory of Adam (Kingma & Ba 2015)


@dataclass(frozen=True)
class _Sparse:
    """Adam on the hinge of the margin plus the share of changed components; the cut rises where a point fools."""

    steps: int

    def next(self, index: int, near: Near) -> Tensor:
        low, high = near.domain
        base, width = near.origins.flatten(1), high - low
        move = (near.x.flatten(1) - base) / width
        step = anneal(_STEP, _LAST, index, self.steps)
        state = near.state or {
            "mean": torch.zeros_like(move),
            "square": torch.zeros_like(move),
            "cut": torch.full_like(near.reach, _CUT),
        }
        near.state = state
        move = move - step * _adam(state, _slope(near, move, width), index + 1)
        move = ((base + width * move).clamp(low, high) - base) / width
        state["cut"] = (state["cut"] + torch.where(near.wrong, 1, -1) * _CUT_STEP * step).clamp(0, 1)
        kept = move.abs() >= state["cut"][:, None].to(move)
        return moved(near, (width * move * kept).view_as(near.x))


def _slope(near: Near, move: Tensor, width: float) -> Tensor:
    """Return the gradient (n, d) of what is minimised, scaled to a largest component of 1."""
    count = 2 * _SIGMA * move / (move.square() + _SIGMA).square() / move.shape[1]
    hinge = -width * near.gradient.flatten(1) * ~near.wrong[:, None]
    slope = hinge + count
    return slope / slope.abs().amax(1, keepdim=True).clamp_min(torch.finfo(slope.dtype).tiny)


def _adam(state: dict[str, Tensor], slope: Tensor, count: int) -> Tensor:
    state["mean"] = torch.lerp(slope, state["mean"], _MEAN)
    state["square"] = torch.lerp(slope.square(), state["square"], _SQUARE)
    mean, square = state["mean"] / (1 - _MEAN**count), state["square"] / (1 - _SQUARE**count)
    return mean / (square.sqrt() + 1e-8)


@minimum_norm
def sigma_zero(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    steps: int = 100,
    eot: int = 1,
    eot_max: int | None = None,
    average: Average = "gradients",
    source: Model | None = None,
) -> Tensor:
    """Return the points of fewest changes that fool, as sigma-zero finds them (Cina et al. 2025, arXiv:2402.01879).

    inputs: (n, ...) in the threat's domain; labels: (n,) classes; the result has the inputs' shape. A row for which
    no point was found, or that was wrong from the start, comes back as it was. The radius `threat.eps` is neither a
    budget nor anything else here: one run serves all radii. Distances are l0, the number of changed components.
    In the end changes of least linearised effect are taken back. `eot` draws are averaged at each step for a
    stochastic model, more where the direction has not settled, up to `eot_max`; `average` says whether gradients or
    logits are. `source` gives the gradients in the model's place. Nothing is drawn. Costs steps + 23 forward and
    steps + 2 backward passes a row and draw; on a stochastic model up to 4 * steps + 140 forward passes more that make
    sure of points. Raises `InputError` on inputs outside the domain, NaN, labels that do not fit, and counts below 1.

    >>> model = torch.nn.Linear(4, 2)
    >>> x, y = torch.rand(8, 4), torch.zeros(8, dtype=torch.long)
    >>> near = sigma_zero(model, x, y, threat=ThreatModel("l0", 0), steps=20)
    >>> bool(((near == x).all(1) | (model(near).argmax(1) != y)).all())
    True
    """
    inputs, labels = prepare(inputs, labels, threat, norms=("l0",), steps=steps, eot=eot)
    oracle = Oracle(model, source, eot, average).settled(margin, (labels,), inputs, eot_max)
    return nearest(oracle, margin, inputs, labels, threat, _Sparse(steps).next, steps=steps)
