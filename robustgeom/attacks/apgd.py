"""Auto-PGD: projected gradient ascent with momentum that halves its step where progress stalls."""

from __future__ import annotations

from torch import Tensor

from robustgeom.attacks._adaptive import Box, phases
from robustgeom.attacks._loop import Watch, search
from robustgeom.attacks._losses import find_loss
from robustgeom.attacks._oracle import Average, Model, Oracle
from robustgeom.attacks._prepare import prepare
from robustgeom.attacks._start import Randomness, surface_start
from robustgeom.threat import ThreatModel

__all__ = ["apgd"]


def apgd(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    steps: int = 100,
    restarts: int = 1,
    loss: str = "ce",
    box: Box = "exact",
    eot: int = 1,
    eot_max: int | None = None,
    average: Average = "gradients",
    source: Model | None = None,
    generator: Randomness = None,
    watch: Watch | None = None,
) -> Tensor:
    """Return the worst inputs that Auto-PGD finds (Croce & Hein 2020, arXiv:2003.01690); linf, l2 and l1.

    inputs: (n, ...) in the threat's domain; labels: (n,) classes; the result has the inputs' shape and stays
    in the threat. There is no step size to set: it starts at 2 eps and halves per row where progress stalls. In l1
    steps are sparse, and the first 60 % of them walk in wider balls (Croce & Hein 2021, arXiv:2103.01208).
    `loss` is ce, dlr, margin, scaled-ce or probability-margin. `box` is exact, or clip, as AutoAttack does it: in l2
    the ball first and then the domain, which falls short of the radius. `eot` draws are averaged at each step for a
    stochastic model, more where the direction has not settled, up to `eot_max`; `average` says whether gradients
    or logits are. `source` gives the gradients in the model's place. `generator` is one torch.Generator, or one per
    row. Costs steps + 1 forward and steps backward passes a row, draw and restart, less for rows that are fooled
    early. Raises `InputError` on inputs outside the domain, NaN, labels that do not fit, and counts below 1.

    >>> import torch
    >>> model = torch.nn.Linear(4, 2)
    >>> x, y = torch.rand(8, 4), torch.zeros(8, dtype=torch.long)
    >>> adversarial = apgd(model, x, y, threat=ThreatModel("l2", 0.5), steps=5)
    >>> bool((adversarial - x).norm(dim=1).max() <= 0.5 + 1e-6)
    True
    """
    counts = {"steps": steps, "restarts": restarts, "eot": eot}
    inputs, labels = prepare(inputs, labels, threat, norms=("linf", "l2", "l1"), **counts)
    oracle, value = Oracle(model, source, eot, average), find_loss(loss)
    oracle = oracle.settled(value, (labels,), inputs, eot_max)
    return search(
        oracle,
        value,
        inputs,
        labels,
        threat,
        phases(threat.norm, steps, box),
        restarts=restarts,
        generator=generator,
        start=surface_start,
        watch=watch,
    )
