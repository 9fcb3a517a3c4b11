"""Changes to inputs: a gradient attack at the full radius, random noise of its norm, and shifts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robustgeom.attacks._start import draw
from robustgeom.attacks.pgd import pgd
from robustgeom.attacks.spatial import warp
from robustgeom.data.dataset import Dataset
from robustgeom.errors import InputError
from robustgeom.harness.subject import Subject
from robustgeom.harness.target import row_generators
from robustgeom.seeds import seed_of
from robustgeom.threat import ThreatModel, distance, project

__all__ = ["Attack", "Change", "SameNorm", "Shift"]

Change = Callable[[Dataset], Tensor]
"""From samples to their inputs (n, ...) changed; what is drawn depends on their ids, not on the batch."""


@dataclass(frozen=True)
class Attack:
    """PGD on the margin with every sample at the full radius for all steps, fooled or not.

    Inputs then differ by one treatment, not by when each sample fell.
    """

    subject: Subject
    threat: ThreatModel
    steps: int
    eot: int
    seed: int

    def __call__(self, part: Dataset) -> Tensor:
        """Return the attacked inputs (n, ...) on the CPU."""
        device, key = self.subject.device, seed_of(self.seed, "analysis")
        # A single step of 2.5 radii would end in the same corner whatever the start.
        size = float(self.threat.eps) if self.steps == 1 else 0
        return pgd(
            self.subject.target(part.ids, key, len(part.classes)),
            part.inputs.to(device),
            part.labels.to(device),
            threat=self.threat,
            steps=self.steps,
            step_size=size or None,
            loss="margin",
            eot=self.eot,
            stop_when_fooled=False,
            generator=row_generators(part.ids, key),
        ).cpu()


@dataclass(frozen=True)
class SameNorm:
    """Random noise as far from each input as the attack goes, in the threat's norm and inside the domain.

    In linf random signs times the radius; in l2 and l1 a Gaussian direction at the attack's own distance.
    """

    attack: Attack

    def __call__(self, part: Dataset) -> Tensor:
        """Return the noisy inputs (n, ...)."""
        x, threat = part.inputs, self.attack.threat
        drawn = draw(torch.randn, x, row_generators(part.ids, seed_of(self.attack.seed, "same norm")))
        if threat.norm == "linf":
            return project(x + threat.radii(x) * drawn.sign(), x, threat)
        low, high = threat.domain
        ball = ThreatModel(threat.norm, distance(self.attack(part), x, threat.norm), threat.domain)
        return project(x + (high - low) * drawn, x, ball)


@dataclass(frozen=True)
class Shift:
    """Images (n, c, h, w) or waveforms (n, t) or (n, c, t) moved by up to `share` of each side, edges repeated."""

    share: float
    seed: int

    def __call__(self, part: Dataset) -> Tensor:
        """Return the shifted inputs; raises `InputError` on inputs of another shape."""
        x = part.inputs
        if not 2 <= x.dim() <= 4:
            got = f"inputs of shape {tuple(x.shape)}"
            raise InputError("images (n, c, h, w) or waveforms (n, t)", got=got, fix="other manifolds")
        places = draw(
            torch.rand, x.new_empty(len(x), 2), row_generators(part.ids, seed_of(self.seed, "shift"))
        )
        moves = torch.cat([places.new_zeros(len(x), 1), 2 * self.share * (2 * places - 1)], 1)
        as_images = x if x.dim() == 4 else x.reshape(len(x), -1, 1, x.shape[-1])
        return warp(as_images, moves).reshape(x.shape).clamp(*part.domain)
