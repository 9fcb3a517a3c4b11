"""Backgrounds for speech, and speech mixed into them at a stated signal-to-noise ratio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["LOUDNESS", "babble", "level", "mixed", "modulated", "pink"]

Waveform = NDArray[np.float64]

LOUDNESS = 0.1  # root mean square of a clip, in [-1, 1]
_TALKERS = 6
_LOWEST, _SPEED = 50.0, (2.0, 8.0)  # Hz


def pink(samples: int, rate: int, generator: np.random.Generator) -> Waveform:
    """Return noise (samples,) whose power falls as 1 / frequency from 50 Hz on.

    >>> pink(8000, 8000, np.random.default_rng(0)).shape
    (8000,)
    """
    frequencies = np.fft.rfftfreq(samples, 1 / rate)
    spectrum = np.fft.rfft(generator.standard_normal(samples))
    gains = np.where(frequencies < _LOWEST, 0, 1 / np.sqrt(np.maximum(frequencies, _LOWEST)))
    return np.fft.irfft(spectrum * gains, samples)


def modulated(samples: int, rate: int, generator: np.random.Generator) -> Waveform:
    """Return pink noise (samples,) that swells and fades 2 to 8 times a second.

    >>> modulated(8000, 8000, np.random.default_rng(0)).shape
    (8000,)
    """
    speed, phase = generator.uniform(*_SPEED), generator.uniform(0, 2 * np.pi)
    swell = (1 + np.sin(2 * np.pi * speed * np.arange(samples) / rate + phase)) / 2
    return pink(samples, rate, generator) * swell


def babble(samples: int, words: Sequence[Waveform], generator: np.random.Generator) -> Waveform:
    """Return six talkers (samples,) at equal levels, each saying words (t,) of the list one after the other.

    >>> babble(8000, [np.ones(3000), np.ones(2000)], np.random.default_rng(0)).shape
    (8000,)
    """
    found: Waveform = np.sum([_talker(samples, words, generator) for _ in range(_TALKERS)], axis=0)
    return found


def _talker(samples: int, words: Sequence[Waveform], generator: np.random.Generator) -> Waveform:
    said: list[Waveform] = []
    start = 0
    while sum(map(len, said)) - start < samples:
        said.append(words[int(generator.integers(len(words)))])
        start = start or int(generator.integers(len(said[0])))
    voice = np.concatenate(said)[start : start + samples]
    return voice / level(voice)


def level(waveform: Waveform) -> float:
    """Return the root mean square of a waveform (t,).

    >>> level(np.array([3.0, -3.0]))
    3.0
    """
    return float(np.sqrt(np.mean(np.square(waveform))))


def mixed(speech: Waveform, background: Waveform, snr_db: float) -> Waveform:
    """Return speech (t,) in a background (t,) that is `snr_db` decibels quieter, both levels taken over all of it.

    Its root mean square is 0.1, or less where a peak would leave [-1, 1].

    >>> round(level(mixed(np.array([1.0, -1.0]), np.array([1.0, 1.0]), 20)), 3)
    0.1
    """
    noise = background * (level(speech) / level(background) * 10 ** (-snr_db / 20))
    found = speech + noise
    return found * min(LOUDNESS / level(found), 1 / float(np.abs(found).max()))
