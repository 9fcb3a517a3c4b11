"""Random draws for attacks: from one generator for the batch, or from one per row.

Per-row generators make an attack independent of batch size and of the other rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from robustgeom.threat import ThreatModel, project

__all__ = ["Randomness", "draw", "random_start", "select"]

Randomness = Generator | Sequence[Generator] | None


def draw(sampler: Callable[..., Tensor], like: Tensor, generator: Randomness) -> Tensor:
    """Return `sampler` draws shaped like the inputs (n, ...); no generator means one seeded with 0."""
    if generator is None:
        generator = Generator().manual_seed(0)
    if isinstance(generator, Generator):
        return sampler(like.shape, generator=generator, dtype=like.dtype).to(like.device)
    rows = [sampler(like.shape[1:], generator=g, dtype=like.dtype) for g in generator]
    return torch.stack(rows).to(like.device) if rows else torch.empty_like(like)


def random_start(origins: Tensor, threat: ThreatModel, generator: Randomness) -> Tensor:
    """Return points (n, ...) drawn uniformly from the ball around each origin, then clipped to the domain."""
    if threat.norm == "linf":
        offset = (2 * draw(torch.rand, origins, generator) - 1) * threat.eps
    elif threat.norm == "l2":
        offset = _in_ball(draw(torch.randn, origins, generator), origins, threat, generator, order=2)
    else:
        uniform = draw(torch.rand, origins, generator) - 0.5
        tiny = torch.finfo(origins.dtype).tiny
        laplace = -uniform.sign() * torch.log((1 - 2 * uniform.abs()).clamp_min(tiny))
        offset = _in_ball(laplace, origins, threat, generator, order=1)
    return project(origins + offset, origins, threat)


def _in_ball(
    direction: Tensor, origins: Tensor, threat: ThreatModel, generator: Randomness, *, order: int
) -> Tensor:
    flat = direction.flatten(1)
    unit = flat / torch.linalg.vector_norm(flat, ord=order, dim=1, keepdim=True).clamp_min(1e-12)
    level = draw(torch.rand, origins.flatten(1)[:, :1], generator)
    size: Tensor = threat.eps * level ** (1 / max(math.prod(origins.shape[1:]), 1))
    offset: Tensor = unit * size
    return offset.view_as(origins)


def select(generator: Randomness, rows: Tensor) -> Randomness:
    """Return the generators of `rows` (n,) where there is one per row, else the generator itself."""
    if generator is None or isinstance(generator, Generator):
        return generator
    return [generator[row] for row in rows.tolist()]
