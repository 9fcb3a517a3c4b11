"""Draws from a Gaussian fitted to each class's logits in place of each sample's own."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from robustgeom.training.manipulations._fitted import class_means

__all__ = ["class_gaussian"]


def class_gaussian(
    logits: Tensor, *, reference: Tensor, generator: Generator, diagonal: bool = False
) -> Tensor:
    """Return, for logits (n, classes), draws from the Gaussian of the `reference` logits of the same predicted class.

    First and second moments are kept, and what they have to do with the sample is gone. reference: the teacher's logits
    (m, classes) on training images; with `diagonal`, classes are drawn on their own. A class that is predicted for
    fewer than two of them keeps its own logits.

    >>> z = torch.tensor([[9.0, 0.0]])
    >>> class_gaussian(z, reference=torch.tensor([[2.0, 0.0], [2.0, 0.0]]), generator=Generator()).tolist()
    [[2.0, 0.0]]
    """
    means, _ = class_means(reference)
    noise = torch.randn(logits.shape, generator=generator, device=logits.device, dtype=logits.dtype)
    found, predicted, known = logits.clone(), logits.argmax(1), reference.argmax(1)
    for label in predicted.unique().tolist():  # type: ignore[no-untyped-call]
        members = reference[known == label] - means[label]
        if len(members) >= 2:
            rows = predicted == label
            found[rows] = means[label] + noise[rows] @ _root(members, diagonal).to(logits.dtype)
    return found


def _root(deviations: Tensor, diagonal: bool) -> Tensor:
    """Return a symmetric square root (classes, classes) of the covariance of rows (m, classes) around 0."""
    covariance = deviations.double().T @ deviations.double() / (len(deviations) - 1)
    if diagonal:
        return covariance.diagonal().sqrt().diag()
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp_min(0).sqrt() @ vectors.T
    return root
