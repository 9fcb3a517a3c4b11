"""Which function a suite's attack is: one of ours, one of your own, a corruption, or one of another library."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

from robustgeom.attacks import ATTACKS
from robustgeom.attacks._start import Randomness
from robustgeom.attacks._torchattacks import torchattack
from robustgeom.data.corruptions import CORRUPTIONS, corrupt
from robustgeom.errors import InputError
from robustgeom.harness.spec import AttackSpec
from robustgeom.refs import is_reference, resolve
from robustgeom.threat import ThreatModel

__all__ = ["TORCHATTACKS", "accepted", "find_attack", "is_own", "look_up"]

_OFFERED = {"generator": ..., "eot": ..., "source": ...}
CORRUPTION, TORCHATTACKS = "corruption:", "torchattacks:"


def is_own(spec: AttackSpec) -> bool:
    """Return whether the attack is a function of the user's, which gets one generator and plain batches."""
    return is_reference(spec.attack) and not spec.attack.startswith(CORRUPTION)


def find_attack(spec: AttackSpec) -> Callable[..., Any]:
    """Return the attack's function; raises `ReferenceNotFoundError`, or `InputError` where it is no function."""
    found = look_up(spec.attack)
    try:
        inspect.signature(found).bind(
            ..., ..., ..., threat=..., **spec.settings, **accepted(found, **_OFFERED)
        )
    except (TypeError, ValueError) as error:
        wanted = f"a function {spec.name}(model, inputs, labels, *, threat)"
        raise InputError(wanted, got=f"{spec.attack}: {error}", fix="that signature") from error
    return found


def look_up(reference: str) -> Callable[..., Any]:
    """Return the function that a suite's `attack` names; raises `UserError` where there is none."""
    attack = _look_up(reference)
    if not callable(attack):
        raise InputError(
            f"a function at {reference}", got=type(attack).__name__, fix="a function attack(model, ...)"
        )
    found: Callable[..., Any] = attack
    return found


def _look_up(reference: str) -> object:
    if reference.startswith(CORRUPTION):
        return _corruption(reference.removeprefix(CORRUPTION))
    if reference.startswith(TORCHATTACKS):
        return torchattack(reference.removeprefix(TORCHATTACKS))
    return resolve(reference) if is_reference(reference) else ATTACKS[reference]


def _corruption(name: str) -> Callable[..., Tensor]:
    """Return the corruption as an attack, which asks the model nothing; raises `UnknownNameError`."""
    CORRUPTIONS[name]

    def attack(
        model: object, inputs: Tensor, labels: Tensor, *, threat: ThreatModel, generator: Randomness = None
    ) -> Tensor:
        del model, labels
        severity = threat.eps
        if threat.norm != "corruption" or not isinstance(severity, float) or severity % 1:
            got = str(threat)
            raise InputError("a corruption of severity 1 to 5", got=got, fix='ThreatModel("corruption", 3)')
        return corrupt(name, inputs, int(severity), generator)

    return attack


def accepted(attack: Callable[..., Any], **settings: Any) -> dict[str, Any]:
    """Return the settings that the attack's signature takes."""
    parameters = inspect.signature(attack).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return settings
    return {name: value for name, value in settings.items() if name in parameters}
