"""Expected calibration error."""

import torch
from torch import Tensor

from robustgeom.errors import InputError

__all__ = ["calibration_error"]


def calibration_error(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    """Return the expected calibration error, a probability in [0, 1] (Guo et al. 2017, arXiv:1706.04599).

    logits: (n, classes); labels: (n,). Confidence is cut into `bins` equal-width bins; the error is the mean
    over samples of |accuracy - confidence| of their bin. Raises `InputError` on no samples or bins < 1.

    >>> calibration_error(torch.tensor([[20.0, 0.0]]), torch.tensor([0])) < 1e-6
    True
    """
    if len(logits) == 0 or bins < 1:
        raise InputError("at least one sample and one bin", got=f"{len(logits)} and {bins}", fix="bins=15")
    top, predicted = logits.double().softmax(1).max(1)
    # Bins are (low, high], so that a confidence on an edge falls where common implementations put it.
    where = (torch.ceil(top * bins).long() - 1).clamp(0, bins - 1)
    gap = (predicted == labels).double() - top
    return float(torch.zeros(bins, dtype=torch.float64).index_add(0, where, gap).abs().sum() / len(logits))
