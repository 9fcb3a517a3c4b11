"""What every attack does first: refuse bad input."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from robustgeom import checks
from robustgeom.errors import InputError
from robustgeom.threat import Norm, ThreatModel

__all__ = ["prepare"]


def prepare(
    inputs: Tensor, labels: Tensor, threat: ThreatModel, *, norms: Sequence[Norm], **counts: int
) -> tuple[Tensor, Tensor]:
    """Return detached inputs and int64 labels.

    Raises `InputError` on bad ones, on a norm that is not among the attack's `norms`, on counts below 1, and on
    radii for another number of samples.
    """
    if threat.norm not in norms:
        raise InputError(
            f"a threat in {' or '.join(norms)}, which this attack serves",
            got=threat.norm,
            fix=f"{norms[0]}, or an attack whose card lists {threat.norm}",
        )
    checks.inputs(inputs, domain=threat.domain)
    checks.labels(labels, inputs)
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{name} >= 1", got=str(value), fix=f"{name}=1")
    threat.radii(inputs)
    return inputs.detach(), labels.detach().long()
