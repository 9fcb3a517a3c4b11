"""Statistics of a teacher's logits on training images."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import one_hot

__all__ = ["class_means"]


def class_means(reference: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean logits (classes, classes) of each predicted class, and whether it is predicted at all: (classes,).

    >>> import torch
    >>> means, seen = class_means(torch.tensor([[2.0, 0.0], [4.0, 0.0]]))
    >>> means[0].tolist(), seen.tolist()
    ([3.0, 0.0], [True, False])
    """
    member = one_hot(reference.argmax(1), reference.shape[1]).to(reference.dtype)
    counts = member.sum(0)
    return member.T @ reference / counts.clamp_min(1)[:, None], counts > 0
