"""Mean-field capacity of points, balls and spheres, in closed form: what measured capacities compare with."""

from __future__ import annotations

import math

import numpy as np
import scipy

from robustgeom.errors import InputError
from robustgeom.geometry._arrays import DUST, REACH, check_margin

__all__ = ["point_capacity", "sphere_capacity"]

TAIL = 9.0  # beyond it from its mode, the length of a Gaussian vector has a density below e^-81
PRECISE = 1e-11
FIX = "lengths in norms of the centre, center_norm=1.0"


def point_capacity(kappa: float = 0.0) -> float:
    """Return how many points per feature, at random in many features, a linear readout separates.

    kappa: margin in norms of a point. The result has no unit; it is 2 without a margin.
    Raises `InputError` where the margin is negative or not finite.
    Source: Cover (1965); Gardner, "The space of interactions in neural network models" (1988).

    >>> point_capacity(), round(point_capacity(kappa=0.5), 6)
    (2.0, 0.961205)
    """
    check_margin(kappa)
    return 1 / _squared_shortfall(kappa)


def sphere_capacity(
    dimension: float,
    radius: float,
    *,
    kappa: float = 0.0,
    axis_correlation: float = 0.0,
    center_correlation: float = 0.0,
    center_norm: float = 1.0,
    large: bool = False,
) -> float:
    """Return how many spheres per feature, or balls, which have the same capacity, a linear readout separates.

    dimension: of the space a sphere spans, 1 (a segment) or more, no unit, whole or not; radius,
    center_norm and the margin kappa: in one unit of length, so the measured radius of
    `mean_field_capacity` goes with center_norm=1; correlations: cosine between corresponding axes, and
    between centres, of two spheres, the same for all pairs, no unit. large: the formula for high dimension
    in place of the exact integral; at kappa=0 it reads up to 4% low from dimension 30 on.
    The result has no unit. Correlations act only as a smaller radius sqrt(1 - axis_correlation) and a
    smaller centre sqrt(1 - center_correlation). The numbers of spheres and of features are infinite.
    Raises `InputError` for a dimension below 1, a radius below 0, a correlation outside [0, 1), a
    center_norm that is not positive, a negative margin, numbers that are not finite, or a dimension,
    radius or margin above 1e6 (lengths over the distance of the centres).
    Source: Chung, Lee and Sompolinsky (2018); Wakhloo, Sussman and Chung (2023) for correlations.

    >>> round(sphere_capacity(3, 1.0), 9)
    0.5
    >>> round(sphere_capacity(3, 2.0, axis_correlation=0.75), 9)
    0.5
    """
    _check(dimension, radius, axis_correlation, center_correlation, center_norm)
    check_margin(kappa)
    distance = center_norm * math.sqrt(1 - center_correlation)
    ratio, margin = radius * math.sqrt(1 - axis_correlation) / distance, kappa / distance
    if max(dimension, ratio, margin) > REACH:
        got = f"{max(dimension, ratio, margin):.1e}"
        raise InputError(f"dimension, radius and kappa up to {REACH:.0e} centres", got=got, fix=FIX)
    return 1 / (_inverse_large if large else _inverse_exact)(dimension, ratio, margin)


def _check(dimension: float, radius: float, axes: float, centers: float, norm: float) -> None:
    fits = {
        "a finite dimension >= 1": (dimension, math.isfinite(dimension) and dimension >= 1),
        "a finite radius >= 0": (radius, math.isfinite(radius) and radius >= 0),
        "an axis_correlation in [0, 1)": (axes, 0 <= axes < 1),
        "a center_correlation in [0, 1)": (centers, 0 <= centers < 1),
        "a finite center_norm > 0": (norm, math.isfinite(norm) and norm > 0),
    }
    for expected, (value, fit) in fits.items():
        if not fit:
            raise InputError(expected, got=str(value), fix=FIX)


def _inverse_exact(dimension: float, ratio: float, kappa: float) -> float:
    """Mean over the length tau of a Gaussian vector of the squared distance at that length."""
    if ratio <= DUST:
        return _squared_shortfall(kappa)
    log_norm = (dimension / 2 - 1) * math.log(2) + scipy.special.gammaln(dimension / 2)

    def weighted(tau: float) -> float:
        density = math.exp((dimension - 1) * math.log(tau) - tau**2 / 2 - log_norm)
        return density * _squared_distance(tau, ratio, kappa)

    mode = math.sqrt(dimension - 1)
    ends = max(mode - TAIL, 0.0), mode + TAIL
    # Where most probes change side, near these lengths, the integrand bends most.
    bends = [b for b in (mode, ratio, 1 / ratio, kappa * ratio) if ends[0] + DUST < b < ends[1]]
    return float(scipy.integrate.quad(weighted, *ends, points=bends, epsabs=0, epsrel=PRECISE, limit=400)[0])


def _squared_distance(tau: float, ratio: float, kappa: float) -> float:
    """Mean over the probe's centre coordinate: it meets the sphere's cone, its apex, or neither."""
    near, far = kappa - tau / ratio, kappa + ratio * tau
    apex = (kappa**2 + tau**2 + 1) * scipy.special.ndtr(near) + (2 * kappa - near) * _density(near)
    beyond = (far**2 + 1) * scipy.special.ndtr(near) + (2 * far - near) * _density(near)
    return float(apex + (_squared_shortfall(far) - beyond) / (1 + ratio**2))


def _inverse_large(dimension: float, ratio: float, kappa: float) -> float:
    """Minimum over u >= 0 of the convex dimension (u - 1)^2 + shortfall; its slope has one root at most."""
    root = math.sqrt(dimension)

    def slope(u: float) -> float:
        return u - 1 + ratio / root * _shortfall(ratio * root * u + kappa)

    u = 0.0 if slope(0.0) >= 0 else float(scipy.optimize.brentq(slope, 0.0, 1.0, xtol=1e-14))
    return dimension * (u - 1) ** 2 + _squared_shortfall(ratio * root * u + kappa)


def _shortfall(c: float) -> float:
    """Mean of max(c - z, 0) for a standard Gaussian z."""
    return float(c * scipy.special.ndtr(c) + _density(c))


def _squared_shortfall(c: float) -> float:
    """Mean of max(c - z, 0)^2 for a standard Gaussian z."""
    return float((1 + c**2) * scipy.special.ndtr(c) + c * _density(c))


def _density(z: float) -> float:
    return float(np.exp(-(z**2) / 2)) / math.sqrt(2 * math.pi)
