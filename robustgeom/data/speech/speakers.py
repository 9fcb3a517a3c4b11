"""Who says what in spoken-words: words, accents, and the voice variants of each split, which share no speaker."""

from __future__ import annotations

import numpy as np

from robustgeom.seeds import seed_of

__all__ = ["ACCENTS", "SPEAKERS", "WORDS", "Take", "takes"]

Take = tuple[str, int, int, str]
"""Voice, rate in words a minute, pitch from 0 to 100, text."""

_WORDS = "zero one two three four five six seven eight nine yes no up down left right on off stop go"
WORDS = tuple(_WORDS.split())
"""Ten digits and ten commands: the core words of Speech Commands (Warden 2018, arXiv:1804.03209)."""

ACCENTS = ("en-us", "en-gb-x-rp", "en-gb-scotland", "en-029")
"""American, received pronunciation, Scottish, Caribbean."""

# Of espeak-ng's 104 variants, without three that swallow words, and whispers, robots and ghouls. Variants that are
# steps of one voice (klatt to klatt6, steph to steph3) are in one split.
_TRAIN = """
Alex Andrea Andy AnxiousAndy Diogo Gene Gene2 Jacky Marco Mario Michael Mike Nguyen Tweaky anika anikaRobot
announcer antonio benjamin ed edward edward2 f1 f3 f5 fast grandpa ian iven iven2 iven3 iven4 john kaukovalta
klatt klatt2 klatt3 klatt4 klatt5 klatt6 m1 m2 m4 m6 m8 max michel miguel mike2 paul pedro quincy rob robert
robosoft robosoft2 robosoft3 robosoft4 robosoft5 robosoft6 robosoft7 robosoft8 shelby steph steph2 steph3
"""
_VALIDATION = "Henrique belinda caleb f4 gustave m5 marcelo pablo sandro travis"
_TEST = (
    "Alicia Annie Denis Hugo Lee Reed Storm adam aunty boris david f2 grandma linda m3 m7 norbert victor zac"
)
SPEAKERS = {
    "train": tuple(_TRAIN.split()),
    "validation": tuple(_VALIDATION.split()),
    "test": tuple(_TEST.split()),
}
_TAKES = {"train": 2, "validation": 1, "test": 1}
_RATES, _PITCHES = (130, 210), (25, 75)


def takes(split: str, speaker: str, *, seed: int = 0) -> list[tuple[str, int, Take]]:
    """Return what a speaker of a split says, in order: accent, position of the word, and the take.

    Rate and pitch are drawn for every take.

    >>> accent, word, take = takes("test", "f2")[0]
    >>> accent, WORDS[word], take[0], len(takes("test", "f2"))
    ('en-us', 'zero', 'en-us+f2', 80)
    """
    generator = np.random.default_rng(seed_of(seed, "takes", speaker))
    said = [(a, w) for _ in range(_TAKES[split]) for a in ACCENTS for w in range(len(WORDS))]
    rates, pitches = (generator.integers(low, high + 1, len(said)) for low, high in (_RATES, _PITCHES))
    return [
        (accent, word, (f"{accent}+{speaker}", int(rate), int(pitch), WORDS[word]))
        for (accent, word), rate, pitch in zip(said, rates, pitches, strict=True)
    ]
