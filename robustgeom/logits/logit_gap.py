"""The gap between the largest and a next-largest logit."""

from torch import Tensor

from robustgeom.errors import InputError

__all__ = ["logit_gap"]


def logit_gap(logits: Tensor, *, rank: int = 2) -> Tensor:
    """Return the largest minus the `rank`-th largest logit of each row: (n,), in logits.

    Raises `InputError` unless 2 <= rank <= classes. Seguin et al. 2021, arXiv:2108.12001.

    >>> import torch
    >>> logit_gap(torch.tensor([[5.0, 3.0, 0.0]])).item()
    2.0
    """
    if not 2 <= rank <= logits.shape[1]:
        raise InputError(f"2 <= rank <= {logits.shape[1]}", got=str(rank), fix="rank=2")
    ordered = logits.sort(dim=1, descending=True).values
    return ordered[:, 0] - ordered[:, rank - 1]
