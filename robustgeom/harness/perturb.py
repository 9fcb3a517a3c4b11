"""Changes to inputs: a gradient attack at the full radius, random noise of its norm, shifts, light, and views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robustgeom.attacks._start import draw
from robustgeom.attacks.pgd import pgd
from robustgeom.attacks.spatial import warp
from robustgeom.data.dataset import Dataset
from robustgeom.data.views import relit, view
from robustgeom.errors import InputError
from robustgeom.harness.subject import Subject
from robustgeom.harness.target import row_generators
from robustgeom.seeds import seed_of
from robustgeom.threat import ThreatModel, distance, project

__all__ = ["Attack", "Change", "Relight", "SameNorm", "Shift", "View"]

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
class Relight:
    """Images (n, c, h, w) in [0, 1] made brighter and richer in contrast by factors of 1 - `jitter` to 1 + `jitter`."""

    jitter: float
    seed: int

    def __call__(self, part: Dataset) -> Tensor:
        """Return the changed images; raises `InputError` on other inputs."""
        bright, rich = _drawn(part, 2, self.seed, "relight")
        return relit(part.inputs, bright, rich, self.jitter)


@dataclass(frozen=True)
class View:
    """Random views of images (n, c, h, w) in [0, 1], as objectives without labels compare them."""

    seed: int

    def __call__(self, part: Dataset) -> Tensor:
        """Return one view of each image; raises `InputError` on other inputs."""
        return view(part.inputs, _drawn(part, 7, self.seed, "view"))


def _drawn(part: Dataset, count: int, seed: int, what: str) -> Tensor:
    """Return `count` rows of uniform numbers (count, n) for images, by their ids; raises `InputError` on others."""
    x = part.inputs
    if x.dim() != 4 or part.domain != (0.0, 1.0):
        got = f"inputs of shape {tuple(x.shape)} in {list(part.domain)}"
        raise InputError("images (n, c, h, w) in [0, 1]", got=got, fix="other manifolds")
    return draw(torch.rand, x.new_empty(len(x), count), row_generators(part.ids, seed_of(seed, what))).T


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
