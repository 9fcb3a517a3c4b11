"""Threat tables: which radii a data set is evaluated at, by norm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.linalg import vector_norm

from robustgeom.errors import InputError
from robustgeom.threat import Measure, Norm, ThreatModel, ball_of
from robustgeom.words import parse_radius, parse_snr, radius_of

__all__ = ["THREATS", "ThreatTable", "threat_table"]


@dataclass(frozen=True)
class ThreatTable:
    """Radii of the curve (ascending, from 0) and the headline radii among them, in the input's units.

    Those of the measure "snr" are l2 norms over that of the sample: 0.1 is a signal-to-noise ratio of 20 dB.
    """

    norm: Measure
    grid: tuple[float, ...]
    headlines: tuple[float, ...]

    def at_headlines(self) -> ThreatTable:
        """Return the table of radius 0 and the headlines only."""
        return ThreatTable(self.norm, (0.0, *(r for r in self.grid if r in self.headlines)), self.headlines)

    @property
    def ball(self) -> Norm:
        """The norm of the balls that attacks search."""
        return ball_of(self.norm)

    def threat(self, radius: float, inputs: Tensor, domain: tuple[float, float]) -> ThreatModel:
        """Return what the attacker may do to `inputs` (n, ...) at a radius: under "snr" each has one of its own.

        >>> table = ThreatTable("snr", (0.0, 0.1), (0.1,))
        >>> table.threat(0.1, Tensor([[3.0, 4.0], [0.0, 2.0]]), (-9, 9)).eps.tolist()
        [0.5, 0.20000000298023224]
        """
        eps = radius * vector_norm(inputs.flatten(1), dim=1) if self.norm == "snr" else radius
        return ThreatModel(self.ball, eps, domain)

    def reaching(self, width: float, inputs: Tensor) -> float:
        """Return the radius at which the balls of all `inputs` (n, ...) are `width` wide; silent ones have none."""
        if self.norm != "snr":
            return width
        norms = vector_norm(inputs.flatten(1), dim=1)
        return width / float(norms[norms > 0].min())

    def typical(self, radius: float, inputs: Tensor, domain: tuple[float, float]) -> ThreatModel:
        """Return one threat to all of `inputs` (n, ...): under "snr" that to a sample of median norm."""
        eps = self.threat(radius, inputs, domain).eps
        return ThreatModel(self.ball, float(eps.median()) if isinstance(eps, Tensor) else eps, domain)


def _table(norm: Measure, grid: Iterable[float | str], headlines: Iterable[float | str]) -> ThreatTable:
    return ThreatTable(norm, tuple(parse_radius(r) for r in grid), tuple(parse_radius(r) for r in headlines))


def _ratios(grid: Iterable[float], headlines: Iterable[float]) -> ThreatTable:
    """Return the table of signal-to-noise ratios in decibels, descending."""
    return ThreatTable("snr", (0.0, *map(parse_snr, grid)), tuple(map(parse_snr, headlines)))


# Clips of spoken words have a root mean square of 0.1: a linf change of 0.001 is 40 dB below them at least.
_SPEECH: Mapping[str, ThreatTable] = {
    "linf": _table("linf", (0, 0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016), (0.002, 0.008)),
    "l2": _table("l2", (0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1), (0.1, 0.3)),
    "snr": _ratios((60, 50, 45, 40, 35, 30, 25, 20), (40, 30)),
}


_CIFAR: Mapping[str, ThreatTable] = {
    "linf": _table("linf", (0, "1/255", "2/255", "4/255", "8/255", "16/255"), ("8/255",)),
    "l2": _table("l2", (0, 0.25, 0.5, 1, 1.5, 2), (0.5,)),
}
"""The headlines are those of the RobustBench leaderboard (Croce et al. 2021, arXiv:2010.09670)."""

_FASHION: Mapping[str, ThreatTable] = {
    "linf": _table("linf", (0, "1/510", "1/255", "2/255", "4/255", "8/255", "16/255", 0.1), ("8/255", 0.1)),
    "l2": _table("l2", (0, 0.25, 0.5, 1, 1.5, 2, 3), (1.5,)),
    "l1": _table("l1", (0, 2, 4, 8, 12, 16), (8,)),
    "l0": _table("l0", (0, 1, 2, 4, 8, 16, 32), (8,)),
}

THREATS: Mapping[str, Mapping[str, ThreatTable]] = {
    "fashion-mnist": _FASHION,
    "fashion-mnist-halves": _FASHION,
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
    "spoken-words": _SPEECH,
    "speech-commands": _SPEECH,
}


_ANY_IMAGES: Mapping[str, ThreatTable] = {
    "spatial": _table("spatial", (0, 0.25, 0.5, 1), (1,)),
    "corruption": _table("corruption", (0, 1, 2, 3, 4, 5), (5,)),
}
"""Threats in units of their own, which suit images of every kind."""


def threat_table(data: str, norm: Measure, *, eps: str | float | None = None) -> ThreatTable:
    """Return the radii for a data set and norm; with `eps`, a quarter, a half and the whole of it.

    Raises `InputError` where the data set has no table for the norm and no `eps` is given, or eps is 0.

    >>> threat_table("fashion-mnist", "linf").headlines[1]
    0.1
    """
    if eps is not None:
        radius = radius_of(eps, norm)
        if norm == "corruption":
            return _severities(radius)
        if radius == 0:
            raise InputError("eps > 0", got="0", fix="--eps 8/255; radius 0 is always evaluated")
        return ThreatTable(norm, (0.0, radius / 4, radius / 2, radius), (radius,))
    table = THREATS.get(data, {}).get(norm) or _ANY_IMAGES.get(norm)
    if table is None:
        raise InputError(
            f"a radius for {norm} on {data}",
            got="none: it has no threat table",
            fix={"linf": "--eps 8/255", "snr": "--eps 30dB"}.get(norm, "--eps 1.5"),
        )
    return table


def _severities(most: float) -> ThreatTable:
    if most not in (1, 2, 3, 4, 5):
        raise InputError("a severity from 1 to 5", got=f"{most:g}", fix="--eps 5")
    return ThreatTable("corruption", tuple(float(s) for s in range(int(most) + 1)), (most,))
