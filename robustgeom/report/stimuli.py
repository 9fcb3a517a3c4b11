"""What stages make of single stimuli, read from records with analyses: widths, dimensions, overlaps; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustgeom.records import RunRecord
from robustgeom.report.findings import NotTestedError
from robustgeom.report.tables import INPUT

__all__ = ["ATTACK", "NOISE", "OWN", "Stimuli", "stimuli", "with_stimuli"]

OWN, ATTACK, NOISE = "own-noise", "attack", "noise"
WIDTH = "width"
STILL = 1e-4  # of a centre's norm: what rounding alone moves
Array = NDArray[np.float64]
Place = tuple[str, str, float]  # stage, condition, radius


@dataclass(frozen=True)
class Stimuli:
    """Measures of single stimuli in several networks of one recipe (seeds), averaged stimulus by stimulus.

    Stages are those that all networks list, in order, the logits last. `width` is radius times the root of dimension.
    """

    records: tuple[RunRecord, ...]

    @cached_property
    def tables(self) -> list[dict[Place, dict[str, dict[str, float]]]]:
        """Each network's measures by place, measure and stimulus."""
        return [_table(record) for record in self.records]

    @property
    def stages(self) -> list[str]:
        """The stages in order, the logits last, without the input."""
        listed = self.records[0].header.model.stages
        return list(listed) or [s for s in dict.fromkeys(p[0] for p in self.tables[0]) if s != INPUT]

    def radii(self, condition: str = ATTACK) -> list[float]:
        """Return the radii above 0 at which all networks were analysed under a condition, ascending."""
        each = [{eps for _, c, eps in table if c == condition and eps > 0} for table in self.tables]
        return sorted(set.intersection(*each))

    @property
    def noisy(self) -> list[str]:
        """The stages behind the noise: those at which a network's own noise moves an image."""
        found = {stage: self.known("radius", stage, OWN) for stage in self.stages}
        return [stage for stage, radii in found.items() if radii is not None and radii.mean() > STILL]

    def values(self, measure: str, stage: str, condition: str, eps: float = 0.0) -> Array:
        """Return a measure of each stimulus (k,), in the order of their names, averaged over the networks.

        Raises `NotTestedError` where a network lacks it, or stimuli differ.
        """
        each = [_named(t.get((stage, condition, eps), {}), measure) for t in self.tables]
        for record, found in zip(self.records, each, strict=True):
            if len(found) < 2 or found.keys() != each[0].keys():
                place = f"{condition}{f' at {eps:.4g}' if eps else ''}"
                raise NotTestedError(f"{record.name} has no {measure} of {place} versions at {stage}")
        return np.array([np.mean([found[name] for found in each]) for name in sorted(each[0])])

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
    return Stimuli(tuple(records))


def with_stimuli(record: RunRecord) -> bool:
    """Return whether analyses of single stimuli came with a record."""
    return "stimuli" in record.tables and record.tables["stimuli"].num_rows > 0


def _named(found: dict[str, dict[str, float]], measure: str) -> dict[str, float]:
    if measure != WIDTH:
        return found.get(measure, {})
    radius, dimension = found.get("radius", {}), found.get("dimension", {})
    return {name: radius[name] * dimension[name] ** 0.5 for name in radius.keys() & dimension.keys()}


def _table(record: RunRecord) -> dict[Place, dict[str, dict[str, float]]]:
    columns: dict[str, list[Any]] = record.tables["stimuli"].to_pydict()
    places = list(zip(columns["stage"], columns["condition"], columns["eps"], strict=True))
    measures = [name for name in columns if name not in ("stage", "condition", "eps", "stimulus")]
    found: dict[Place, dict[str, dict[str, float]]] = {}
    for i, (place, name) in enumerate(zip(places, columns["stimulus"], strict=True)):
        for measure in measures:
            value = columns[measure][i]
            if value is not None and np.isfinite(value):
                found.setdefault(place, {}).setdefault(measure, {})[name] = value
    return found
