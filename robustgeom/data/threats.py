"""Threat tables: which radii a data set is evaluated at, by norm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from robustgeom.errors import InputError
from robustgeom.words import parse_radius

__all__ = ["THREATS", "ThreatTable", "threat_table"]


@dataclass(frozen=True)
class ThreatTable:
    """Radii of the curve (ascending, from 0) and the headline radii among them, in the input's units."""

    norm: str
    grid: tuple[float, ...]
    headlines: tuple[float, ...]

    def at_headlines(self) -> ThreatTable:
        """Return the table of radius 0 and the headlines only."""
        return ThreatTable(self.norm, (0.0, *(r for r in self.grid if r in self.headlines)), self.headlines)


def _table(norm: str, grid: Iterable[float | str], headlines: Iterable[float | str]) -> ThreatTable:
    return ThreatTable(norm, tuple(parse_radius(r) for r in grid), tuple(parse_radius(r) for r in headlines))


_CIFAR: Mapping[str, ThreatTable] = {
    "linf": _table("linf", (0, "1/255", "2/255", "4/255", "8/255", "16/255"), ("8/255",)),
    "l2": _table("l2", (0, 0.25, 0.5, 1, 1.5, 2), (0.5,)),
}
"""The headlines are those of the RobustBench leaderboard (Croce et al. 2021, arXiv:2010.09670)."""

THREATS: Mapping[str, Mapping[str, ThreatTable]] = {
    "fashion-mnist": {
        "linf": _table(
            "linf", (0, "1/510", "1/255", "2/255", "4/255", "8/255", "16/255", 0.1), ("8/255", 0.1)
        ),
        "l2": _table("l2", (0, 0.25, 0.5, 1, 1.5, 2, 3), (1.5,)),
        "l1": _table("l1", (0, 2, 4, 8, 12, 16), (8,)),
        "l0": _table("l0", (0, 1, 2, 4, 8, 16, 32), (8,)),
    },
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
}


_ANY_IMAGES: Mapping[str, ThreatTable] = {
    "spatial": _table("spatial", (0, 0.25, 0.5, 1), (1,)),
    "corruption": _table("corruption", (0, 1, 2, 3, 4, 5), (5,)),
}
"""Threats in units of their own, which suit images of every kind."""


def threat_table(data: str, norm: str, *, eps: str | float | None = None) -> ThreatTable:
    """Return the radii for a data set and norm; with `eps`, a quarter, a half and the whole of it.

    Raises `InputError` where the data set has no table for the norm and no `eps` is given, or eps is 0.

    >>> threat_table("fashion-mnist", "linf").headlines[1]
    0.1
    """
    if eps is not None:
        radius = parse_radius(eps)
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
            fix="--eps 8/255" if norm == "linf" else "--eps 1.5",
        )
    return table


def _severities(most: float) -> ThreatTable:
    if most not in (1, 2, 3, 4, 5):
        raise InputError("a severity from 1 to 5", got=f"{most:g}", fix="--eps 5")
    return ThreatTable("corruption", tuple(float(s) for s in range(int(most) + 1)), (most,))
