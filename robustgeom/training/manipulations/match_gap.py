"""All logits rescaled to another teacher's mean gap."""

from torch import Tensor

from robustgeom.errors import InputError
from robustgeom.training.manipulations._fitted import mean_gap

__all__ = ["match_gap"]


def match_gap(logits: Tensor, *, reference: Tensor, other_reference: Tensor) -> Tensor:
    """Return logits (n, classes) times the number that gives `reference` the mean gap of `other_reference`.

    Both references are logits (m, classes) on training images, the teacher's and another network's: a standard teacher
    is shrunk to the gaps of an adversarially trained one, or the other way round. Raises `InputError` where all of the
    teacher's gaps are 0.

    >>> import torch
    >>> z = torch.tensor([[2.0, 0.0]])
    >>> match_gap(z, reference=z, other_reference=z / 4).tolist()
    [[0.5, 0.0]]
    """
    mean = mean_gap(reference)
    if mean == 0:
        raise InputError("a teacher with gaps between its logits", got="none", fix="a trained teacher")
    return logits * (mean_gap(other_reference) / mean)
