"""Adversarial training with projected gradient descent."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustgeom.threat import ThreatModel
from robustgeom.training._worst import pgd_in_eval
from robustgeom.training.awp import at_worst_weights

__all__ = ["pgd_at"]


def pgd_at(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    generator: Generator,
    steps: int = 10,
    step_size: float | None = None,
    awp: float = 0.0,
) -> Tensor:
    """Return the mean cross-entropy in nats on PGD's worst inputs (Madry et al. 2018, arXiv:1706.06083).

    inputs: (n, ...); labels: (n,); threat: linf, l2 or l1. `step_size` is in the input's units, 2.5 eps / steps by
    default; `awp` is the relative size of adversarial weight perturbation. The attack sees the model in eval mode, so
    its passes leave batch-norm statistics alone, and every row gets all `steps`, fooled or not. Raises `InputError` on
    what PGD refuses, and on awp < 0.

    >>> import torch
    >>> data = torch.rand(4, 2), torch.zeros(4, dtype=torch.long)
    >>> threat = ThreatModel("linf", 0.1)
    >>> pgd_at(nn.Linear(2, 3), *data, threat=threat, steps=2, generator=Generator()).shape
    torch.Size([])
    """
    worst = pgd_in_eval(
        model, inputs, labels, threat=threat, steps=steps, step_size=step_size, generator=generator
    )
    return at_worst_weights(model, lambda net: F.cross_entropy(net(worst), labels), awp)
