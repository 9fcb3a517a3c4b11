"""Targeted Auto-PGD: one class after the other, many samples and classes in one batch."""

from __future__ import annotations

import torch
from torch import Tensor

from robustgeom.attacks._adaptive import Box, phases
from robustgeom.attacks._loop import Found, Watch, begin, through
from robustgeom.attacks._losses import TARGETED, find_loss
from robustgeom.attacks._oracle import Average, Model, Oracle
from robustgeom.attacks._prepare import prepare
from robustgeom.attacks._start import Randomness, resolve, select, surface_start
from robustgeom.attacks._targets import Order, in_waves, ranked
from robustgeom.threat import ThreatModel

__all__ = ["apgd_t"]


def apgd_t(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    steps: int = 100,
    targets: int = 9,
    order: Order = "logits",
    loss: str = "dlr",
    box: Box = "exact",
    eot: int = 1,
    eot_max: int | None = None,
    average: Average = "gradients",
    source: Model | None = None,
    generator: Randomness = None,
    watch: Watch | None = None,
) -> Tensor:
    """Return the worst inputs that targeted Auto-PGD finds (Croce & Hein 2020, arXiv:2003.01690); linf, l2, l1.

    inputs: (n, ...) in the threat's domain; labels: (n,) classes; the result has the inputs' shape and stays in
    the threat. The `targets` nearest other classes are tried, nearest first by `order`: logits, or linear, the
    distance to the boundary of the model's linearisation. `loss` is dlr (the margin where there are under four
    classes) or margin; `box`, `eot`, `eot_max`, `average` and `source` are as in apgd. With one generator a row, the
    samples that stand and their targets are packed into full batches; one torch.Generator takes target after target.
    Costs 1 + targets * (steps + 1) forward and targets * steps backward passes a row and draw, less for rows that
    are fooled; in order linear, 9 of each more. Raises `InputError` on inputs outside the domain, NaN, labels that
    do not fit, and counts below 1.

    >>> model = torch.nn.Linear(4, 3)
    >>> x, y = torch.rand(8, 4), torch.zeros(8, dtype=torch.long)
    >>> adversarial = apgd_t(model, x, y, threat=ThreatModel("linf", 0.1), steps=5)
    >>> bool((adversarial - x).abs().max() <= 0.1 + 1e-6)
    True
    """
    counts = {"steps": steps, "targets": targets, "eot": eot}
    inputs, labels = prepare(inputs, labels, threat, norms=("linf", "l2", "l1"), **counts)
    oracle, value = Oracle(model, source, eot, average), find_loss(loss, TARGETED)
    goals, plan = ranked(oracle, inputs, labels, threat, targets, order), phases(threat.norm, steps, box)
    if goals.shape[1]:
        oracle = oracle.settled(value, (labels, goals[:, 0]), inputs, eot_max)
    oracle, found, generator = oracle.later(oracle.stride), Found.nothing(inputs), resolve(generator)

    def run(left: Tensor, columns: list[int]) -> Tensor:
        nonlocal oracle
        rows, local = left.repeat(len(columns)), threat.take(left)
        wide = local.scaled(plan[0].scale)
        start = torch.cat([surface_start(inputs[left], wide, select(generator, left)) for _ in columns])
        aim = (labels[rows], goals[left][:, columns].T.flatten())
        walk = begin(rows, inputs[rows], aim, threat.take(rows), start)
        fooled, oracle = through(oracle, value, walk, plan, found, stop=True, watch=watch)
        return fooled[left]

    in_waves(run, torch.arange(len(inputs), device=inputs.device), goals.shape[1], generator)
    return found.x
