"""How numbers are read and written, on the terminal and on pages: radii, shares, p-values; no torch."""

from __future__ import annotations

import math
from fractions import Fraction

from robustgeom.errors import InputError
from robustgeom.stats import Interval

__all__ = [
    "commit_text",
    "draw_words",
    "loudness_text",
    "p_text",
    "parse_radius",
    "parse_snr",
    "percent",
    "points",
    "radius_of",
    "radius_text",
]


def commit_text(commit: str | None, dirty: bool | None) -> str:
    """Say which commit something was made at.

    >>> commit_text("c0ffee", True)
    'c0ffee with uncommitted changes'
    """
    if commit is None:
        return "not in a git checkout"
    return f"{commit} with uncommitted changes" if dirty else commit


def parse_radius(text: str | float) -> float:
    """Return a radius written as a number or a fraction, in the input's units.

    Raises `InputError` on anything else, on negative and on infinite radii.

    >>> parse_radius("8/255") == 8 / 255
    True
    """
    try:
        value = float(Fraction(text)) if isinstance(text, str) else float(text)
    except (ValueError, ArithmeticError, TypeError):
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InputError("a finite radius >= 0", got=repr(text), fix="eps=8/255 or eps=0.1")
    return value


def parse_snr(text: str | float) -> float:
    """Return the noise's amplitude over the signal's, of a signal-to-noise ratio in decibels written as 30 or "30dB".

    Raises `InputError` on anything else, and on ratios beyond 200 decibels either way.

    >>> round(parse_snr("30 dB"), 4), parse_snr(0)
    (0.0316, 1.0)
    """
    try:
        decibels = float(text.lower().removesuffix("db")) if isinstance(text, str) else float(text)
    except (ValueError, TypeError):
        decibels = math.nan
    if not abs(decibels) <= 200:
        raise InputError("a signal-to-noise ratio in dB", got=repr(text), fix="eps=30dB")
    return float(10 ** (-decibels / 20))


def radius_of(written: str | float, measure: str) -> float:
    """Return a radius as it is written for a measure: by `parse_snr` for "snr", else by `parse_radius`.

    >>> radius_of("20dB", "snr"), radius_of("0.1", "linf")
    (0.1, 0.1)
    """
    return parse_snr(written) if measure == "snr" else parse_radius(written)


def radius_text(radius: float, norm: str) -> str:
    """Write a radius, in the input's units, as people do; one of "snr", an amplitude over another, in decibels.

    >>> [radius_text(r, "linf") for r in (8 / 255, 0.5 / 255, 0.1)]
    ['8/255', '0.5/255', '0.1']
    >>> radius_text(0.1, "snr"), radius_text(0, "snr")
    ('20 dB', 'inf dB')
    """
    if norm == "snr":
        return f"{round(-20 * math.log10(radius), 9) + 0.0:.3g} dB" if radius > 0 else "inf dB"
    plain, halves = f"{radius:.4g}", 2 * radius * 255
    if norm == "linf" and abs(float(plain) - radius) > 1e-12 and abs(halves - round(halves)) < 1e-6:
        return f"{round(halves) / 2:g}/255"
    return plain


def loudness_text(radius: float, norm: str, *, level: float, samples: int) -> str:
    """Say what a radius is as a signal-to-noise ratio, for waveforms of root mean square `level` and so many samples.

    The ratio of a whole linf or l1 ball is that of its loudest point. One of "snr" is said as a radius in l2. Nothing
    is said of silence, and of measures without a ball.

    >>> loudness_text(0.001, "linf", level=0.1, samples=8000), loudness_text(0.01, "snr", level=0.1, samples=8000)
    ('40 dB or more', '0.08944 in l2')
    """
    whole = level * math.sqrt(samples)
    if whole == 0 or norm not in ("linf", "l2", "l1", "snr"):
        return ""
    if norm == "snr":
        return f"{radius_text(radius * whole, 'l2')} in l2"
    ratio = radius / level if norm == "linf" else radius / whole
    more = "" if norm == "l2" or radius == 0 else " or more"
    return f"{radius_text(ratio, 'snr')}{more}"


def percent(share: float) -> str:
    """Write a share as a percentage.

    >>> percent(0.7021)
    '70.2 %'
    """
    return f"{100 * share:.1f} %"


def points(difference: Interval) -> str:
    """Write a difference of shares, with its interval, in percentage points.

    >>> points(Interval(0.19, 0.1, 0.28, 50))
    '+19.0 points [+10.0, +28.0]'
    """
    value, low, high = (100 * v for v in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]"


def share_text(interval: Interval) -> str:
    """Write a share as a percentage with its interval.

    >>> share_text(Interval(0.5, 0.43, 0.57, 50))
    '50.0 % [43.0, 57.0]'
    """
    return f"{percent(interval.value)} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def span(interval: Interval) -> str:
    """Write a number with its interval and the samples behind it.

    >>> span(Interval(0.1234, 0.05, 0.25, 50))
    '0.123 [0.05, 0.25] (n=50)'
    """
    return f"{interval.value:.3g} [{interval.low:.3g}, {interval.high:.3g}] (n={interval.n})"


def p_text(p_value: float) -> str:
    """Write a p-value without false precision.

    >>> p_text(0.0000002), p_text(0.03125)
    ('p < 0.001', 'p = 0.031')
    """
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def draw_words(single: float, undecided: float) -> str:
    """Say how often one noise draw is right, and for which share of samples the draws decided nothing.

    >>> draw_words(0.355, 0.228), draw_words(0.9, 0)
    ('single draw 35.5 %, undecided 22.8 %', 'single draw 90.0 %')
    """
    return f"single draw {percent(single)}" + (f", undecided {percent(undecided)}" if undecided else "")
