"""A few samples for the page: right when clean, wrong under attack, of as many classes as can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustgeom.data.dataset import Dataset

__all__ = ["examples"]

_COUNT = 8


def examples(data: Dataset, clean: Tensor, prediction: Tensor, x: Tensor) -> dict[str, NDArray[Any]]:
    """Return arrays of up to eight samples: clean and attacked inputs, ids, labels, and predictions under attack.

    `clean` and `prediction` (n,) are the classes predicted without and with the attack, `x` (n, ...) the worst inputs.
    Where no sample fell, samples that stood.
    """
    right = clean == data.labels
    fallen = right & (prediction != data.labels)
    pool = (fallen if fallen.any() else right).nonzero().squeeze(1)
    seen: dict[int, int] = {}
    turns = []
    for c in data.labels[pool].tolist():
        turns.append(seen.get(c, 0))
        seen[c] = turns[-1] + 1
    rows = pool[torch.tensor(turns).argsort(stable=True)[:_COUNT]] if len(pool) else pool
    return {
        "examples.clean": data.inputs[rows].numpy(),
        "examples.adversarial": x[rows].numpy(),
        "examples.sample_ids": np.array([data.ids[i] for i in rows.tolist()], dtype=np.int64),
        "examples.labels": data.labels[rows].numpy(),
        "examples.predictions": prediction[rows].numpy(),
    }
