"""Sound files: wav, flac and whatever else libsndfile reads, as waveforms of one channel, rate and length."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from robustgeom.data.speech.noise import LOUDNESS, level
from robustgeom.data.speech.synthesis import resampled
from robustgeom.errors import ContentError

__all__ = ["clip_of", "read_sound"]

_SHORTEST = 0.1  # seconds
_SILENCE = 1e-4  # of the largest sample a file can hold


def read_sound(file: Path | BinaryIO, *, name: str | None = None) -> tuple[NDArray[np.float64], int]:
    """Return the samples (t,) in [-1, 1] of a sound file, and its sampling rate in Hz; channels are averaged.

    Raises `ContentError` on a damaged file, on numbers that are not finite, and where the package soundfile is missing.
    """
    called = name or str(file)
    try:
        import soundfile
    except ImportError as error:
        raise ContentError(
            "the package soundfile", got="none", fix='pip install "robustgeom[audio]"'
        ) from error
    try:
        samples, rate = soundfile.read(file, dtype="float64", always_2d=True)
    except (OSError, RuntimeError) as error:  # what libsndfile says
        raise ContentError("a readable sound file", got=f"{called}: {error}", fix="replacing it") from error
    found: NDArray[np.float64] = samples.mean(1)
    if not np.isfinite(found).all():
        raise ContentError("finite samples", got=f"NaN or infinity in {called}", fix="replacing it")
    return found, int(rate)


def clip_of(file: Path, *, rate: int, seconds: float) -> NDArray[np.float64]:
    """Return the middle `seconds` of a sound file at `rate` samples a second: (t,), with a root mean square of 0.1.

    Channels are averaged, the mean is taken away and the rate converted. A shorter recording has silence around it; one
    is softer than 0.1 where a peak would leave [-1, 1]. Raises `ContentError` on less than a tenth of a second, on
    silence, on a rate below the one asked for, which would leave the upper bands empty, and on what `read_sound`
    refuses.
    """
    samples, own = read_sound(file)
    if own < rate:
        got, fix = f"{own} in {file}", "recordings of that rate, or a model for lower ones"
        raise ContentError(f"{rate} samples a second or more", got=got, fix=fix)
    if len(samples) < _SHORTEST * own:
        got = f"{len(samples) / own:.3f} s in {file}"
        raise ContentError(f"{_SHORTEST} s of sound or more", got=got, fix="leaving it out")
    samples = samples - samples.mean()  # a microphone's offset is no sound
    whole = _middle(resampled(samples, own, rate), round(seconds * rate))
    if np.abs(whole).max() < _SILENCE:
        raise ContentError("sound", got=f"silence in {file}", fix="leaving it out")
    found: NDArray[np.float64] = whole * min(LOUDNESS / level(whole), 1 / float(np.abs(whole).max()))
    return found


def _middle(samples: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    missing = max(0, count - len(samples))
    padded = np.pad(samples, (missing // 2, missing - missing // 2))
    start = (len(padded) - count) // 2
    return padded[start : start + count]
