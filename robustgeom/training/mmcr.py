"""Maximum manifold capacity representations: the views of an image close together, the images far apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.linalg import svdvals

from robustgeom.training._door import counts, shares, sizes
from robustgeom.training._probed import embedded, full, unmixed

__all__ = ["capacity_loss", "mmcr"]

_KEPT = "momentum."


def mmcr(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    generator: Generator,
    memory: dict[str, Tensor],
    views: int = 4,
    crop: float = 0.3,
    jitter: float = 0.4,
    lmbda: float = 0.0,
    momentum: float = 0.0,
) -> Tensor:
    """Return the loss of maximum manifold capacity, and a linear probe's cross-entropy in nats (arXiv:2303.03307).

    inputs: images (n, c, h, w) in [0, 1], of which `views` are made each (see `views`); labels (n,) reach the probe
    alone, whose slope ends at the features. With embeddings of length 1, Z_b (views, width) those of image b, and C
    (n, width) their means: lmbda / n times the sum of the nuclear norms of all Z_b, minus that of C, which is at most
    the root of n times the smaller of n and width. With `momentum` above 0 the means are those of the network and of a
    second one, which follows its weights at 1 - momentum a step (0.99 in the source), in `memory`. Raises `InputError`
    on other networks than `self_supervised` and on settings that mean nothing.

    >>> from robustgeom.models.self_supervised import SelfSupervised
    >>> model, data = SelfSupervised(base="pooled_cnn"), (torch.rand(4, 1, 28, 28), torch.zeros(4, dtype=torch.long))
    >>> mmcr(model, *data, generator=Generator().manual_seed(0), memory={}).shape
    torch.Size([])
    """
    counts(views=views)
    sizes(lmbda=lmbda)
    shares(momentum=momentum)
    found = embedded(model, inputs, labels, views, generator, crop, jitter)
    other = None
    if momentum:
        other = _followed(model, found.views, memory, momentum)
    return capacity_loss(found.embeddings, views, lmbda, other) + found.probe


@unmixed
def capacity_loss(z: Tensor, views: int, lmbda: float = 0.0, other: Tensor | None = None) -> Tensor:
    """Return the loss of embeddings z (n views, width), and `other` ones of the same views, of any length.

    >>> capacity_loss(torch.eye(3).repeat_interleave(2, 0), 2)
    tensor(-3.)
    """
    groups = F.normalize(z, dim=1).view(-1, views, z.shape[1])
    means = groups.mean(1)
    if other is not None:
        means = (means + F.normalize(full(other), dim=1).view_as(groups).mean(1)) / 2
        means = means[means.isfinite().all(1)]
    loss: Tensor = -svdvals(means).sum()
    return loss + lmbda * svdvals(groups).sum() / len(groups) if lmbda else loss


class _Embedding(nn.Module):
    """Embedding as a module's forward pass."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.network.embed(x)  # type: ignore[operator]
        return found


@torch.no_grad()
def _followed(network: nn.Module, seen: Tensor, memory: dict[str, Tensor], momentum: float) -> Tensor:
    """Move the second network, kept in memory, towards the first, and return its embeddings.

    Weights alone are averaged; batch norm goes by the statistics of the batch, and by copies of its running ones.
    """
    whole = _Embedding(network)
    for name, value in whole.named_parameters():
        kept = memory.get(_KEPT + name)
        memory[_KEPT + name] = value.detach().clone() if kept is None else kept.lerp(value, 1 - momentum)
    weights = {name: memory[_KEPT + name] for name, _ in whole.named_parameters()}
    buffers = {name: value.clone() for name, value in whole.named_buffers()}
    found: Tensor = functional_call(whole, {**weights, **buffers}, (seen,))
    return found
