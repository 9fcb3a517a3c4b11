"""Objectives by name, and what each of them takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn

from robustgeom.models.parts import Block
from robustgeom.registry import Registry, needs_of, settings_of
from robustgeom.threat import ThreatModel

__all__ = ["OBJECTIVES", "OVER_FRAMES", "objective_needs", "objective_settings", "try_objective"]

_NAMES = (
    "adaad",
    "adversarial_mmcr",
    "ard",
    "barlow_twins",
    "dfa",
    "fast_at",
    "free_at",
    "gevb",
    "gradient_norm",
    "iad",
    "kd_clean",
    "label_smoothing",
    "linear_probe",
    "logit_squeezing",
    "mart",
    "mmcr",
    "noise_augmented",
    "pgd_at",
    "rslad",
    "simclr",
    "standard",
    "trades",
    "wave_contrast",
    "wave_mmcr",
)

OVER_FRAMES = frozenset({"wave_contrast", "wave_mmcr"})
"""Objectives that take clips (n, t, h, w) in place of images."""

OBJECTIVES = Registry("objective", {name: f"robustgeom.training.{name}:{name}" for name in _NAMES})


def objective_settings(name: str) -> dict[str, Any]:
    """Return the settings of an objective with their defaults; raises `UnknownNameError`.

    >>> objective_settings("label_smoothing")
    {'smoothing': 0.1}
    """
    return settings_of(OBJECTIVES[name])


def objective_needs(name: str) -> frozenset[str]:
    """Return what the loop must give an objective, of generator, threat, memory and teacher; raises `UnknownNameError`.

    >>> sorted(objective_needs("free_at"))
    ['generator', 'memory', 'threat']
    """
    return needs_of(OBJECTIVES[name])


def try_objective(name: str, threat: ThreatModel, arguments: Mapping[str, Any]) -> None:
    """Ask an objective for its loss, or its first one, on a linear toy; raises what it makes of bad arguments.

    >>> try_objective("label_smoothing", ThreatModel("linf", 0), {"smoothing": 2})
    Traceback (most recent call last):
    ...
    robustgeom.errors.InputError: expected 0 <= smoothing < 1, got 2; try smoothing=0.1
    """
    with torch.random.fork_rng(devices=[]):
        given = {"threat": threat, "generator": Generator().manual_seed(0), "memory": {}}
        given |= {"teacher": nn.Sequential(nn.Flatten(), nn.Linear(4, 2))}
        wanted = {key: given[key] for key in objective_needs(name)}
        inputs, labels = (
            torch.full((2, 2, 2, 1), 0.5),
            torch.tensor([0, 1]),
        )  # images, and clips of two frames
        found = OBJECTIVES[name](_Toy(4, 2), inputs, labels, **wanted, **arguments)
    if not isinstance(found, Tensor):
        next(iter(found))


class _Toy(nn.Linear):
    """A linear network, which is also one block, and an encoder with a probe: what every objective can do with."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, classes)
        self.projector = nn.Identity()

    def features(self, x: Tensor) -> Tensor:
        """Return the inputs, flat."""
        return x.flatten(1)

    embed = features

    @property
    def probe(self) -> nn.Linear:
        """A read-out."""
        return nn.Linear(self.in_features, self.out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes)."""
        return super().forward(x.flatten(1))

    @property
    def blocks(self) -> list[Block]:
        """The read-out alone."""
        return [Block(nn.Linear(self.in_features, self.out_features))]

    def entering(self, x: Tensor) -> Tensor:
        """Return what the block takes."""
        return x.flatten(1)

    def between(self, index: int, a: Tensor) -> Tensor:
        """Return what the block takes."""
        del index
        return a
