"""Fast adversarial training (N-FGSM): one noisy gradient step."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustgeom.attacks._start import random_start
from robustgeom.threat import ThreatModel, steepest
from robustgeom.training._door import admit, sizes
from robustgeom.training._worst import in_eval, slope

__all__ = ["fast_at"]


def fast_at(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    generator: Generator,
    noise: float = 2.0,
    step: float = 1.0,
) -> Tensor:
    """Return the mean cross-entropy in nats one step from noisy inputs (de Jorge et al. 2022, arXiv:2202.01181).

    inputs: (n, ...); labels: (n,); threat: linf, or l2, which the authors do not try. Noise uniform in a ball of
    `noise` eps, then one step of `step` eps up the loss, both cut to the domain and neither to the ball: the noise is
    what keeps one-step training from collapsing, and cutting would undo it. The step's gradient is taken in eval mode
    (in train mode in the authors' code). Raises `InputError` on other norms, inputs outside the domain, and settings
    below 0.

    >>> import torch
    >>> data = torch.rand(4, 2), torch.zeros(4, dtype=torch.long)
    >>> fast_at(nn.Linear(2, 3), *data, threat=ThreatModel("linf", 0.1), generator=Generator()).shape
    torch.Size([])
    """
    admit(inputs, labels, threat, "linf", "l2")
    sizes(noise=noise, step=step)
    start = random_start(inputs, threat.scaled(noise), generator)
    with in_eval(model):
        upwards = steepest(slope(lambda x: F.cross_entropy(model(x), labels), start), threat.norm)
    moved = start + step * threat.radii(inputs) * upwards
    return F.cross_entropy(model(moved.clamp(*threat.domain)), labels)
