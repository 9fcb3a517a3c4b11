"""Contrast over time: a frame of a wave must be told, by what comes right before and after, from other waves."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from robustgeom.errors import InputError
from robustgeom.training._door import counts, temperatures
from robustgeom.training._probed import embedded_frames, unmixed

__all__ = ["wave_contrast"]


def wave_contrast(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    generator: Generator,
    separation: int = 1,
    temperature: float = 0.5,
    chopped: bool = True,
) -> Tensor:
    """Return the contrastive loss over frames in nats of Ligeralde et al. 2023 (arXiv:2312.02791), without labels.

    inputs: clips (n, t, h, w) in [0, 1], frames in order; labels (n,) say which clips are of one wave. Mean over frames
    of -log of two sums' ratio, of exp(cosine / temperature): over the frames of its clip `separation` before and after,
    and over all frames of other waves. Not `chopped`: over all other frames of its wave, and over all other frames.
    A batch of one wave has loss 0. Raises `InputError` on other networks than `self_supervised`, on settings that mean
    nothing and on clips of `separation` frames or fewer.

    >>> from robustgeom.models.self_supervised import SelfSupervised
    >>> model, data = SelfSupervised(base="pooled_cnn"), (torch.rand(2, 4, 28, 28), torch.tensor([0, 1]))
    >>> wave_contrast(model, *data, generator=Generator().manual_seed(0)).shape
    torch.Size([])
    """
    del generator
    counts(separation=separation)
    temperatures(temperature=temperature)
    return _contrast(
        *embedded_frames(model, inputs, labels),
        separation=separation,
        temperature=temperature,
        chopped=chopped,
    )


@unmixed
def _contrast(
    z: Tensor, clips: Tensor, waves: Tensor, *, separation: int, temperature: float, chopped: bool
) -> Tensor:
    """Return the loss of embeddings z (rows, width) of length 1 of frames in order, of `clips` and `waves` (rows,)."""
    alike, row = z @ z.T / temperature, torch.arange(len(z), device=z.device)
    apart, one_wave = (row[:, None] - row).abs(), waves[:, None] == waves
    positive = (clips[:, None] == clips) & (apart == separation) if chopped else one_wave & (apart > 0)
    negative = ~one_wave if chopped else apart > 0
    if not positive.any():
        got = f"clips of {len(z) // len(torch.unique(clips))}"
        raise InputError(f"clips of more than {separation} frames", got=got, fix="a smaller separation")
    anchors = positive.any(1) & negative.any(1)
    if not anchors.any():  # one wave, as a last batch may have it: nothing to tell it from
        return 0 * z.sum()
    near, far = (_summed(alike[anchors], pairs[anchors]) for pairs in (positive, negative))
    return (far - near).mean()


def _summed(alike: Tensor, pairs: Tensor) -> Tensor:
    """Return the log of each row's sum of exponentials over its pairs."""
    return alike.masked_fill(~pairs, -torch.inf).logsumexp(1)
