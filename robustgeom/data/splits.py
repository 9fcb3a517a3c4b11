"""Which images of the original files make up a split."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robustgeom.errors import InputError

__all__ = ["EVAL_SIZE", "choose_eval_ids", "positions", "source_of"]

VALIDATION, EVAL_SIZE = 5_000, 1_000


def source_of(split: str) -> Literal["train", "test"]:
    """Return which of the original parts a split is taken from; raises `InputError` on an unknown split.

    >>> source_of("validation")
    'train'
    """
    if split not in ("eval", "train", "validation", "test"):
        raise InputError("split eval, test, train or validation", got=repr(split), fix='split="eval"')
    return "train" if split in ("train", "validation") else "test"


def positions(split: str, labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return the positions of a split in its part, whose labels (n,) are given in the original order.

    train is all but the last 5,000, validation the last 5,000, test everything, eval 1,000 balanced test images.

    >>> positions("validation", np.zeros(60_000)).tolist()[0]
    55000
    """
    if split == "eval":
        return choose_eval_ids(labels, per_class=EVAL_SIZE // len(np.unique(labels)))
    everything, cut = np.arange(len(labels)), len(labels) - VALIDATION
    return {"train": everything[:cut], "validation": everything[cut:]}.get(split, everything)


def choose_eval_ids(labels: NDArray[Any], *, per_class: int = 100, seed: int = 0) -> NDArray[np.int64]:
    """Return sorted test positions, `per_class` of each class, chosen by a hash of (seed, position).

    >>> choose_eval_ids(np.array([0, 1, 0, 1], dtype=np.uint8), per_class=1).shape
    (2,)
    """
    rank = np.array([hashlib.sha256(f"{seed}|{i}".encode()).hexdigest() for i in range(len(labels))])
    order = np.argsort(rank)
    chosen = [order[labels[order] == c][:per_class] for c in np.unique(labels)]
    return np.sort(np.concatenate(chosen)).astype(np.int64)
