"""What answers a failure check: attacks that do not depend on what it found wrong."""

from __future__ import annotations

from typing import Any

from robustgeom.harness.attacking import Battle
from robustgeom.harness.failures._case import BALLS, GRADIENT_FREE
from robustgeom.harness.failures._stand_ins import pass_through, soft_steps, surrogate
from robustgeom.harness.failures.variants import untried
from robustgeom.harness.spec import AttackSpec
from robustgeom.models.variants import variant_names
from robustgeom.records import CheckResult

__all__ = ["ANSWERS", "remedies", "runs"]

_LONG = 100  # steps
_RUNS = 4  # of a search, at most
ANSWERS = {
    "gradients": ("loss", "stand-in", "search"),
    "hard gates": ("variant", "soft steps", "search"),
    "gradient agreement": ("stand-in", "search"),
    "unstable predictions": ("steps", "stand-in", "search"),
    "dynamic forward": ("stand-in", "search"),
    "repeatable": ("noise",),
    "silent success": ("steps",),
    "single step": ("steps", "search"),
    "random search": ("steps", "stand-in", "search"),
    "EOT convergence": ("noise",),
    "white box": ("steps",),
    "variants": ("variant",),
    "transfer": ("stand-in",),
    "black box": ("steps", "stand-in", "search"),
    "logit scale": ("loss",),
    "logit saturation": ("loss",),
    "tied runners-up": ("loss",),
    "unbounded radius": ("steps", "search"),
    "planted example": ("steps", "search"),
    "falls with radius": ("steps",),
    "steps doubled": ("steps",),
    "incomplete optimisation": ("steps",),
}


def remedies(checks: list[CheckResult], battle: Battle) -> dict[str, tuple[AttackSpec, list[str]]]:
    """Return the attacks that answer the checks at warn or fail, by name, each with the checks that it answers.

    A search comes last, so that what it fells had met every gradient. None under spatial changes, corruptions and l0,
    where there are no failure checks either.
    """
    found: dict[str, tuple[AttackSpec, list[str]]] = {}
    if battle.table.ball not in BALLS:
        return found
    fired = [check.name for check in checks if check.status != "pass"]
    for kind in ("loss", "noise", "variant", "soft steps", "stand-in", "steps", "search"):
        answered = [name for name in fired if kind in ANSWERS.get(name, ())]
        for spec in _attacks(kind, battle) if answered else ():
            names = found.setdefault(spec.name, (spec, []))[1]
            names += [name for name in answered if name not in names]
    return found


def runs(spec: AttackSpec) -> list[AttackSpec]:
    """Return a remedy's runs: a search is repeated with other draws for as long as it fells samples, up to four."""
    if spec.attack not in GRADIENT_FREE:
        return [spec]
    again = [spec.model_copy(update={"name": f"{spec.name} again ({i})"}) for i in range(2, _RUNS + 1)]
    return [spec, *again]


def _attacks(kind: str, battle: Battle) -> list[AttackSpec]:
    if kind == "loss":
        return [_spec("margin", "apgd", loss="margin"), _spec("scaled-ce", "apgd", loss="scaled-ce")]
    if kind == "steps":
        return [_spec("margin", "apgd", loss="margin"), _spec("targets", "apgd_t", targets=4, order="linear")]
    if kind == "search":
        square = AttackSpec(
            name="remedy: square", attack="square", settings={"queries": 5000, "rescale": True}
        )
        return [square] if battle.table.ball in ("linf", "l2") else []
    if kind == "noise":
        return _noise(battle)
    if kind == "variant":
        names = untried(battle.subject.module, battle.suite.attacks)
        return [_spec(f"variant {name}", "apgd", source=name, loss="margin") for name in names]
    if kind == "soft steps":
        return _along({"soft steps": soft_steps(battle)})
    return _along({"pass-through": pass_through(battle), "transfer": surrogate(battle)})


def _along(sources: dict[str, str | None]) -> list[AttackSpec]:
    """Return an attack along each source that there is."""
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
