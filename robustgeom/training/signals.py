"""What backpropagation tells the units of a vectorised network, against what error broadcasting tells them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustgeom.errors import InputError
from robustgeom.models.vnn import VNN

__all__ = ["UnitSignals", "unit_signals"]


@dataclass(frozen=True)
class UnitSignals:
    """Signals of the hidden layers `stages`, sample by sample.

    `angles` (n, layers), in degrees, lie between what backpropagation multiplies the error vector by in each open unit,
    and the ones that global error-vector broadcasting takes in its place: 0 where both move weights alike, 90 where
    they have nothing to do with each other. `negative` (n, layers) is the share of a layer's open units, place by
    place, whose backpropagated signal is below 0: there the two move weights in opposite directions.
    """

    stages: tuple[str, ...]
    angles: Tensor
    negative: Tensor


def unit_signals(model: VNN, inputs: Tensor) -> UnitSignals:
    """Return the signals of a vectorised network on inputs (n, ...) (arXiv:2106.04089).

    A layer without any open unit, or whose signals are all 0, has an angle of 90 degrees. Raises `InputError` for other
    networks.

    >>> found = unit_signals(VNN(size=8, hidden=(6,)).eval(), torch.rand(2, 1, 8, 8))
    >>> found.angles.shape, found.negative.tolist()
    (torch.Size([2, 1]), [[0.0], [0.0]])
    """
    if not isinstance(model, VNN):
        raise InputError("a network of vectors", got=type(model).__name__, fix="the architecture vnn")
    hidden, gates = [], []
    with torch.enable_grad():
        a = model.entering(inputs)
        *inner, last = list(model.parts())
        for index, block in enumerate(inner):
            h = block.layer(model.between(index, a))
            h = h if h.requires_grad else h.requires_grad_()
            hidden.append(h)
            opened = block.gates(h.detach())
            assert opened is not None  # it is no read-out
            gates.append(opened)
            a = block.finish(h, opened)
        outputs = last(model.between(len(hidden), a))
        # All entries of a vector pass the same weights, so that the first tells of all.
        slopes = torch.autograd.grad(outputs.flatten(1)[:, 0].sum(), hidden)
    signals = [slope[:, 0].flatten(1) for slope in slopes]
    pairs = list(zip(signals, [g.squeeze(1).flatten(1) for g in gates], strict=True))
    angles = torch.stack([_angle(signal, ones) for signal, ones in pairs], 1)
    negative = torch.stack([(s < 0).sum(1) / ones.sum(1).clamp_min(1) for s, ones in pairs], 1)
    return UnitSignals(model.stages, angles, negative)


def _angle(signal: Tensor, ones: Tensor) -> Tensor:
    """Return the angle between signals (n, units) and the ones of open units, in degrees."""
    size = signal.norm(dim=1) * ones.sum(1).sqrt()
    cosine = (signal * ones).sum(1) / size.clamp_min(torch.finfo(size.dtype).tiny)
    return torch.rad2deg(cosine.clamp(-1, 1).acos())
