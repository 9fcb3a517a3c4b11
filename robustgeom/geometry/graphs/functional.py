"""The functional graph of units: which respond alike over images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from robustgeom.errors import InputError
from robustgeom.geometry._arrays import as_matrix
from robustgeom.geometry.graphs._door import Labels, Matrix

__all__ = ["FunctionalGraph", "functional_graph"]

_STILL = 1e-6  # of the largest response: what single precision leaves of a unit that does nothing


@dataclass(frozen=True)
class FunctionalGraph:
    """Correlations (n, n) of `units`, the columns that respond at all; `weights` are their absolute values."""

    correlations: Matrix
    units: Labels

    @property
    def weights(self) -> Matrix:
        """Absolute correlations, in [0, 1], 0 on the diagonal."""
        return np.abs(self.correlations)


def functional_graph(responses: ArrayLike, *, groups: ArrayLike | None = None) -> FunctionalGraph:
    """Return the graph of units whose edges are Pearson correlations of their responses over images.

    responses: (images, units), any units. groups: the class of each image (images,); with it what is correlated is the
    rest after each class's mean response, which the signal that both carry is not in. Units that always respond alike
    are left out. Correlations are symmetric to the last digit and 0 on the diagonal. Raises `InputError` on fewer than
    three images, on fewer than two units that respond, and on numbers that are not finite. That networks of neurons be
    read so is asked for by Barabasi et al. 2023, arXiv:2305.06160.

    >>> x = np.array([[1.0, 2.0, 0.0, 3.0], [2.0, 4.0, 0.0, 2.0], [3.0, 6.0, 0.0, 1.0]])
    >>> found = functional_graph(x)
    >>> found.units.tolist(), found.correlations[0].round(6).tolist()
    ([0, 1, 3], [0.0, 1.0, -1.0])
    """
    x = as_matrix(np.asarray(responses), "responses")
    if len(x) < 3:
        raise InputError("three images or more", got=str(len(x)), fix="more images")
    largest = np.maximum(np.abs(x).max(axis=0), np.finfo(np.float64).tiny)
    x = x if groups is None else _rest(x, np.asarray(groups))
    units = np.flatnonzero(x.std(axis=0) > _STILL * largest)
    if len(units) < 2:
        raise InputError("two units or more that respond", got=str(len(units)), fix="another stage")
    scored = x[:, units] - x[:, units].mean(axis=0)
    scored /= np.sqrt(np.square(scored).sum(axis=0))
    raw = np.clip(scored.T @ scored, -1, 1)
    both: Matrix = (raw + raw.T) / 2
    np.fill_diagonal(both, 0.0)
    return FunctionalGraph(both, units)


def _rest(x: Matrix, groups: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Matrix:
    if groups.shape != (len(x),):
        raise InputError(f"a group for each of {len(x)} images", got=f"shape {groups.shape}", fix="labels")
    found = x.copy()
    for group in np.unique(groups):
        found[groups == group] -= x[groups == group].mean(axis=0)
    return found
