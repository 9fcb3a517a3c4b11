"""The fast gradient sign method: one gradient, one step as far as the threat allows."""

from __future__ import annotations

import torch
from torch import Tensor

from robustgeom.attacks._farthest import farthest
from robustgeom.attacks._loop import Step, Watch, fooled_rows
from robustgeom.attacks._losses import find_loss
from robustgeom.attacks._oracle import Average, Model, Oracle
from robustgeom.attacks._prepare import prepare
from robustgeom.threat import ThreatModel, per_row

__all__ = ["fgsm"]


def fgsm(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    loss: str = "ce",
    eot: int = 1,
    eot_max: int | None = None,
    average: Average = "gradients",
    source: Model | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Return the farthest allowed inputs along one gradient (Goodfellow et al. 2015, arXiv:1412.6572).

    inputs: (n, ...) in the threat's domain; labels: (n,) classes; the result has the inputs' shape and stays in
    the threat: linf (the sign step), l2 or l1. Ball and domain are met together, so on a linear model with two
    classes it is the exact worst case. Inputs that are misclassified already come back unchanged. `loss` is ce, dlr,
    margin, scaled-ce or probability-margin. `eot` draws are averaged for a stochastic model, more where the
    direction has not settled, up to `eot_max`; `average` says whether gradients or logits are. `source` gives the
    gradients in the model's place. Nothing is drawn. Costs one forward and one backward pass a row and draw. Raises
    `InputError` on inputs outside the domain, NaN, labels that do not fit, and counts below 1.

    >>> model = torch.nn.Linear(4, 2)
    >>> x, y = torch.rand(8, 4), torch.zeros(8, dtype=torch.long)
    >>> adversarial = fgsm(model, x, y, threat=ThreatModel("linf", 0.1))
    >>> bool((adversarial - x).abs().max() <= 0.1 + 1e-6)
    True
    """
    inputs, labels = prepare(inputs, labels, threat, norms=("linf", "l2", "l1"), eot=eot)
    oracle, value = Oracle(model, source, eot, average), find_loss(loss)
    rows = torch.arange(len(inputs), device=inputs.device)
    if len(rows) == 0:
        return inputs.clone()
    seen = oracle.settled(value, (labels,), inputs, eot_max).look(value, (labels,), inputs, rows)
    wrong = fooled_rows(seen, labels)
    if watch is not None:
        watch(Step(0, rows, seen.loss, wrong))
    done = per_row(wrong & oracle.certain, inputs)
    return torch.where(done, inputs, farthest(inputs, seen.gradient, threat))
