"""Many networks on one page: which differ by their seed alone, how each was trained, which are shown one by one."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robustgeom.records import ModelInfo
from robustgeom.report.compare import Comparison, ModelResult
from robustgeom.report.findings import is_standard, met
from robustgeom.report.tables import analyzer_rows
from robustgeom.stats import Interval, bootstrap, wilson

__all__ = ["MANY", "Group", "beside", "detailed", "groups", "trained"]

MANY = 12  # networks; of more, seeds are drawn together and only some are shown one by one
SEED = re.compile(r"-s\d+$")


@dataclass(frozen=True)
class Group:
    """Networks of one recipe that differ by their training seed alone, by the name without it."""

    name: str
    models: tuple[ModelResult, ...]

    @property
    def training(self) -> str:
        """How they were trained, in a few words."""
        return trained(self.models[0].record.header.model)

    @property
    def doubt(self) -> str:
        """Why their figures are not to be relied on, in a word; empty where all are trustworthy."""
        return next((m.verdict.word for m in self.models if not m.verdict.trustworthy), "")

    @property
    def label(self) -> str:
        """The name, with the doubt about it."""
        return f"{self.name} ({self.doubt})" if self.doubt else self.name

    @property
    def members(self) -> str:
        """The names of all, which a filter finds the group by."""
        return " ".join(m.name for m in self.models)

    @property
    def radii(self) -> list[float]:
        """The radii that all of them reached, 0 first."""
        curves = [{r for r, _ in m.curve} for m in self.models]
        return sorted({0.0}.union(set.intersection(*curves)))

    def share(self, radius: float) -> Interval:
        """Return the share of samples right up to `radius`, seeds averaged, with its interval over samples.

        Wilson's for one network, and where seeds agree on all samples; else a bootstrap of the mean over seeds.
        """
        mask, count = self._mean(radius), len(self.models)
        if count == 1 or mask.min() == mask.max():
            return wilson(round(float(mask.sum())), len(mask))
        return bootstrap(mask)

    def value(self, radius: float) -> float:
        """Return that share alone."""
        return float(self._mean(radius).mean())

    def _mean(self, radius: float) -> NDArray[np.float64]:
        records = [m.record for m in self.models]
        masks: NDArray[np.float64] = np.mean(
            [r.robust_mask(radius) if radius else r.clean_mask() for r in records], axis=0
        )
        return masks


def trained(model: ModelInfo) -> str:
    """Say how a network was trained, as far as its record knows.

    >>> trained(ModelInfo(name="a", reference="a", digest="", parameters=1, noise="none", family="f"))
    'standard'
    """
    if model.teacher is not None:
        return f"taught by {model.objective}"
    if model.family == "user" and not model.objective and model.threat == "none":
        return "not declared"
    noise = " with noise" if model.rho > 0 or model.noise != "none" else ""
    if not is_standard(model):
        taught = model.objective.removesuffix(", then linear_probe")  # the probe is all that reads an encoder
        return f"{'adversarial' if model.threat != 'none' else taught}{noise}"
    return f"standard{noise}"


def groups(comparison: Comparison) -> list[Group]:
    """Return the networks by recipe, those whose names differ by -sN alone and that were trained alike together."""
    found: dict[str, list[ModelResult]] = {}
    for model in comparison.models:
        found.setdefault(SEED.sub("", model.name), []).append(model)
    return [group for name, own in found.items() for group in _grouped(name, own)]


def beside(comparison: Comparison, inside: Collection[str]) -> list[Group]:
    """Return the networks to show beside some that are called `inside`: the baseline, the most robust, other families.

    So a network of one's own appears wherever networks of a family are drawn.
    """
    whole = [g for g in groups(comparison) if not any(m.partial for m in g.models)]
    names = {g.name: {m.name for m in g.models} for g in whole}
    families = {m.record.header.model.family for g in whole for m in g.models if m.name in inside}
    outside = [g for g in whole if not names[g.name] & set(inside)]
    best = max((g for g in outside if not g.doubt), key=lambda g: g.value(comparison.strictest), default=None)
    return [
        g
        for g in outside
        if g is best
        or comparison.baseline in names[g.name]
        or g.models[0].record.header.model.family not in families
    ]


def detailed(comparison: Comparison) -> Sequence[ModelResult]:
    """Return the networks to show one by one: all, or of many one a recipe, those first whose geometry was measured.

    The baseline and networks that nobody declared, such as yours, are always among them.
    """
    if len(comparison.models) <= MANY:
        return comparison.models
    firsts = {id(g.models[0]) for g in groups(comparison)}
    asked = [m for m in comparison.models if m.name == comparison.baseline or _is_guest(m)]
    measured = [m for m in comparison.models if id(m) in firsts and analyzer_rows(m.record)]
    others = measured or list(comparison.models)
    kept = {id(m) for m in [*asked, *(m for m in others if m not in asked)][:MANY]}
    return [m for m in comparison.models if id(m) in kept]


def _is_guest(model: ModelResult) -> bool:
    return model.record.header.model.family == "user"


def _grouped(name: str, models: list[ModelResult]) -> list[Group]:
    """Return one group, or each network by itself where they differ by more than a seed, or in what they met."""
    infos = [m.record.header.model for m in models]
    several = len({i.seed for i in infos}) == len({i.digest for i in infos}) == len(models) > 1
    if several and len(set(map(_recipe, models))) == 1:
        return [Group(name, tuple(models))]
    return [Group(m.name, (m,)) for m in models]


def _recipe(model: ModelResult) -> tuple[object, ...]:
    """Return what networks of one group have in common; of networks that nobody declared, what none shares."""
    known = model.record.header.model
    if known.family == "user":
        return (known.digest,)
    how = (
        known.family,
        known.objective,
        known.threat,
        known.rho,
        known.noise,
        known.front_end,
        known.parameters,
    )
    taught: tuple[object, ...] = ()
    if (teacher := known.teacher) is not None:
        names = (SEED.sub("", teacher.model), SEED.sub("", teacher.other))
        taught = (*names, teacher.settings, *teacher.manipulations)
    return (*how, *taught, *met(model.record), model.status, *model.robust)
