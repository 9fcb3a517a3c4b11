"""SimCLR: the other view of an image must be told from all other images' views."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustgeom.training._door import temperatures
from robustgeom.training._probed import embedded, unmixed

__all__ = ["simclr"]


def simclr(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    generator: Generator,
    crop: float = 0.3,
    jitter: float = 0.4,
    temperature: float = 0.5,
) -> Tensor:
    """Return SimCLR's loss in nats, and a linear probe's cross-entropy (Chen et al. 2020, arXiv:2002.05709).

    inputs: images (n, c, h, w) in [0, 1], of which two views are made each (see `views`); labels (n,) reach the probe
    alone, whose slope ends at the features. Mean over views of the cross-entropy of picking the other view of the same
    image among all other views, by cosines over `temperature`. Raises `InputError` on other networks than
    `self_supervised` and on settings that mean nothing.

    >>> from robustgeom.models.self_supervised import SelfSupervised
    >>> model, data = SelfSupervised(base="pooled_cnn"), (torch.rand(4, 1, 28, 28), torch.zeros(4, dtype=torch.long))
    >>> simclr(model, *data, generator=Generator().manual_seed(0)).shape
    torch.Size([])
    """
    temperatures(temperature=temperature)
    found = embedded(model, inputs, labels, 2, generator, crop, jitter)
    return _contrast(found.embeddings, temperature) + found.probe


@unmixed
def _contrast(z: Tensor, temperature: float) -> Tensor:
    """Return the loss of embeddings z (2 n, width), the two views of an image in consecutive rows."""
    unit = F.normalize(z, dim=1)
    alike = unit @ unit.T / temperature
    alike = alike.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
    return F.cross_entropy(alike, torch.arange(len(z), device=z.device) ^ 1)
