"""MART: misclassified inputs count for more."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustgeom.threat import ThreatModel
from robustgeom.training._door import admit, counts, sizes
from robustgeom.training._terms import divergence
from robustgeom.training._worst import climb, in_eval
from robustgeom.training.awp import Network, at_worst_weights

__all__ = ["mart"]


def mart(
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
    """Return boosted cross-entropy under attack plus `beta` times a weighted divergence (Wang et al. 2020, ICLR).

    inputs: (n, ...); labels: (n,); threat: linf or l2; the loss is in nats, a mean over rows. Boosted: minus the log
    of the label's probability and minus the log of what the best other class leaves over. The divergence runs from
    clean to attacked predictions, weighted by one minus the label's clean probability; gradients flow through all.
    The attack climbs the cross-entropy in eval mode; `step_size` is in the input's units, 2.5 eps / steps by default.
    The clean and then the attacked batch pass in train mode. `awp` is the relative size of adversarial weight
    perturbation. Raises `InputError` on other norms, inputs outside the domain, and bad settings.

    >>> import torch
    >>> data = torch.rand(4, 2), torch.zeros(4, dtype=torch.long)
    >>> mart(nn.Linear(2, 3), *data, threat=ThreatModel("linf", 0.1), generator=Generator()).shape
    torch.Size([])
    """
    admit(inputs, labels, threat, "linf", "l2")
    counts(steps=steps)
    sizes(beta=beta, awp=awp)
    with in_eval(model):
        worst = climb(
            lambda x: F.cross_entropy(model(x), labels, reduction="sum"),
            inputs,
            threat,
            steps=steps,
            step_size=step_size,
            generator=generator,
        )

    def loss(net: Network) -> Tensor:
        clean, attacked = net(inputs), net(worst)
        doubt = 1 - clean.softmax(1).gather(1, labels[:, None]).squeeze(1)
        return (_boosted(attacked, labels) + beta * doubt * divergence(clean, attacked)).mean()

    return at_worst_weights(model, loss, awp)


def _boosted(logits: Tensor, labels: Tensor) -> Tensor:
    """Return -log p(label) - log(1 - p(best other)) (n,); the rest is summed, as 1 - p loses all digits near 0."""
    log_p, nothing = logits.log_softmax(1), -float("inf")
    other = log_p.scatter(1, labels[:, None], nothing).argmax(1, keepdim=True)
    rest = log_p.scatter(1, other, nothing).logsumexp(1)
    return -log_p.gather(1, labels[:, None]).squeeze(1) - rest
