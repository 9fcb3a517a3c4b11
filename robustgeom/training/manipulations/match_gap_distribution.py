"""Each sample's logits rescaled so that gaps are distributed as another teacher's."""

import torch
from torch import Tensor

from robustgeom.logits.logit_gap import logit_gap
from robustgeom.training.manipulations._fitted import sorted_gaps

__all__ = ["match_gap_distribution"]


def match_gap_distribution(logits: Tensor, *, reference: Tensor, other_reference: Tensor) -> Tensor:
    """Return logits (n, classes), each row times a number of its own that moves its gap to its quantile elsewhere.

    A gap that is larger than a share q of the gaps of `reference` becomes the q-quantile of those of `other_reference`:
    logits (m, classes) of the teacher and of another network on training images. Rows that are tied at the top
    stay as they are.

    >>> z = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    >>> match_gap_distribution(z, reference=z, other_reference=10 * z).tolist()
    [[10.0, 0.0], [20.0, 0.0], [30.0, 0.0]]
    """
    own, known = logit_gap(logits), sorted_gaps(reference)
    place = (torch.searchsorted(known, own) + torch.searchsorted(known, own, right=True) - 1) / 2
    share = (place / max(len(known) - 1, 1)).clamp(0, 1)
    other = sorted_gaps(other_reference)
    position = share * (len(other) - 1)
    low = position.floor().long()
    high = (low + 1).clamp(max=len(other) - 1)
    wanted = other[low] + (position - low) * (other[high] - other[low])
    factor = (wanted / own.clamp_min(torch.finfo(own.dtype).tiny)).where(own > 0, torch.ones_like(own))
    return logits * factor[:, None]
