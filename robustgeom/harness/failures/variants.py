"""Gradients that the model itself offers in place of its own, and that the suite did not use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from robustgeom.harness.failures._case import Case
from robustgeom.harness.failures._grading import more_than_luck
from robustgeom.harness.spec import AttackSpec
from robustgeom.records import CheckResult

__all__ = ["untried", "variants"]

_RATE = 0.01
_STEPS = 10


def variants(case: Case) -> CheckResult | None:
    """Return how many standing samples fall to ten steps along a variant of the model's own: it should be none.

    A model that declares `variants` (the true slope where it cuts one off, a smooth stand-in) says where its own
    gradients may mislead. Those that an attack of the suite uses count as tried; without others there is no such check.
    """
    names = untried(case.battle.subject.module, case.attacks)
    if not names:
        return None
    rows = case.some(case.standing, len(names) * ((2 * _STEPS + 1) * case.draws + case.judging))
    fooled = {name: _fooled(case, rows, name) for name in names}
    worst = max(names, key=lambda name: fooled[name])
    text = f"gradients of the variant {worst} fool {fooled[worst]} of {len(rows)} samples that survived the suite"
    action = f"add an attack along it to the suite: source = {worst!r}"
    return more_than_luck("variants", fooled[worst], len(rows), _RATE, text, action)


def untried(model: nn.Module, attacks: Iterable[AttackSpec]) -> list[str]:
    """Return the variants in the model's own mapping that are no source of any of the attacks.

    >>> untried(nn.Linear(1, 1), [])
    []
    """
    own, used = getattr(model, "variants", {}), {spec.source for spec in attacks}
    return [name for name in own if name not in used] if isinstance(own, Mapping) else []


def _fooled(case: Case, rows: Tensor, name: str) -> int:
    settings = {"steps": _STEPS, "loss": "margin"}
    spec = AttackSpec(name=f"check: {name}", attack="pgd", settings=settings, source=name)
    return int(case.probe(spec, rows).sum())
