"""Nearest neighbours as a monitor of representations that were learned without labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robustgeom.errors import InputError

__all__ = ["neighbour_votes"]


def neighbour_votes(
    bank: Tensor, labels: Tensor, queries: Tensor, *, classes: int, k: int = 200, temperature: float = 0.5
) -> Tensor:
    """Return how strongly a query's neighbours vote for each class: (queries, classes) (Wu et al. 2018).

    bank: features (n, width) with labels (n,); queries: (m, width). The k nearest by cosine vote with the weight
    exp(cosine / temperature); the largest entry is the prediction. Raises `InputError` on shapes that do not fit and on
    fewer than k in the bank.

    >>> bank, labels = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), torch.tensor([0, 0, 1])
    >>> neighbour_votes(bank, labels, torch.tensor([[1.0, 0.2]]), classes=2, k=2).argmax(1).tolist()
    [0]
    """
    fits = (
        bank.dim() == queries.dim() == 2
        and bank.shape[1] == queries.shape[1]
        and labels.shape == (len(bank),)
    )
    if not fits or not 1 <= k <= len(bank) or temperature <= 0:
        got = f"{tuple(bank.shape)}, {tuple(labels.shape)}, {tuple(queries.shape)}, k={k}, temperature={temperature}"
        raise InputError(
            "a bank of k features or more with labels, and queries as wide", got=got, fix="a smaller k"
        )
    alike = F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T
    near, which = alike.topk(k, dim=1)
    votes = torch.zeros(len(queries), classes, dtype=near.dtype, device=near.device)
    return votes.scatter_add(1, labels[which], torch.exp(near / temperature))
