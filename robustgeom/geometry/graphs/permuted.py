"""What chance makes of responses that have nothing to do with each other."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike

from robustgeom.geometry._arrays import as_matrix
from robustgeom.geometry._random import seeded
from robustgeom.geometry.graphs._door import Matrix

__all__ = ["permuted"]


def permuted(responses: ArrayLike, *, generator: torch.Generator | None = None) -> Matrix:
    """Return responses (images, units) with each unit's images in a random order of its own.

    Every unit responds as much and as often, and none with another but by chance. Drawn from `generator` (default: a
    fresh one seeded with 0).

    >>> permuted(np.arange(6.0).reshape(3, 2)).sum(0).tolist()
    [6.0, 9.0]
    """
    x, source = as_matrix(np.asarray(responses), "responses"), seeded(generator)
    drawn = torch.rand(x.shape, generator=source, device=source.device, dtype=torch.float64).cpu().numpy()
    found: Matrix = np.take_along_axis(x, drawn.argsort(axis=0), axis=0)
    return found
