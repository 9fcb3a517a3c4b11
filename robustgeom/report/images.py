"""Example images of a record as PNG data URIs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustgeom.records import RunRecord

__all__ = ["Example", "Picture", "examples"]

LIMIT = 8
KEYS = ("clean", "adversarial", "sample_ids", "predictions", "labels")


@dataclass(frozen=True)
class Picture:
    """An inlined PNG with the words that stand for it."""

    uri: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Example:
    """One sample: clean, attacked, and their magnified difference."""

    sample_id: int
    pictures: tuple[Picture, ...]


def examples(record: RunRecord) -> tuple[list[Example], str]:
    """Return up to eight examples and a sentence: what is shown, or why nothing is."""
    arrays = [record.arrays.get(f"examples.{key}") for key in KEYS]
    present = [a for a in arrays if a is not None]
    if len(present) < len(KEYS):
        return [], "The record keeps no examples."
    clean, adversarial, ids, predictions, labels = present
    if clean.ndim != 4 or clean.shape[1] not in (1, 3):
        shape = " x ".join(str(side) for side in clean.shape[1:])
        return [], f"Examples of shape {shape} are not images with 1 or 3 channels and are not drawn."
    if clean.shape != adversarial.shape or {len(ids), len(predictions), len(labels)} != {len(clean)}:
        return [], "The record's examples do not fit together and are not drawn."
    count = min(len(clean), LIMIT)
    names, domain = record.header.data.classes, record.header.data.domain
    shown = [
        _example(
            (clean[i], adversarial[i]),
            domain,
            int(ids[i]),
            _class(names, labels[i]),
            _class(names, predictions[i]),
        )
        for i in range(count)
    ]
    return shown, f"{count} of {len(clean)} recorded examples. Grey in a difference means unchanged."


def _class(names: list[str], index: NDArray[np.int64]) -> str:
    i = int(index)
    return names[i] if 0 <= i < len(names) else f"class {i}"


def _example(
    pair: tuple[NDArray[np.float32], NDArray[np.float32]],
    domain: tuple[float, float],
    sample: int,
    label: str,
    prediction: str,
) -> Example:
    low, high = domain
    clean, attacked = ((a.astype(np.float64) - low) / (high - low) for a in pair)
    change = attacked - clean
    largest = float(np.abs(change).max())
    factor = 0.5 / largest if largest > 0 else 1.0
    size = f"{255 * largest:.3g}/255" if tuple(domain) == (0, 1) else f"{largest * (high - low):.3g}"
    outcome = f"read as {prediction}" if prediction != label else f"still read as {label}"
    return Example(
        sample,
        (
            Picture(_uri(clean), f"sample {sample}, {label}, unchanged", f"clean: {label}"),
            Picture(_uri(attacked), f"sample {sample} attacked, {outcome}", f"attacked: {outcome}"),
            Picture(
                _uri(0.5 + factor * change),
                f"difference of sample {sample}, magnified {factor:.3g} times, largest change {size}",
                f"difference, at most {size}",
            ),
        ),
    )


def _uri(pixels: NDArray[np.floating]) -> str:
    values = np.nan_to_num(np.clip(pixels, 0, 1)).transpose(1, 2, 0)
    bytes_ = np.round(values * 255).astype(np.uint8)
    image = Image.fromarray(bytes_[..., 0] if bytes_.shape[2] == 1 else bytes_)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
