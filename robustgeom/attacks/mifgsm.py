"""Momentum iterative FGSM: steps along a decaying sum of gradients."""

from __future__ import annotations

import math

from torch import Tensor

from robustgeom.attacks._farthest import Momentum, checked_size, own_start_first
from robustgeom.attacks._loop import Phase, Watch, search
from robustgeom.attacks._losses import find_loss
from robustgeom.attacks._oracle import Average, Model, Oracle
from robustgeom.attacks._prepare import prepare
from robustgeom.attacks._start import Randomness
from robustgeom.errors import InputError
from robustgeom.threat import ThreatModel

__all__ = ["mifgsm"]


def mifgsm(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    restarts: int = 1,
    loss: str = "ce",
    eot: int = 1,
    eot_max: int | None = None,
    average: Average = "gradients",
    source: Model | None = None,
    generator: Randomness = None,
    watch: Watch | None = None,
) -> Tensor:
    """Return the worst inputs that momentum iterative FGSM finds (Dong et al. 2018, arXiv:1710.06081).

    inputs: (n, ...) in the threat's domain; labels: (n,) classes; the result has the inputs' shape and stays in
    the threat: linf, l2 or l1. `step_size` is in the input's units, 2.5 eps / steps by default (the paper: eps /
    steps). `decay` >= 0 is what stays of the sum of earlier gradients at each step. The first start is the input
    itself, the other `restarts` are random points of the ball; only they draw from `generator`, one torch.Generator
    or one per row. `loss` is ce, dlr, margin, scaled-ce or probability-margin; `eot`, `eot_max`, `average` and
    `source` are as in pgd. Costs steps + 1 forward and steps backward passes a row, draw and restart, less for rows
    that are fooled early. Raises `InputError` on inputs outside the domain, NaN, labels that do not fit, counts below
    1, step_size <= 0 and decay < 0.

    >>> import torch
    >>> model = torch.nn.Linear(4, 2)
    >>> x, y = torch.rand(8, 4), torch.zeros(8, dtype=torch.long)
    >>> adversarial = mifgsm(model, x, y, threat=ThreatModel("l2", 0.5), steps=5)
    >>> bool((adversarial - x).norm(dim=1).max() <= 0.5 + 1e-6)
    True
    """
    counts = {"steps": steps, "restarts": restarts, "eot": eot}
    inputs, labels = prepare(inputs, labels, threat, norms=("linf", "l2", "l1"), **counts)
    checked_size("step_size", step_size)
    if not (math.isfinite(decay) and decay >= 0):
        raise InputError("a finite decay >= 0", got=str(decay), fix="decay=1.0")
    oracle, value = Oracle(model, source, eot, average), find_loss(loss)
    return search(
        oracle.settled(value, (labels,), inputs, eot_max),
        value,
        inputs,
        labels,
        threat,
        [Phase(steps, lambda: Momentum(steps, step_size, decay))],
        restarts=restarts,
        generator=generator,
        start=own_start_first(),
        watch=watch,
    )
