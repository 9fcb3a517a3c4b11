"""What stages make of single stimuli, read from records with analyses: widths, dimensions, overlaps; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustgeom.records import RunRecord
from robustgeom.report.findings import NotTestedError
from robustgeom.report.remembered import once_per_record
from robustgeom.report.tables import INPUT

__all__ = ["ATTACK", "CHANGES", "NOISE", "OWN", "Stimuli", "on_the_same", "stimuli", "with_stimuli"]

OWN, ATTACK, NOISE = "own-noise", "attack", "noise"
CHANGES = {
    "views": "random views",
    "translations": "translations by up to a tenth of a side",
    "contrasts": "other contrasts",
}
"""Conditions in which stimuli are changed as no attack or noise does, and what that is in words."""
WIDTH = "width"
STILL = 1e-4  # of a centre's norm: what rounding alone moves
Array = NDArray[np.float64]
Table = dict[tuple[str, str, float], dict[str, dict[str, float]]]
"""Values by stage, condition and radius; then by measure; then by stimulus."""


@dataclass(frozen=True)
class Stimuli:
    """Measures of single stimuli in several networks of one recipe (seeds), averaged stimulus by stimulus.

    `names` are the stimuli that are measured under every condition, in the order of all arrays. Stages are those that
    the networks list, in order, the logits last. `width` is radius times the root of dimension.
    """

    records: tuple[RunRecord, ...]
    tables: tuple[Table, ...]
    names: tuple[str, ...]

    @property
    def stages(self) -> list[str]:
        """The stages in order, the logits last, without the input."""
        listed = self.records[0].header.model.stages
        return list(listed) or [s for s in dict.fromkeys(p[0] for p in self.tables[0]) if s != INPUT]

    @property
    def hidden(self) -> str:
        """The last stage before the logits."""
        return self.stages[-2] if len(self.stages) > 1 else self.stages[-1]

    @property
    def noisy(self) -> list[str]:
        """The stages behind the noise: those at which a network's own noise moves a stimulus."""
        found = {stage: self.known("radius", stage, OWN) for stage in self.stages}
        return [stage for stage, radii in found.items() if radii is not None and radii.mean() > STILL]

    def radii(self, condition: str = ATTACK) -> list[float]:
        """Return the radii above 0 at which all networks were analysed under a condition, ascending."""
        each = [{eps for _, c, eps in table if c == condition and eps > 0} for table in self.tables]
        return sorted(set.intersection(*each))

    def values(self, measure: str, stage: str, condition: str, eps: float = 0.0) -> Array:
        """Return a measure of each stimulus (k,), in the order of `names`, averaged over the networks.

        Raises `NotTestedError` where a network lacks it.
        """
        each = [_named(t.get((stage, condition, eps), {}), measure) for t in self.tables]
        for record, found in zip(self.records, each, strict=True):
            if not set(self.names) <= found.keys():
                where = f"{condition}{f' at {eps:.4g}' if eps else ''}"
                raise NotTestedError(f"{record.name} has no {measure} of {where} versions at {stage}")
        table: Array = np.array([[found[name] for name in self.names] for found in each], dtype=np.float64)
        mean: Array = table.mean(axis=0)
        return mean

    def known(self, measure: str, stage: str, condition: str, eps: float = 0.0) -> Array | None:
        """Return `values`, or None where they are not there."""
        try:
            return self.values(measure, stage, condition, eps)
        except NotTestedError:
            return None


def stimuli(records: Sequence[RunRecord]) -> Stimuli:
    """Return what records of one recipe have of single stimuli; raises `NotTestedError` where one has nothing."""
    bare = [r.name for r in records if not with_stimuli(r)]
    if bare:
        few = ", ".join(bare[:4]) + (f" and {len(bare) - 4} others" if len(bare) > 4 else "")
        raise NotTestedError(f"needs analyses of single stimuli (`robustgeom study`) of {few}")
    tables = tuple(map(_table, records))
    return Stimuli(tuple(records), tables, _shared([_stimuli_of(t) for t in tables], records[0].name))


def on_the_same(*groups: Stimuli) -> list[Stimuli]:
    """Return the groups with the stimuli that all have, so that their arrays pair stimulus by stimulus."""
    names = _shared([set(g.names) for g in groups], " and ".join(g.records[0].name for g in groups))
    return [replace(g, names=names) for g in groups]


def with_stimuli(record: RunRecord) -> bool:
    """Return whether analyses of single stimuli came with a record."""
    return "stimuli" in record.tables and record.tables["stimuli"].num_rows > 0


def _shared(each: list[set[str]], whose: str) -> tuple[str, ...]:
    names = tuple(sorted(set.intersection(*each)))
    if len(names) < 2:
        raise NotTestedError(f"needs two stimuli or more that were measured in all of {whose}")
    return names


def _stimuli_of(table: Table) -> set[str]:
    """Return the stimuli that were measured under every condition and radius."""
    found: dict[tuple[str, float], set[str]] = {}
    for (_, condition, eps), measures in table.items():
        found.setdefault((condition, eps), set()).update(*measures.values())
    return set.intersection(*found.values())


def _named(found: dict[str, dict[str, float]], measure: str) -> dict[str, float]:
    if measure != WIDTH:
        return found.get(measure, {})
    radius, dimension = found.get("radius", {}), found.get("dimension", {})
    return {name: radius[name] * dimension[name] ** 0.5 for name in radius.keys() & dimension.keys()}


@once_per_record
def _table(record: RunRecord) -> Table:
    columns: dict[str, list[Any]] = record.tables["stimuli"].to_pydict()
    places = list(zip(columns["stage"], columns["condition"], columns["eps"], strict=True))
    measures = [name for name in columns if name not in ("stage", "condition", "eps", "stimulus")]
    found: Table = {}
    for i, (place, name) in enumerate(zip(places, columns["stimulus"], strict=True)):
        for measure in measures:
            value = columns[measure][i]
            if value is not None and np.isfinite(value):
                found.setdefault(place, {}).setdefault(measure, {})[name] = value
    return found
