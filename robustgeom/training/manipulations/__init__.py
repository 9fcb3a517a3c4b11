"""Manipulations of a teacher's logits by name: each keeps some of what they say and destroys the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator

from robustgeom.registry import Registry, needs_of

__all__ = ["MANIPULATIONS", "try_manipulation"]

_NAMES = (
    "class_gaussian",
    "class_mean",
    "match_gap",
    "match_gap_distribution",
    "mean_profile",
    "one_hot",
    "other_order",
    "permute_rest",
    "reverse_rest",
    "scale",
    "smoothed_label",
    "swap_profiles",
    "top_k",
    "uniform_rest",
)

MANIPULATIONS = Registry(
    "manipulation", {name: f"robustgeom.training.manipulations.{name}:{name}" for name in _NAMES}
)


def try_manipulation(name: str, arguments: Mapping[str, Any]) -> None:
    """Manipulate a toy of 10 classes; raises what the manipulation makes of bad arguments.

    >>> try_manipulation("top_k", {"k": 10})
    Traceback (most recent call last):
    ...
    robustgeom.errors.InputError: expected 1 <= k < 10, got 10; try k=2
    """
    toy = torch.eye(10)
    given: dict[str, Any] = dict.fromkeys(("reference", "other", "other_reference"), toy)
    given |= {"labels": torch.arange(10), "generator": Generator().manual_seed(0)}
    MANIPULATIONS[name](toy, **{key: given[key] for key in needs_of(MANIPULATIONS[name])}, **arguments)
