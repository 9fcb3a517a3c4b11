"""Expected calibration error over bins of as many samples each."""

import torch
from torch import Tensor

from robustgeom.errors import InputError

__all__ = ["adaptive_calibration_error"]


def adaptive_calibration_error(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    """Return the calibration error over equal shares of the samples, a probability in [0, 1].

    logits: (n, classes); labels: (n,). Samples in the order of their confidence are cut into `bins` parts whose sizes
    differ by one at most; the error is the mean over samples of |accuracy - confidence| of their part (Nguyen and
    O'Connor 2015, arXiv:1508.05154). Samples of one confidence are spread over their places, so that their order
    decides nothing. Raises `InputError` on bins < 1 and on fewer samples than bins.

    >>> adaptive_calibration_error(torch.tensor([[20.0, 0.0]]), torch.tensor([0]), bins=1) < 1e-6
    True
    """
    if bins < 1 or len(logits) < bins:
        raise InputError(
            "a bin or more, and a sample for each", got=f"{len(logits)} and {bins}", fix="bins=15"
        )
    top, predicted = logits.double().softmax(1).max(1)
    _, tied, sizes = torch.unique(top, return_inverse=True, return_counts=True)
    right = torch.zeros(len(sizes), dtype=torch.float64).index_add(0, tied, (predicted == labels).double())
    gap = (right / sizes)[tied] - top
    parts = gap[top.argsort(stable=True)].tensor_split(bins)
    return float(sum(abs(part.sum()) for part in parts) / len(logits))
