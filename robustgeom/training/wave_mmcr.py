"""Maximum manifold capacity over time: the frames of a clip are the points of one manifold."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.linalg import svdvals

from robustgeom.training._door import sizes
from robustgeom.training._probed import embedded_frames, unmixed

__all__ = ["wave_mmcr"]


def wave_mmcr(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    generator: Generator,
    lmbda: float = 0.1,
    pairs: bool = False,
) -> Tensor:
    """Return minus the nuclear norm of waves' mean embeddings, without units (arXiv:2312.02791), without labels.

    inputs: clips (n, t, h, w) in [0, 1], frames in order; labels (n,) say which clips are of one wave. Added is `lmbda`
    times a mean over waves: of the nuclear norm of a wave's embeddings, or, with `pairs`, of minus the mean over its
    frames of the dot product with the frame that it is paired with, first with second, third with fourth (0 for one
    left over). Raises `InputError` on other networks than `self_supervised` and on settings that mean nothing.

    >>> from robustgeom.models.self_supervised import SelfSupervised
    >>> model, data = SelfSupervised(base="pooled_cnn"), (torch.rand(2, 4, 28, 28), torch.tensor([0, 1]))
    >>> wave_mmcr(model, *data, generator=Generator().manual_seed(0)).shape
    torch.Size([])
    """
    del generator
    sizes(lmbda=lmbda)
    z, _, waves = embedded_frames(model, inputs, labels)
    return _capacity_loss(z, waves, lmbda=lmbda, pairs=pairs)


@unmixed
def _capacity_loss(z: Tensor, waves: Tensor, *, lmbda: float, pairs: bool) -> Tensor:
    """Return the loss of embeddings z (rows, width) of length 1, of `waves` (rows,)."""
    each = [z[waves == wave] for wave in torch.unique(waves)]
    loss: Tensor = -svdvals(torch.stack([frames.mean(0) for frames in each])).sum()
    local = _apart if pairs else _size
    return loss + lmbda * torch.stack([local(frames) for frames in each]).mean() if lmbda else loss


def _size(frames: Tensor) -> Tensor:
    found: Tensor = svdvals(frames).sum()
    return found


def _apart(frames: Tensor) -> Tensor:
    """Return minus the mean over frames (k, width) of the dot product with their partner."""
    even = len(frames) // 2 * 2
    return -2 * (frames[:even:2] * frames[1:even:2]).sum() / len(frames)
