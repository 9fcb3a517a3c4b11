"""Adversarial training with projected gradient descent."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustgeom.attacks.pgd import pgd
from robustgeom.threat import ThreatModel

__all__ = ["pgd_at"]


def pgd_at(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    steps: int = 5,
    step_size: float | None = None,
    generator: Generator,
) -> Tensor:
    """Return the mean cross-entropy in nats on PGD's worst inputs (Madry et al. 2018, arXiv:1706.06083).

    inputs: (n, ...); labels: (n,). The attack sees the model in eval mode, so its passes leave batch-norm
    statistics alone, and every row gets all `steps`, fooled or not.

    >>> import torch
    >>> data = torch.rand(4, 2), torch.zeros(4, dtype=torch.long)
    >>> settings = dict(threat=ThreatModel("linf", 0.1), steps=2, step_size=None, generator=Generator())
    >>> pgd_at(nn.Linear(2, 3), *data, **settings).shape
    torch.Size([])
    """
    training = model.training
    model.eval()
    worst = pgd(
        model,
        inputs,
        labels,
        threat=threat,
        steps=steps,
        step_size=step_size,
        stop_when_fooled=False,
        generator=generator,
    )
    model.train(training)
    return F.cross_entropy(model(worst), labels)
