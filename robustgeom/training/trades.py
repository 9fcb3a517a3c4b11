"""TRADES: accuracy on clean inputs, and predictions that stay the same around them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustgeom.threat import ThreatModel
from robustgeom.training._door import admit, counts, sizes
from robustgeom.training._terms import divergence
from robustgeom.training._worst import climb, in_eval
from robustgeom.training.awp import Network, at_worst_weights

__all__ = ["trades"]


def trades(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    generator: Generator,
    beta: float = 6.0,
    steps: int = 10,
    step_size: float | None = None,
    awp: float = 0.0,
) -> Tensor:
    """Return clean cross-entropy plus `beta` times the largest divergence found (Zhang et al. 2019, arXiv:1901.08573).

    inputs: (n, ...); labels: (n,); threat: linf or l2; the loss is in nats, a mean over rows. The divergence runs from
    clean to attacked predictions; gradients flow through both. The attack climbs it in eval mode; `step_size` is in
    the input's units, 2.5 eps / steps by default. The clean and then the attacked batch pass in train mode, each
    under its own batch statistics, as in the authors' code. `awp` is the relative size of adversarial weight
    perturbation. Raises `InputError` on other norms, inputs outside the domain, and bad settings.

    >>> data = torch.rand(4, 2), torch.zeros(4, dtype=torch.long)
    >>> trades(nn.Linear(2, 3), *data, threat=ThreatModel("l2", 0.1), generator=Generator()).shape
    torch.Size([])
    """
    admit(inputs, labels, threat, "linf", "l2")
    counts(steps=steps)
    sizes(beta=beta, awp=awp)
    with in_eval(model):
        with torch.no_grad():
            still = model(inputs)
        worst = climb(
            lambda x: divergence(still, model(x)).sum(),
            inputs,
            threat,
            steps=steps,
            step_size=step_size,
            generator=generator,
        )

    def loss(net: Network) -> Tensor:
        clean = net(inputs)
        return F.cross_entropy(clean, labels) + beta * divergence(clean, net(worst)).mean()

    return at_worst_weights(model, loss, awp)
