"""Draws from a Gaussian fitted to each class's logits in place of each sample's own."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from robustgeom.errors import InputError
from robustgeom.training.manipulations._fitted import class_means, class_roots

__all__ = ["class_gaussian"]


def class_gaussian(
    logits: Tensor, *, reference: Tensor, generator: Generator, diagonal: bool = False
) -> Tensor:
    """Return, for logits (n, classes), draws from the Gaussian of the `reference` logits of the same predicted class.

    First and second moments are kept, and what they have to do with the sample is gone. reference: the teacher's logits
    (m, classes) on training images; with `diagonal`, classes are drawn on their own. A class that is predicted for
    fewer than two of them keeps its own logits. Raises `InputError` where diagonal is neither true nor false.

    >>> z = torch.tensor([[9.0, 0.0]])
    >>> class_gaussian(z, reference=torch.tensor([[2.0, 0.0], [2.0, 0.0]]), generator=Generator()).tolist()
    [[2.0, 0.0]]
    """
    if not isinstance(diagonal, bool):
        raise InputError("diagonal true or false", got=repr(diagonal), fix="diagonal=true")
    means, roots = class_means(reference)[0], class_roots(reference)
    noise = torch.randn(logits.shape, generator=generator, device=logits.device, dtype=logits.dtype)
    found, predicted = logits.clone(), logits.argmax(1)
    for label, root in enumerate(roots):
        rows = predicted == label
        if root is not None and rows.any():
            found[rows] = means[label] + noise[rows] @ root[diagonal].to(logits.dtype)
    return found
