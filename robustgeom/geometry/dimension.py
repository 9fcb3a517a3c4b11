"""Linear dimensions of a cloud of points, from the eigenvalues of its covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robustgeom.errors import InputError
from robustgeom.geometry._arrays import DUST, Matrix, MatrixLike
from robustgeom.geometry._spectra import as_centered, eigenvalues, participation

__all__ = [
    "SpectrumExponent",
    "covariance_spectrum",
    "explained_variance_dimension",
    "participation_ratio",
    "spectrum_exponent",
]

FEWEST = 3  # eigenvalues, for a slope with an error


@dataclass(frozen=True)
class SpectrumExponent:
    """Decay of the eigenvalues as n^-exponent over the ranks `first` to `last`, counted from 1.

    `standard_error` is that of the fitted line alone: neighbouring eigenvalues are not independent, and the
    bend that finite data give the spectrum is not in it.
    """

    exponent: float
    standard_error: float
    first: int
    last: int


def covariance_spectrum(points: MatrixLike) -> Matrix:
    """Return the eigenvalues of the points' covariance (divided by the count of points), descending.

    points: (points, features), array or tensor; the result has min(points, features) entries in squared
    units of a feature. Raises `InputError` where a number is not finite or all points are equal.

    >>> covariance_spectrum(np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])).tolist()
    [4.5, 0.5]
    """
    return eigenvalues(as_centered(points, "points"))


def participation_ratio(points: MatrixLike) -> float:
    """Count the directions that carry the variance: squared sum of the eigenvalues over the sum of squares.

    points: (points, features), array or tensor; the result has no unit and is in [1, min(points - 1,
    features)]. Raises `InputError` where a number is not finite or all points are equal.
    Source: Abbott, Rajan and Sompolinsky, "Interactions between intrinsic and stimulus-evoked activity in
    recurrent neural networks" (2011).

    >>> round(participation_ratio(np.vstack([np.eye(3), -np.eye(3)])), 12)
    3.0
    """
    return participation(covariance_spectrum(points))


def explained_variance_dimension(points: MatrixLike, share: float = 0.9, *, reference: bool = False) -> int:
    """Count the leading principal directions that together hold `share` of the variance.

    points: (points, features), array or tensor; share: in (0, 1]. `reference` counts as the reference code
    of the mean-field theory does, for comparison with published numbers: each point loses its mean over
    features too, and the direction that crosses the share is left out, so the count may be 0.
    Raises `InputError` where a number is not finite, all points are equal, or share is outside (0, 1].
    Source: Cohen, Chung, Lee and Sompolinsky, "Separability and geometry of object manifolds" (2020).

    >>> line = np.outer(np.arange(10.0), [1.0, 2.0, 3.0])
    >>> explained_variance_dimension(line), explained_variance_dimension(line, reference=True)
    (1, 0)
    """
    if not 0 < share <= 1:
        raise InputError("a share in (0, 1]", got=str(share), fix="share=0.9")
    centered = as_centered(points, "points")
    if reference:
        across = centered - centered.mean(axis=1, keepdims=True)
        flat = np.abs(across).max() <= DUST * np.abs(centered).max()
        return 0 if flat else int(np.sum(_cumulative(across) <= share))
    return 1 + int(np.sum(_cumulative(centered) < share - DUST))


def spectrum_exponent(points: MatrixLike, *, first: int = 10, last: int | None = None) -> SpectrumExponent:
    """Fit the power law n^-exponent to the covariance eigenvalues from rank `first` to rank `last`.

    points: (points, features), array or tensor; ranks count from 1 and both ends belong to the fit, a line
    through the logarithms with equal weights. Default of `last`: half of the eigenvalues above rounding,
    since few points make the tail fall too fast. The result has no unit.
    Raises `InputError` where a number is not finite, all points are equal, or fewer than 3 eigenvalues above
    rounding are in the range.
    Source: Stringer et al., "High-dimensional geometry of population responses in visual cortex" (2019).

    >>> axes = np.sqrt(1.0 / np.arange(1, 41)) * np.eye(40)
    >>> found = spectrum_exponent(np.vstack([axes, -axes]))
    >>> round(found.exponent, 6), found.first, found.last
    (1.0, 10, 20)
    """
    spectrum = covariance_spectrum(points)
    usable = int(np.sum(spectrum > DUST * spectrum[0]))
    end = usable // 2 if last is None else last
    if first < 1 or end > usable or end - first + 1 < FEWEST:
        got = f"ranks {first} to {end} of {usable}"
        raise InputError(f"{FEWEST} eigenvalues or more to fit", got=got, fix=f"first=1, last={usable}")
    ranks = np.log(np.arange(first, end + 1))
    slope, error = _slope(ranks, np.log(spectrum[first - 1 : end]))
    return SpectrumExponent(-slope, error, first, end)


def _cumulative(rows: Matrix) -> Matrix:
    spectrum = eigenvalues(rows)
    return np.asarray(np.cumsum(spectrum) / spectrum.sum(), dtype=np.float64)


def _slope(x: Matrix, y: Matrix) -> tuple[float, float]:
    across = x - x.mean()
    spread = float(across @ across)
    slope = float(across @ y) / spread
    residual = y - y.mean() - slope * across
    return slope, float(np.sqrt(residual @ residual / (len(x) - 2) / spread))
