"""A few samples for the page: right when clean, wrong under attack, of as many classes as can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustgeom.data.dataset import Dataset
from robustgeom.errors import InputError
from robustgeom.models.cochleagram import Cochleagram

__all__ = ["examples"]

_COUNT = 8
_FRAMES = 100


def examples(data: Dataset, clean: Tensor, prediction: Tensor, x: Tensor) -> dict[str, NDArray[Any]]:
    """Return arrays of up to eight samples: clean and attacked inputs, ids, labels, and predictions under attack.

    `clean` and `prediction` (n,) are the classes predicted without and with the attack, `x` (n, ...) the worst inputs.
    Where no sample fell, samples that stood. Of sounds also their cochleagrams, clean and attacked, in [0, 255].
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
    heard = _heard(data, rows, x) if data.rate is not None and len(rows) else {}
    return heard | {
        "examples.clean": data.inputs[rows].numpy(),
        "examples.adversarial": x[rows].numpy(),
        "examples.sample_ids": np.array([data.ids[i] for i in rows.tolist()], dtype=np.int64),
        "examples.labels": data.labels[rows].numpy(),
        "examples.predictions": prediction[rows].numpy(),
    }


def _heard(data: Dataset, rows: Tensor, x: Tensor) -> dict[str, NDArray[Any]]:
    """Return cochleagrams (k, filters, frames) of clean and attacked sounds on one scale, nothing where none fits."""
    assert data.rate is not None
    stride = data.rate // _FRAMES
    whole = (
        data.inputs.shape[1] // max(stride, 1) * stride
    )  # what a last, incomplete frame holds is not shown
    try:
        front = Cochleagram(whole, rate=data.rate, bands=20, oversampling=2, frames=_FRAMES)
    except InputError:
        return {}
    pair = [front(inputs[rows, :whole].float())[:, 0] for inputs in (data.inputs, x)]
    top = max([1e-12, *(float(each.max()) for each in pair if each.numel())])
    clean, attacked = ((255 * each / top).round().to(torch.uint8).numpy() for each in pair)
    return {"examples.heard_clean": clean, "examples.heard_adversarial": attacked}
