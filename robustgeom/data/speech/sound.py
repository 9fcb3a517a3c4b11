"""Sound files: wav, flac and whatever else libsndfile reads, as 16-bit samples of one channel."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from robustgeom.errors import ContentError

__all__ = ["read_sound"]


def read_sound(file: Path | BinaryIO, *, name: str | None = None) -> tuple[NDArray[np.int16], int]:
    """Return the samples (t,) of a sound file of one channel, and its sampling rate in Hz.

    Raises `ContentError` on a damaged file, on several channels, and where the package soundfile is missing.
    """
    called = name or str(file)
    try:
        import soundfile
    except ImportError as error:
        raise ContentError(
            "the package soundfile", got="none", fix='pip install "robustgeom[audio]"'
        ) from error
    try:
        samples, rate = soundfile.read(file, dtype="int16", always_2d=True)
    except (OSError, RuntimeError) as error:  # what libsndfile says
        raise ContentError("a readable sound file", got=f"{called}: {error}", fix="replacing it") from error
    if samples.shape[1] != 1:
        got = f"{samples.shape[1]} in {called}"
        raise ContentError("one channel", got=got, fix="mixing them down first")
    found: NDArray[np.int16] = samples[:, 0]
    return found, int(rate)
