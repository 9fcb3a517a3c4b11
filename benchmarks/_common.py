"""What the benchmarks share: the samples, CPU time, and a model that counts its passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from statistics import median
from time import process_time

import torch
from torch import Tensor, nn

import robustgeom as rg
from robustgeom.harness.engine import engine

MODELS = ("fmnist-cnn-standard", "fmnist-cnn-pgd-at")
EPS = 0.1


class Counted(nn.Module):
    """A network that counts the rows it serves: forward, and forward with a gradient asked for; and its batches."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.forward_rows, self.backward_rows = inner, 0, 0
        self.batches: Counter[tuple[int, bool]] = Counter()

    def forward(self, x: Tensor) -> Tensor:
        slope = x.requires_grad and torch.is_grad_enabled()
        self.forward_rows += len(x)
        self.backward_rows += len(x) * slope
        self.batches[len(x), slope] += 1
        return self.inner(x)


def unseen(count: int) -> rg.Dataset:
    """Return the first test images that are not in the shipped subset."""
    shipped = set(rg.load_dataset("fashion-mnist", split="eval").ids)
    test = rg.load_dataset("fashion-mnist", split="test")
    rows = [i for i, sample in enumerate(test.ids) if sample not in shipped][:count]
    return test.take(torch.tensor(rows))


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """Return CPU seconds, the median over repeats."""
    times = []
    for _ in range(repeats):
        began = process_time()
        work()
        times.append(process_time() - began)
    return median(times)


def bare(model: nn.Module, x: Tensor, repeats: int = 5, batch: int = 128) -> tuple[float, float]:
    """Return CPU seconds a row of a forward pass, and of a forward and backward pass to the input, no more.

    Over all of `x` in batches, as an attack meets them, not over one batch that stays in the cache.
    """
    frozen, _ = engine(model, x)

    def forward() -> None:
        with torch.no_grad():
            for part in x.split(batch):
                frozen(part)

    def both() -> None:
        for part in x.split(batch):
            leaf = part.clone().requires_grad_(True)
            torch.autograd.grad(frozen(leaf).sum(), leaf)

    forward()
    both()
    return seconds(forward, repeats) / len(x), seconds(both, repeats) / len(x)


def floor(passes: tuple[float, float], cost: tuple[float, float]) -> float:
    """Return the bare CPU seconds of counted (forward, backward) rows; a backward pass brings its own forward."""
    forward, backward = passes
    return (forward - backward) * cost[0] + backward * cost[1]


def floor_in_batches(model: nn.Module, x: Tensor, batches: Mapping[tuple[int, bool], int]) -> float:
    """Return the bare CPU seconds of the very batches that were asked for, small ones at small batches' speed."""
    cost = {size: bare(model, x[: 4 * size], repeats=5, batch=size) for size in {n for n, _ in batches}}
    return sum(count * n * cost[n][slope] for (n, slope), count in batches.items())
