"""What measures of two networks share."""

import numpy as np
import torch
from torch import Tensor

from robustgeom.errors import InputError


def of_same_shape(first: Tensor, second: Tensor) -> None:
    """Raise `InputError` unless both are logits (n, classes) of as many samples and classes, n > 0."""
    if first.dim() != 2 or first.shape != second.shape or len(first) == 0:
        got = f"shapes {tuple(first.shape)} and {tuple(second.shape)}"
        raise InputError(
            "logits (n, classes) of two networks on the same samples", got=got, fix="the same data"
        )


def rank_share(values: Tensor) -> Tensor:
    """Return the share of values (n,) that are smaller than each, ties counted half: (n,), in (0, 1)."""
    from scipy.stats import rankdata  # takes a second to import, which few that import us use

    ranks = rankdata(values.cpu().numpy())
    return torch.from_numpy(np.asarray((ranks - 0.5) / len(ranks)))
