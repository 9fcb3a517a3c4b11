"""What every objective does first: refuse bad input and bad settings."""

from __future__ import annotations

import math

from torch import Tensor

from robustgeom import checks
from robustgeom.errors import InputError
from robustgeom.threat import Norm, ThreatModel

__all__ = ["admit", "counts", "shares", "sizes", "temperatures"]


def admit(inputs: Tensor, labels: Tensor, threat: ThreatModel, *norms: Norm) -> None:
    """Raise `InputError` on inputs outside the domain, labels that do not fit, and a norm not among `norms`."""
    if threat.norm not in norms:
        served = " or ".join(norms)
        raise InputError(f"a threat in {served}", got=threat.norm, fix="pgd_at, which serves linf, l2 and l1")
    checks.inputs(inputs, domain=threat.domain)
    checks.labels(labels, inputs)


def counts(**values: int) -> None:
    """Raise `InputError` on the first setting that is no whole number of at least 1.

    >>> counts(steps=10)
    """
    for name, value in values.items():
        if not isinstance(value, int) or value < 1:
            raise InputError(f"a whole number {name} >= 1", got=repr(value), fix=f"{name}=1")


def sizes(**values: float) -> None:
    """Raise `InputError` on the first setting that is no finite number of at least 0.

    >>> sizes(beta=6.0)
    """
    for name, value in values.items():
        if not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
            raise InputError(f"a finite {name} >= 0", got=repr(value), fix=f"{name}=0")


def shares(**values: float) -> None:
    """Raise `InputError` on the first setting that is no number from 0 to 1.

    >>> shares(hard=0.5)
    """
    sizes(**values)
    for name, value in values.items():
        if value > 1:
            raise InputError(f"0 <= {name} <= 1", got=f"{value:g}", fix=f"{name}=1")


def temperatures(**values: float) -> None:
    """Raise `InputError` on the first setting that is no finite number above 0.

    >>> temperatures(temperature=4.0)
    """
    sizes(**values)
    for name, value in values.items():
        if value == 0:
            raise InputError(f"{name} > 0", got="0", fix=f"{name}=1")
