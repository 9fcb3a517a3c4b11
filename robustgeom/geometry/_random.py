"""Random draws from an explicit torch generator; without one, from a fresh generator seeded with 0."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from robustgeom.geometry._arrays import Matrix

__all__ = ["draw_normal", "draw_order", "seeded"]


def seeded(generator: torch.Generator | None) -> torch.Generator:
    """Return `generator`, or a fresh one seeded with 0."""
    return torch.Generator().manual_seed(0) if generator is None else generator


def draw_order(count: int, generator: torch.Generator) -> NDArray[np.int64]:
    """Return 0..count-1 in random order."""
    drawn = torch.randperm(count, generator=generator, device=generator.device)
    return np.asarray(drawn.cpu().numpy(), dtype=np.int64)


def draw_normal(rows: int, columns: int, generator: torch.Generator) -> Matrix:
    """Return standard Gaussian numbers (rows, columns)."""
    drawn = torch.randn(rows, columns, generator=generator, device=generator.device, dtype=torch.float64)
    return np.asarray(drawn.cpu().numpy(), dtype=np.float64)
