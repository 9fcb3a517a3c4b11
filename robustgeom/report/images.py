"""Examples of a record: images as PNG data URIs, sounds as WAV ones with pictures of them."""

from __future__ import annotations

import base64
import io
import wave
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustgeom.records import RunRecord
from robustgeom.words import radius_text

__all__ = ["Example", "Picture", "Sound", "examples", "portrait"]

LIMIT = 8  # of a model; of many models fewer, as a page is to stay small
IMAGES, SOUNDS = 250, 8  # of a page
KEYS = ("clean", "adversarial", "sample_ids", "predictions", "labels")


@dataclass(frozen=True)
class Picture:
    """An inlined PNG with the words that stand for it."""

    uri: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Sound:
    """An inlined WAV with the words that stand for it."""

    uri: str
    caption: str


@dataclass(frozen=True)
class Example:
    """One sample: clean, attacked, and of images their magnified difference."""

    sample_id: int
    pictures: tuple[Picture, ...]
    sounds: tuple[Sound, ...] = ()


def examples(record: RunRecord, models: int = 1) -> tuple[list[Example], str]:
    """Return up to eight examples and a sentence: what is shown, or why nothing is; fewer beside many `models`."""
    arrays = [record.arrays.get(f"examples.{key}") for key in KEYS]
    present = [a for a in arrays if a is not None]
    if len(present) < len(KEYS):
        return [], "The record keeps no examples."
    clean, adversarial, ids, predictions, labels = present
    if clean.ndim == 2 and record.header.data.sound is not None:
        return _sounds(record, present, max(1, min(LIMIT, SOUNDS // models)))
    if clean.ndim != 4 or clean.shape[1] not in (1, 3):
        shape = " x ".join(str(side) for side in clean.shape[1:])
        return [], f"Examples of shape {shape} are not images with 1 or 3 channels and are not drawn."
    if clean.shape != adversarial.shape or {len(ids), len(predictions), len(labels)} != {len(clean)}:
        return [], "The record's examples do not fit together and are not drawn."
    count = min(len(clean), max(1, min(LIMIT, IMAGES // models)))
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


def portrait(
    image: NDArray[Any], domain: tuple[float, float], sample_id: int, label: str, words: str
) -> Example:
    """Return one image (c, h, w) of a sample with its label and `words` about it."""
    low, high = domain
    pixels = (image.astype(np.float64) - low) / (high - low)
    picture = Picture(_uri(pixels), f"sample {sample_id}, {label}, {words}", f"{label}: {words}")
    return Example(sample_id, (picture,))


def _sounds(record: RunRecord, arrays: list[NDArray[Any]], most: int) -> tuple[list[Example], str]:
    clean, adversarial, ids, predictions, labels = arrays
    data, sound = record.header.data, record.header.data.sound
    rate, heard = (sound.rate if sound else 1), [record.arrays.get(f"examples.heard_{k}") for k in KEYS[:2]]
    fits = {len(a) for a in (*arrays, *(h for h in heard if h is not None))} == {len(clean)}
    if clean.shape != adversarial.shape or not fits or any(h is not None and h.ndim != 3 for h in heard):
        return [], "The record's examples do not fit together and are not drawn."
    shown = []
    for i in range(min(len(clean), most)):
        label, read = _class(data.classes, labels[i]), _class(data.classes, predictions[i])
        outcome = f"heard as {read}" if read != label else f"still heard as {label}"
        captions = (f"clean: {label}", f"attacked at {_ratio(clean[i], adversarial[i])}: {outcome}")
        sounds = tuple(
            Sound(_wav(both[i], rate), caption)
            for both, caption in zip((clean, adversarial), captions, strict=True)
        )
        pictures = tuple(
            Picture(_uri(h[i][None, ::-1] / 255), f"cochleagram of sample {int(ids[i])}, {caption}", caption)
            for h, caption in zip(heard, captions, strict=True)
            if h is not None
        )
        shown.append(Example(int(ids[i]), pictures, sounds))
    text = f"{len(shown)} of {len(clean)} recorded examples, each with its cochleagrams, low sounds at the bottom."
    return shown, text


def _ratio(clean: NDArray[np.float32], attacked: NDArray[np.float32]) -> str:
    """Say how far the change lies below the sound, in decibels."""
    change, sound = (float(np.linalg.norm(a.astype(np.float64))) for a in (attacked - clean, clean))
    return radius_text(change / sound, "snr") if sound > 0 else "no ratio to silence"


def _wav(samples: NDArray[np.float32], rate: int) -> str:
    steps = np.round(np.nan_to_num(np.clip(samples, -1, 1)) * 32767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(steps.tobytes())
    return "data:audio/wav;base64," + base64.b64encode(buffer.getvalue()).decode()


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
