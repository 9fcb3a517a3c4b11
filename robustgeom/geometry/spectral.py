"""Spectral theory of linear regression from activations to targets: error, and how its modes share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from robustgeom.geometry._arrays import DUST, Matrix, MatrixLike
from robustgeom.geometry._regression import check_ridge, checked_sizes, paired, principal_modes
from robustgeom.geometry._spectra import participation

__all__ = ["SpectralAlignment", "spectral_alignment"]

MOST = 0.99  # share of variance or power that `spectrum_modes` and `power_modes` reach


@dataclass(frozen=True)
class SpectralAlignment:
    """Modes of the activations, what they hold of the targets, and the predicted errors per training size.

    There are m modes, descending in `eigenvalues` (m,). If the activations leave directions among the P
    samples out, those `null_directions` are the last mode, of eigenvalue 0: how power is split inside them is
    arbitrary, so R_em and D_em are comparable between implementations only with this rule, or without them.
    `weights` (m,) are the alignment powers W, sum 1, and `target_weights` (m, C) their parts per target.

    Per training size, `train_sizes` (s,): effective ridge `kappa` and `gamma` (s,); `mode_errors` E_i (s, m);
    `error` E_g (s,), the expected squared error over all P samples, training ones included, in units of the
    targets' total power; `target_errors` (s, C), its parts; `training_error` (s,); `error_radius` R_em and
    `error_dimension` D_em (s,), with E_g = R_em sqrt(D_em). `kappa` has the eigenvalues' unit.
    """

    eigenvalues: Matrix
    null_directions: int
    weights: Matrix
    target_weights: Matrix
    ridge: float
    train_sizes: NDArray[np.int64]
    kappa: Matrix
    gamma: Matrix
    mode_errors: Matrix
    error: Matrix
    target_errors: Matrix
    training_error: Matrix
    error_radius: Matrix
    error_dimension: Matrix

    @property
    def participation_ratio(self) -> float:
        """Participation ratio of the eigenvalues."""
        return participation(self.eigenvalues)

    @property
    def cumulative_power(self) -> Matrix:
        """Share of the targets' power in the first k modes, (m,)."""
        return np.asarray(np.cumsum(self.weights), dtype=np.float64)

    @property
    def task_dimension(self) -> float:
        """Participation ratio of the power that is left after k modes; 0 where the first mode holds all."""
        left = 1 - self.cumulative_power
        left[left < DUST] = 0
        return participation(left) if left.any() else 0.0

    @property
    def unreachable_power(self) -> float:
        """Share of the targets' power in the null directions: no readout and no sample size removes it."""
        return float(self.weights[-1]) if self.null_directions else 0.0

    @property
    def spectrum_modes(self) -> int:
        """Number of modes that hold 99 % of the variance."""
        return _reaching(self.eigenvalues)

    @property
    def power_modes(self) -> int:
        """Number of modes that hold 99 % of the targets' power."""
        return _reaching(self.weights)

    @property
    def unlearned_dimension(self) -> Matrix:
        """Participation ratio of eigenvalue times mode error per training size, (s,)."""
        return np.array([participation(self.eigenvalues * e) for e in self.mode_errors])

    @property
    def mode_error_dimension(self) -> Matrix:
        """Participation ratio of the mode errors per training size, each null direction counted, (s,)."""
        counts = np.ones(len(self.eigenvalues), dtype=np.int64)
        counts[-1] = max(self.null_directions, 1)
        return np.array([participation(np.repeat(e, counts)) for e in self.mode_errors])


def spectral_alignment(
    X: MatrixLike,
    Y: MatrixLike,
    *,
    train_sizes: Sequence[int] | None = None,
    ridge: float = 1e-14,
    center: bool = True,
) -> SpectralAlignment:
    """Predict the error of ridge regression from X to Y by its spectrum, and split the error into modes.

    X: activations (P, N); Y: targets (P, C), such as one-hot labels, logits or another stage; arrays or
    tensors. train_sizes: numbers p of training samples, 1 <= p < P (default: 5 log-spaced ones in [5, P - 2]
    and the tenths of P). ridge: penalty per training sample, in squared units of X. center: remove the means
    over the P samples first.
    The directions of the samples that X does not span count as one mode. Near p = number of other modes and
    with a small ridge the predicted error diverges, as the real one does.
    Raises `InputError` where row counts differ, a number is not finite, ridge <= 0, a training size does not
    fit, or X or Y is constant (with center=False: zero).
    Source: Canatar, Feather, Wakhloo and Chung, "A spectral theory of neural prediction and alignment" (2023).

    >>> X = np.random.default_rng(0).normal(size=(40, 10))
    >>> found = spectral_alignment(X, X[:, :2], train_sizes=[5, 8])
    >>> bool(np.allclose(found.error, found.error_radius * np.sqrt(found.error_dimension)))
    True
    >>> bool(found.error[1] < found.error[0] < 1), found.null_directions, round(found.unreachable_power, 9)
    (True, 30, 0.0)
    """
    inputs, targets = paired(X, Y, center)
    sizes = checked_sizes(train_sizes, len(inputs))
    check_ridge(ridge)
    spectrum, modes = principal_modes(inputs)
    powers = np.square(modes.T @ targets)
    null = len(inputs) - len(spectrum)
    if null:
        spectrum = np.append(spectrum, 0.0)
        powers = np.vstack([powers, np.square(targets - modes @ (modes.T @ targets)).sum(axis=0)])
    powers /= powers.sum()
    return _errors(spectrum, null, powers, sizes, ridge)


def _errors(
    spectrum: Matrix, null: int, powers: Matrix, sizes: NDArray[np.int64], ridge: float
) -> SpectralAlignment:
    kappa = np.array([_effective_ridge(spectrum, int(p), ridge) for p in sizes])
    scaled = sizes[:, None] * spectrum + kappa[:, None]
    gamma = (sizes[:, None] * np.square(spectrum / scaled)).sum(axis=1)
    mode_errors = np.square(kappa[:, None] / scaled) / (1 - gamma)[:, None]
    weights = powers.sum(axis=1)
    modes_of_error = mode_errors * weights
    error = modes_of_error.sum(axis=1)
    radius = np.linalg.norm(modes_of_error, axis=1)
    return SpectralAlignment(
        eigenvalues=spectrum,
        null_directions=null,
        weights=weights,
        target_weights=powers,
        ridge=ridge,
        train_sizes=sizes,
        kappa=kappa,
        gamma=gamma,
        mode_errors=mode_errors,
        error=error,
        target_errors=mode_errors @ powers,
        training_error=np.square(sizes * ridge / kappa) * error,
        error_radius=radius,
        error_dimension=np.square(error / radius),
    )


def _effective_ridge(spectrum: Matrix, size: int, ridge: float) -> float:
    """The positive root of kappa = p a + kappa sum_i lam_i / (p lam_i + kappa)."""
    penalty = size * ridge

    def excess(kappa: float) -> float:
        return 1 - penalty / kappa - float((spectrum / (size * spectrum + kappa)).sum())

    low, high = penalty, penalty + float(spectrum.sum())
    return float(
        scipy.optimize.brentq(
            excess, low, high, xtol=DUST * penalty, rtol=4 * np.finfo(float).eps, maxiter=1000
        )
    )


def _reaching(values: Matrix) -> int:
    share = np.cumsum(values) / values.sum()
    return int(np.sum(share < MOST)) + 1
