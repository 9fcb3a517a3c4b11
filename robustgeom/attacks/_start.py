"""Random draws for attacks: from one generator for the batch, or from one per row.

Per-row generators make an attack independent of batch size and of the other rows. Some attacks also draw moves
that all rows share; `RowGenerators` carries a generator for those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from robustgeom.threat import ThreatModel, per_row, project

__all__ = ["Randomness", "RowGenerators", "draw", "random_start", "select", "shared", "surface_start"]

Randomness = Generator | Sequence[Generator] | None


class RowGenerators(list[Generator]):
    """One generator a row, and `shared` for the moves that all rows make together."""

    def __init__(self, rows: Sequence[Generator], shared: Generator) -> None:
        super().__init__(rows)
        self.shared = shared


def resolve(generator: Randomness) -> Generator | Sequence[Generator]:
    """Return the generator, or one seeded with 0 where none is given."""
    return Generator().manual_seed(0) if generator is None else generator


def shared(generator: Randomness) -> Generator:
    """Return the generator of moves that all rows share; a plain list of generators has one seeded with 0."""
    if isinstance(generator, Generator):
        return generator
    found: Generator = getattr(generator, "shared", None) or Generator().manual_seed(0)
    return found


def draw(sampler: Callable[..., Tensor], like: Tensor, generator: Randomness) -> Tensor:
    """Return `sampler` draws shaped like the inputs (n, ...); no generator means one seeded with 0."""
    generator = resolve(generator)
    if isinstance(generator, Generator):
        return sampler(like.shape, generator=generator, dtype=like.dtype).to(like.device)
    rows = [sampler(like.shape[1:], generator=g, dtype=like.dtype) for g in generator]
    return torch.stack(rows).to(like.device) if rows else torch.empty_like(like)


def random_start(origins: Tensor, threat: ThreatModel, generator: Randomness) -> Tensor:
    """Return points (n, ...) drawn uniformly from the ball around each origin, then brought into the domain."""
    generator = resolve(generator)
    if threat.norm == "linf":
        offset = (2 * draw(torch.rand, origins, generator) - 1) * threat.radii(origins)
    elif threat.norm == "l2":
        offset = _in_ball(draw(torch.randn, origins, generator), origins, threat, generator, order=2)
    else:
        offset = _in_ball(_laplace(origins, generator), origins, threat, generator, order=1)
    return project(origins + offset, origins, threat)


def surface_start(origins: Tensor, threat: ThreatModel, generator: Randomness) -> Tensor:
    """Return random points (n, ...) on the ball's surface, then cut to the domain: how AutoAttack starts.

    In l1 they are the projections of Gaussian points.
    """
    low, high = threat.domain
    if threat.norm == "l1":
        return project(origins + draw(torch.randn, origins, generator), origins, threat)
    if threat.norm == "linf":
        direction = 2 * draw(torch.rand, origins, generator) - 1
        size = direction.flatten(1).abs().amax(1)
    else:
        direction = draw(torch.randn, origins, generator)
        size = torch.linalg.vector_norm(direction.flatten(1), dim=1)
    unit = direction / per_row(size.clamp_min(torch.finfo(size.dtype).tiny), origins)
    return (origins + threat.radii(origins) * unit).clamp(low, high)


def _laplace(origins: Tensor, generator: Randomness) -> Tensor:
    uniform = draw(torch.rand, origins, generator) - 0.5
    tiny = torch.finfo(origins.dtype).tiny
    return -uniform.sign() * torch.log((1 - 2 * uniform.abs()).clamp_min(tiny))


def _in_ball(
    direction: Tensor, origins: Tensor, threat: ThreatModel, generator: Randomness, *, order: int
) -> Tensor:
    flat = direction.flatten(1)
    unit = flat / torch.linalg.vector_norm(flat, ord=order, dim=1, keepdim=True).clamp_min(1e-12)
    level = draw(torch.rand, origins.flatten(1)[:, :1], generator)
    share = level ** (1 / max(math.prod(origins.shape[1:]), 1))
    offset: Tensor = (unit * share).view_as(origins) * threat.radii(origins)
    return offset


def select(generator: Randomness, rows: Tensor) -> Randomness:
    """Return the generators of `rows` (n,) where there is one per row, else the generator itself."""
    if generator is None or isinstance(generator, Generator):
        return generator
    return RowGenerators([generator[row] for row in rows.tolist()], shared(generator))
