"""Names that answer with did-you-mean, and the measures that analyzers report; no torch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from robustgeom.errors import InternalError, unknown

__all__ = ["MEASURES", "Measure", "Registry", "needs_of", "settings_of"]


class Registry(Mapping[str, Any]):
    """Names that resolve lazily to "module:attribute"; a duplicate name is refused.

    >>> registry = Registry("number", {"pi": "math:pi"})
    >>> round(registry["pi"], 2)
    3.14
    """

    def __init__(self, kind: str, targets: Mapping[str, str]) -> None:
        self._kind = kind
        self._targets: dict[str, str] = {}
        for name, target in targets.items():
            self.add(name, target)

    def add(self, name: str, target: str) -> None:
        """Add `name` for "module:attribute"; raises `InternalError` where the name is taken."""
        if name in self._targets:
            raise InternalError(f"{self._kind} {name!r} is registered twice")
        self._targets[name] = target

    def __getitem__(self, name: str) -> Any:
        if name not in self._targets:
            raise unknown(self._kind, name, self._targets)
        module, attribute = self._targets[name].split(":")
        return getattr(import_module(module), attribute)

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)


def settings_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return what a recipe may set: a function's keyword-only arguments that have defaults, with them.

    >>> settings_of(lambda x, *, generator, steps=10: x)
    {'steps': 10}
    """
    return {n: p.default for n, p in _keywords(function).items() if p.default is not p.empty}


def needs_of(function: Callable[..., Any]) -> frozenset[str]:
    """Return what a caller must give: a function's keyword-only arguments without defaults.

    >>> sorted(needs_of(lambda x, *, generator, steps=10: x))
    ['generator']
    """
    return frozenset(n for n, p in _keywords(function).items() if p.default is p.empty)


def _keywords(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    found = inspect.signature(function).parameters
    return {n: p for n, p in found.items() if p.kind is p.KEYWORD_ONLY}


@dataclass(frozen=True)
class Measure:
    """What an analyzer's number means: unit, range, and which way is better (None: neither)."""

    name: str
    unit: str
    low: float
    high: float
    higher_is_better: bool | None
    meaning: str


MEASURES: dict[str, Measure] = {
    m.name: m
    for m in (
        Measure("capacity", "manifolds per feature", 0, 2, True, "mean-field manifold capacity"),
        Measure("radius", "centre norms", 0, math.inf, False, "manifold radius R_M over its centre's norm"),
        Measure("dimension", "dimensions", 0, math.inf, False, "manifold dimension D_M"),
        Measure(
            "glue_capacity",
            "manifolds per feature",
            0,
            math.inf,
            True,
            "capacity, each class against the rest",
        ),
        Measure("one_vs_rest_capacity", "manifolds per feature", 0, math.inf, True, "capacity of one class"),
        Measure("effective_dimension", "dimensions", 0, math.inf, False, "GLUE dimension D_eff"),
        Measure("effective_radius", "anchor centre norms", 0, math.inf, False, "GLUE radius R_eff"),
        Measure("utility", "share", 0, math.inf, None, "GLUE utility Psi_eff"),
        Measure("center_alignment", "absolute cosine", 0, 1, None, "between anchor centres"),
        Measure("axis_alignment", "absolute cosine", 0, 1, None, "between anchors' axis parts"),
        Measure(
            "center_axis_alignment", "absolute cosine", 0, 1, None, "between anchor centres and axis parts"
        ),
        Measure("center_cosine", "cosine", -1, 1, None, "between two classes' anchor centres"),
        Measure("glue_floor", "manifolds per feature", 0, math.inf, None, "capacity of inseparable points"),
        Measure(
            "shuffled_capacity", "manifolds per feature", 0, math.inf, None, "points dealt out at random"
        ),
        Measure("degenerate_draws", "share", 0, 1, None, "draws in which every point binds"),
        Measure("unique_draws", "share", 0, 1, None, "draws with unique multipliers"),
        Measure(
            "correlated_capacity", "manifolds per feature", 0, math.inf, True, "random labels, raw features"
        ),
        Measure(
            "correlated_floor", "manifolds per feature", 0, math.inf, None, "capacity of inseparable points"
        ),
        Measure("simulated_capacity", "manifolds per feature", 0, math.inf, True, "by trial, with a bias"),
        Measure("participation_ratio", "dimensions", 1, math.inf, None, "of the covariance spectrum"),
        Measure("explained_variance_dimension", "dimensions", 1, math.inf, None, "holds 90 % of variance"),
        Measure("spectrum_exponent", "exponent", -math.inf, math.inf, None, "power law of the spectrum"),
        Measure("two_nn_dimension", "dimensions", 0, math.inf, None, "local, from two neighbours"),
        Measure("mle_dimension", "dimensions", 0, math.inf, None, "local, from up to 20 neighbours"),
        Measure(
            "prediction_error",
            "share of label power",
            0,
            math.inf,
            False,
            "ridge error in theory, at 60 %",
        ),
        Measure("error_radius", "share of label power", 0, math.inf, False, "R_em of that error"),
        Measure("error_dimension", "modes", 0, math.inf, None, "D_em of that error"),
        Measure("cloud_center_alignment", "absolute cosine", 0, 1, None, "between class means"),
        Measure("cloud_axis_alignment", "overlap", 0, 1, None, "of leading covariances"),
        Measure("cloud_center_axis_alignment", "share", 0, 1, None, "variance along another's centre"),
        Measure("width", "centre norms", 0, math.inf, False, "radius times the root of dimension"),
        Measure("separability", "accuracy", 0, 1, None, "of a line between changed and unchanged versions"),
        Measure("overlap", "share", 0, 2, None, "of changed and unchanged versions, 2 (1 - separability)"),
        Measure(
            "identification", "accuracy", 0, 1, True, "of a linear read-out that names a point's manifold"
        ),
        Measure("shift", "standard deviations", -math.inf, math.inf, None, "between those versions' means"),
        Measure("graph_strength", "absolute correlation", 0, 1, None, "mean over pairs of units"),
        Measure(
            "graph_strength_chance", "absolute correlation", 0, 1, None, "the same of permuted responses"
        ),
        Measure("weighted_clustering", "share", 0, 1, None, "of all correlations, in units of the largest"),
        Measure("controllability", "trace", 1, math.inf, None, "average controllability, mean over units"),
        Measure("class_modularity", "share", -1, 1, None, "of units by the class that they prefer"),
        *(
            Measure(f"{name}{end}", "share", low, 1, None, f"{meaning}{of}")
            for name, low, meaning in (
                ("graph_modularity", -1, "of the communities found"),
                ("graph_participation", 0, "mean participation coefficient"),
                ("graph_efficiency", 0, "global efficiency of edges"),
                ("local_efficiency", 0, "efficiency among neighbours"),
                ("graph_clustering", 0, "share of closed pairs of neighbours"),
                ("hub_density", 0, "joined pairs of the tenth of units with most edges"),
            )
            for end, of in (("", ""), ("_chance", ", of rewired graphs"))
        ),
        Measure(
            "small_world", "ratio", 0, math.inf, None, "clustering times efficiency, over those of chance"
        ),
        Measure("rich_club", "ratio", 0, math.inf, None, "hub density over that of chance"),
        Measure("community_agreement", "share", 0, 1, None, "mutual information with the unchanged graph's"),
        Measure("edge_change", "correlation", 0, 2, None, "root mean square difference of edges"),
        Measure(
            "strength_change", "absolute correlation", -1, 1, None, "of mean edges, changed minus unchanged"
        ),
        Measure("max_logit", "logits", -math.inf, math.inf, None, "largest logit minus the mean logit"),
        Measure("logit_gap", "logits", 0, math.inf, None, "largest logit minus the second largest"),
        Measure("mean_gap", "logits", 0, math.inf, None, "mean of largest logit minus each logit"),
        Measure("confidence", "probability", 0, 1, None, "largest softmax probability"),
        Measure("entropy", "nats", 0, math.inf, None, "entropy of the softmax"),
        Measure("margin", "logits", -math.inf, math.inf, True, "true class's logit minus the best other"),
        Measure(
            "calibration_error", "probability", 0, 1, False, "expected calibration error, 15 equal-width bins"
        ),
        Measure("adaptive_calibration_error", "probability", 0, 1, False, "over 15 bins of as many samples"),
        Measure("brier_score", "squared probability", 0, 2, False, "distance of the softmax from the label"),
        Measure("best_temperature", "ratio", 0, math.inf, None, "above 1 the network is too sure"),
        Measure("overconfidence", "probability", 0, 1, False, "mean confidence of wrong predictions"),
        Measure("underconfidence", "probability", 0, 1, False, "mean of 1 - confidence of right predictions"),
    )
}
