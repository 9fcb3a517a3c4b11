"""Random search: the baseline that an attack with any idea of the model must beat."""

from __future__ import annotations

import torch
from torch import Tensor

from robustgeom.attacks._farthest import farthest
from robustgeom.attacks._loop import Found, Step, Watch, fooled_rows
from robustgeom.attacks._losses import find_loss
from robustgeom.attacks._oracle import Average, Model, Oracle
from robustgeom.attacks._prepare import prepare
from robustgeom.attacks._start import Randomness, draw, resolve, select
from robustgeom.threat import ThreatModel

__all__ = ["random_search"]


def random_search(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    queries: int = 100,
    loss: str = "margin",
    eot: int = 1,
    average: Average = "gradients",
    generator: Randomness = None,
    watch: Watch | None = None,
) -> Tensor:
    """Return the worst of random points on the ball's surface: what chance finds (Carlini et al. 2019).

    A gradient attack that finds no more has no gradient to speak of (arXiv:1902.06705).

    inputs: (n, ...) in the threat's domain; labels: (n,) classes; the result has the inputs' shape and stays in
    the threat: linf, l2 or l1. Each of the `queries` points is where fgsm would go if the gradient were
    Gaussian noise: in linf a random corner, in l1 a few random components moved to their bound. Inputs that are
    misclassified already come back unchanged. `loss` is ce, dlr, margin, scaled-ce or probability-margin; `eot`
    draws are averaged a query for a stochastic model, `average` says whether losses or logits are. `generator` is
    one torch.Generator, or one per row. Costs 1 + queries forward passes a row and draw, less for rows that are fooled
    early, and no gradients. Raises `InputError` on inputs outside the domain, NaN, labels that do not fit, and counts
    below 1.

    >>> model = torch.nn.Linear(4, 2)
    >>> x, y = torch.rand(8, 4), torch.zeros(8, dtype=torch.long)
    >>> adversarial = random_search(model, x, y, threat=ThreatModel("l1", 0.5), queries=5)
    >>> bool((adversarial - x).abs().sum(1).max() <= 0.5 + 1e-6)
    True
    """
    counts = {"queries": queries, "eot": eot}
    inputs, labels = prepare(inputs, labels, threat, norms=("linf", "l2", "l1"), **counts)
    oracle, value = Oracle(model, None, eot, average), find_loss(loss)
    found, generator = Found.nothing(inputs), resolve(generator)
    left, points = torch.arange(len(inputs), device=inputs.device), inputs
    for index in range(queries + 1):
        if len(left) == 0:
            break
        if index > 0:
            noise = draw(torch.randn, inputs[left], select(generator, left))
            points = farthest(inputs[left], noise, threat.take(left))
        seen = oracle.look(value, (labels[left],), points, left, index, gradient=False)
        wrong = fooled_rows(seen, labels[left])
        if watch is not None:
            watch(Step(index, left, seen.loss, wrong))
        # On a stochastic model a lucky draw is no success: no row leaves, and the loss alone decides.
        wrong = wrong & oracle.certain
        found.take(left, points, seen.loss.masked_fill(wrong, float("inf")))
        left = left[~wrong]
    return found.x
