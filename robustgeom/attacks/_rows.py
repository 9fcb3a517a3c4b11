"""What an attack knows of the rows under attack, which shrinks with them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from robustgeom.threat import ThreatModel

__all__ = ["Rows"]


@dataclass
class Rows:
    """A dataclass whose tensors, also those in tuples and dictionaries, have one entry a row."""

    def keep(self, mask: Tensor) -> None:
        """Drop the rows where `mask` (n,) is false."""
        for item in fields(self):
            setattr(self, item.name, _kept(getattr(self, item.name), mask))


def _kept(value: Any, mask: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value[mask]
    if isinstance(value, ThreatModel):
        return value.take(mask)
    if isinstance(value, tuple):
        return tuple(_kept(v, mask) for v in value)
    if isinstance(value, dict):
        return {name: _kept(v, mask) for name, v in value.items()}
    return value
