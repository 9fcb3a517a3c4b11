"""The other classes in a wrong order."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from robustgeom.errors import unknown
from robustgeom.training.manipulations._rows import without_top

__all__ = ["permute_rest"]

_PER = ("class", "sample")


def permute_rest(logits: Tensor, *, generator: Generator, per: str = "class", seed: int = 0) -> Tensor:
    """Return logits (n, classes) with the largest in its place and the others permuted: all values are kept.

    per: class, one permutation for each predicted class, drawn from `seed` and always the same, so that a student can
    learn the wrong order; none of the others stays where it is. sample: one a row, drawn from `generator` each time,
    which on average tells a student as much as `uniform_rest` does. Raises `UnknownNameError`.

    >>> z = torch.tensor([[4.0, 2.0, 1.0]])
    >>> permute_rest(z, generator=Generator()).tolist()
    [[4.0, 1.0, 2.0]]
    """
    if per not in _PER:
        raise unknown("permutation per", per, _PER)
    rest = without_top(logits)
    n, left = rest.shape
    if per == "sample":
        order = torch.rand(n, left, generator=generator, device=logits.device).argsort(dim=1)
    else:
        order = _fixed(logits.shape[1], left, seed).to(logits.device)[logits.argmax(1)]
    return logits.scatter(1, rest, logits.gather(1, rest.gather(1, order)))


def _fixed(classes: int, left: int, seed: int) -> Tensor:
    """Return a permutation (classes, left) without fixed points for each predicted class."""
    generator = Generator().manual_seed(seed)
    if left < 2:
        return torch.zeros(classes, left, dtype=torch.long)
    rows = []
    for _ in range(classes):
        cycle = torch.randperm(left, generator=generator)  # one cycle through all moves each of them
        rows.append(torch.empty_like(cycle).scatter(0, cycle, cycle.roll(1)))
    return torch.stack(rows)
