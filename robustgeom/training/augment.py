"""Random flips and shifts of images, and shifts of waveforms."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from robustgeom.training.recipe import Augmentation

__all__ = ["augment"]


def augment(images: Tensor, settings: Augmentation, generator: Generator) -> Tensor:
    """Return images (n, c, h, w), each flipped or not and shifted by whole pixels (zeros come in).

    Waveforms (n, t) are shifted by whole samples and played up to `stretch` faster or slower, which raises or lowers
    voices, by linear interpolation; they know no flip. The generator is on the images' device.

    >>> augment(torch.ones(2, 1, 4, 4), Augmentation(flip=True, shift=0), Generator()).min().item()
    1.0
    """
    device = images.device
    if images.dim() == 2:
        return _delayed(images, settings, generator) if settings.shift or settings.stretch else images
    if settings.flip:
        flipped = torch.rand(len(images), generator=generator, device=device) < 0.5
        images = torch.where(flipped.view(-1, 1, 1, 1), images.flip(3), images)
    if settings.shift:
        n, c, h, w = images.shape
        padded = nn.functional.pad(images, [settings.shift] * 4)
        dy, dx = torch.randint(0, 2 * settings.shift + 1, (2, n), generator=generator, device=device)
        image, channel, row, column = (torch.arange(k, device=device) for k in (n, c, h, w))
        rows = (dy[:, None] + row).view(n, 1, h, 1)
        columns = (dx[:, None] + column).view(n, 1, 1, w)
        images = padded[image.view(n, 1, 1, 1), channel.view(1, c, 1, 1), rows, columns]
    return images


def _delayed(waves: Tensor, settings: Augmentation, generator: Generator) -> Tensor:
    """Return waves (n, t), each played faster or slower around its middle and delayed; zeros come in."""
    n, t = waves.shape
    device, most = waves.device, settings.shift
    starts = torch.randint(0, 2 * most + 1, (n, 1), generator=generator, device=device) - most
    pace = 1 + settings.stretch * (2 * torch.rand((n, 1), generator=generator, device=device) - 1)
    middle = (t - 1) / 2
    places = (torch.arange(t, device=device) - middle) * pace + middle + starts
    below = places.floor().clamp(-1, t).long()
    padded = nn.functional.pad(waves, (1, 2))
    first, second = padded.gather(1, below + 1), padded.gather(1, below + 2)
    return torch.lerp(first, second, (places - below).clamp(0, 1))
