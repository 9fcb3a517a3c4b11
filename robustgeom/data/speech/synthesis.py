"""Takes to waveforms: one process of the synthesiser a speaker, so that what a speaker says repeats bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustgeom.data.speech.speakers import Take
from robustgeom.errors import ContentError

__all__ = ["RATE", "resampled", "say", "trimmed"]

RATE = 8_000
_QUIET = 0.01  # of the peak: what lies below it at both ends is silence
_MARGIN = 0.01  # seconds kept around a word


def say(takes: Sequence[Take]) -> tuple[int, list[NDArray[np.int16]]]:
    """Return the synthesiser's sampling rate (Hz) and the samples of every take, as a new process says them in order.

    Raises `ContentError` where the synthesiser is not installed or fails.
    """
    script = Path(__file__).with_name("voices.py")
    done = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps(list(takes)).encode(),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        got = last[0] if last else f"exit status {done.returncode}"
        raise ContentError("the speech synthesiser espeak-ng", got=got, fix='pip install "robustgeom[audio]"')
    return int.from_bytes(done.stdout[:4], sys.byteorder), _clips(done.stdout[4:])


def _clips(raw: bytes) -> list[NDArray[np.int16]]:
    found, place = [], 0
    while place < len(raw):
        count = int.from_bytes(raw[place : place + 4], sys.byteorder)
        found.append(np.frombuffer(raw, np.int16, count, place + 4))
        place += 4 + 2 * count
    return found


def trimmed(samples: NDArray[np.int16], rate: int) -> NDArray[np.int16]:
    """Return a word (t,) without the silence around it, but for a hundredth of a second.

    >>> trimmed(np.array([0] * 900 + [500] * 50 + [0] * 900, dtype=np.int16), 1000).shape
    (70,)
    """
    loud = np.nonzero(np.abs(samples.astype(np.int32)) > _QUIET * np.abs(samples.astype(np.int32)).max())[0]
    margin = round(_MARGIN * rate)
    return samples[max(0, int(loud[0]) - margin) : int(loud[-1]) + 1 + margin]


def resampled(samples: NDArray[np.floating], rate: int, wanted: int) -> NDArray[np.float64]:
    """Return a waveform (t,) of `rate` samples a second at `wanted` a second, through a polyphase low-pass filter.

    >>> resampled(np.zeros(22_050), 22_050, 8_000).shape
    (8000,)
    """
    from scipy.signal import resample_poly  # a second, which nobody waits for who has no sound

    common = int(np.gcd(rate, wanted))
    found: NDArray[np.float64] = resample_poly(samples.astype(np.float64), wanted // common, rate // common)
    return found
