"""Planned chunks: which samples go through together; a function of data and finished work only."""

from __future__ import annotations

from torch import Tensor

from robustgeom.errors import InputError

__all__ = ["chunks", "padded"]

_MULTIPLE = 32


def padded(rows: int) -> int:
    """Return `rows` rounded up to a multiple of 32.

    >>> padded(33)
    64
    """
    return -(-rows // _MULTIPLE) * _MULTIPLE


def chunks(rows: Tensor, batch_size: int) -> list[Tensor]:
    """Split sample positions (k,) in order into chunks of `batch_size`, rounded up to a multiple of 32.

    >>> import torch
    >>> [len(c) for c in chunks(torch.arange(70), 32)]
    [32, 32, 6]
    """
    if batch_size < 1:
        raise InputError("batch_size >= 1", got=str(batch_size), fix="batch_size=128")
    size = padded(batch_size)
    return [rows[start : start + size] for start in range(0, len(rows), size)]
