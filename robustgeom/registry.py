"""Names that answer with did-you-mean, and the measures that analyzers report; no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from robustgeom.errors import InternalError, unknown

__all__ = ["MEASURES", "Measure", "Registry"]


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
        Measure("max_logit", "logits", -math.inf, math.inf, None, "largest logit minus the mean logit"),
        Measure("logit_gap", "logits", 0, math.inf, None, "largest logit minus the second largest"),
        Measure("mean_gap", "logits", 0, math.inf, None, "mean of largest logit minus each logit"),
        Measure("confidence", "probability", 0, 1, None, "largest softmax probability"),
        Measure("entropy", "nats", 0, math.inf, None, "entropy of the softmax"),
        Measure("margin", "logits", -math.inf, math.inf, True, "true class's logit minus the best other"),
        Measure(
            "calibration_error", "probability", 0, 1, False, "expected calibration error, 15 equal-width bins"
        ),
    )
}
