"""All gaps of a sample."""

from torch import Tensor

__all__ = ["gap_profile"]


def gap_profile(logits: Tensor) -> Tensor:
    """Return the largest minus the 2nd, 3rd, ... largest logit of each row: (n, classes - 1), in logits, ascending.

    `logit_gap` is the first column. Seguin et al. 2021, arXiv:2108.12001, say that adversarial training shrinks them.

    >>> import torch
    >>> gap_profile(torch.tensor([[3.0, 5.0, 0.0]])).tolist()
    [[2.0, 5.0]]
    """
    ordered = logits.sort(dim=1, descending=True).values
    return ordered[:, :1] - ordered[:, 1:]
