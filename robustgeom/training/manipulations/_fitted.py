"""Statistics of a teacher's logits on training images, each taken once."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from functools import wraps
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.weak import WeakIdKeyDictionary

from robustgeom.logits.confidence import confidence
from robustgeom.logits.logit_gap import logit_gap

__all__ = ["class_means", "class_roots", "mean_confidence", "mean_gap", "mean_probabilities", "sorted_gaps"]

Found = TypeVar("Found")


def _once(statistic: Callable[[Tensor], Found]) -> Callable[[Tensor], Found]:
    """Return the statistic with a memory: a training run asks for it in every step, of the same tensor."""
    known: MutableMapping[Tensor, tuple[int, Found]] = WeakIdKeyDictionary()

    @wraps(statistic)
    def remembered(reference: Tensor) -> Found:
        version = reference._version  # torch counts what is written into a tensor
        if reference not in known or known[reference][0] != version:
            known[reference] = version, statistic(reference)
        return known[reference][1]

    return remembered


@_once
def class_means(reference: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean logits (classes, classes) of each predicted class, and whether it is predicted at all: (classes,).

    >>> means, seen = class_means(torch.tensor([[2.0, 0.0], [4.0, 0.0]]))
    >>> means[0].tolist(), seen.tolist()
    ([3.0, 0.0], [True, False])
    """
    member = one_hot(reference.argmax(1), reference.shape[1]).to(reference.dtype)
    counts = member.sum(0)
    return member.T @ reference / counts.clamp_min(1)[:, None], counts > 0


@_once
def class_roots(reference: Tensor) -> list[tuple[Tensor, Tensor] | None]:
    """Return, for each predicted class, symmetric square roots (classes, classes) of the logits' covariance.

    The second of each pair is that of its diagonal alone; None stands for a class that is predicted for fewer than two.
    """
    means, predicted = class_means(reference)[0], reference.argmax(1)
    members = [reference[predicted == k] - means[k] for k in range(reference.shape[1])]
    return [_roots(m.double()) if len(m) >= 2 else None for m in members]


def _roots(deviations: Tensor) -> tuple[Tensor, Tensor]:
    covariance = deviations.T @ deviations / (len(deviations) - 1)
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp_min(0).sqrt() @ vectors.T
    return root, covariance.diagonal().sqrt().diag()


@_once
def mean_confidence(reference: Tensor) -> float:
    """Return the mean largest probability."""
    return float(confidence(reference).mean())


@_once
def mean_gap(reference: Tensor) -> Tensor:
    """Return the mean gap between the two largest logits: ()."""
    return logit_gap(reference).mean()


@_once
def mean_probabilities(reference: Tensor) -> Tensor:
    """Return the mean of sorted probabilities, the largest first: (classes,)."""
    return reference.softmax(1).sort(dim=1, descending=True).values.mean(0)


@_once
def sorted_gaps(reference: Tensor) -> Tensor:
    """Return gaps between the two largest logits, ascending: (n,)."""
    return logit_gap(reference).sort().values
