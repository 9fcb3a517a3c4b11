"""What answers a failure check: attacks that do not depend on what it found wrong."""

from __future__ import annotations

from typing import Any

from robustgeom.harness.attacking import Battle
from robustgeom.harness.failures._case import BALLS
from robustgeom.harness.failures._stand_ins import pass_through, surrogate
from robustgeom.harness.spec import AttackSpec
from robustgeom.models.variants import variant_names
from robustgeom.records import CheckResult

__all__ = ["ANSWERS", "remedies"]

_LONG = 100  # steps
ANSWERS = {
    "gradients": ("loss", "stand-in", "search"),
    "gradient agreement": ("stand-in", "search"),
    "unstable predictions": ("steps", "stand-in", "search"),
    "dynamic forward": ("stand-in", "search"),
    "repeatable": ("noise",),
    "silent success": ("steps",),
    "single step": ("steps", "search"),
    "random search": ("steps", "stand-in", "search"),
    "EOT convergence": ("noise",),
    "transfer": ("stand-in",),
    "black box": ("search",),
    "logit scale": ("loss",),
    "logit saturation": ("loss",),
    "unbounded radius": ("steps", "search"),
    "planted example": ("steps", "search"),
    "falls with radius": ("steps",),
    "steps doubled": ("steps",),
    "incomplete optimisation": ("steps",),
}


def remedies(checks: list[CheckResult], battle: Battle) -> dict[str, tuple[AttackSpec, list[str]]]:
    """Return the attacks that answer the checks at warn or fail, by name, each with the checks that it answers.

    None under spatial changes, corruptions and l0, where there are no failure checks either.
    """
    found: dict[str, tuple[AttackSpec, list[str]]] = {}
    if battle.table.norm not in BALLS:
        return found
    for check in checks:
        for kind in ANSWERS.get(check.name, ()) if check.status != "pass" else ():
            for spec in _attacks(kind, battle):
                found.setdefault(spec.name, (spec, []))[1].append(check.name)
    return found


def _attacks(kind: str, battle: Battle) -> list[AttackSpec]:
    if kind == "loss":
        return [_spec("margin", "apgd", loss="margin"), _spec("scaled-ce", "apgd", loss="scaled-ce")]
    if kind == "steps":
        return [_spec("margin", "apgd", loss="margin"), _spec("targets", "apgd_t", targets=4, order="linear")]
    if kind == "search":
        square = AttackSpec(
            name="remedy: square", attack="square", settings={"queries": 5000, "rescale": True}
        )
        return [square] if battle.table.norm in ("linf", "l2") else []
    if kind == "noise":
        return _noise(battle)
    sources = {"pass-through": pass_through(battle), "transfer": surrogate(battle)}
    return [
        _spec(n, "apgd", source=source, loss="margin") for n, source in sources.items() if source is not None
    ]


def _noise(battle: Battle) -> list[AttackSpec]:
    most = {"steps": 50, "loss": "margin", "eot_max": 8 * battle.eot}
    off = [_spec("noise-off", "apgd", source="noise-off", loss="margin")]
    return [
        AttackSpec(name="remedy: more draws", attack="apgd", settings=most),
        *(off if "noise-off" in variant_names(battle.subject.module) else []),
    ]


def _spec(name: str, attack: str, *, source: str | None = None, **settings: Any) -> AttackSpec:
    return AttackSpec(
        name=f"remedy: {name}", attack=attack, settings={"steps": _LONG, **settings}, source=source
    )
