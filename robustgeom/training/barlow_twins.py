"""Barlow Twins: the features of two views agree, and are redundant with no other feature."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from robustgeom.training._door import sizes
from robustgeom.training._probed import embedded, unmixed

__all__ = ["barlow_twins"]

_LEAST = 1e-5  # variance, as in batch norm


def barlow_twins(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    generator: Generator,
    crop: float = 0.3,
    jitter: float = 0.4,
    redundancy: float = 0.005,
) -> Tensor:
    """Return Barlow Twins' loss, and a linear probe's cross-entropy in nats (Zbontar et al. 2021, arXiv:2103.03230).

    inputs: images (n, c, h, w) in [0, 1], of which two views are made each (see `views`); labels (n,) reach the probe
    alone, whose slope ends at the features. With correlations over the batch between features of one view and of the
    other: the sum over features of (1 - own correlation)^2, and `redundancy` times that of all other correlations
    squared. Raises `InputError` on other networks than `self_supervised` and on settings that mean nothing.

    >>> from robustgeom.models.self_supervised import SelfSupervised
    >>> model, data = SelfSupervised(base="pooled_cnn"), (torch.rand(4, 1, 28, 28), torch.zeros(4, dtype=torch.long))
    >>> barlow_twins(model, *data, generator=Generator().manual_seed(0)).shape
    torch.Size([])
    """
    sizes(redundancy=redundancy)
    found = embedded(model, inputs, labels, 2, generator, crop, jitter)
    return _redundancy(found.embeddings, redundancy) + found.probe


@unmixed
def _redundancy(z: Tensor, weight: float) -> Tensor:
    """Return the loss of embeddings z (2 n, width), the two views of an image in consecutive rows."""
    one, other = (_scored(view) for view in (z[::2], z[1::2]))
    correlation = one.T @ other / len(one)
    own = torch.diagonal(correlation)
    return (1 - own).square().sum() + weight * (correlation.square().sum() - own.square().sum())


def _scored(z: Tensor) -> Tensor:
    return (z - z.mean(0)) / (z.var(0, correction=0) + _LEAST).sqrt()
