"""Free adversarial training: one backward pass moves weights and perturbation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustgeom.attacks._farthest import checked_size
from robustgeom.errors import InputError
from robustgeom.threat import ThreatModel, project, steepest
from robustgeom.training._door import admit, counts

__all__ = ["free_at"]


def free_at(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    generator: Generator,
    memory: dict[str, Tensor],
    replays: int = 8,
    step_size: float | None = None,
) -> Iterator[Tensor]:
    """Yield `replays` times the mean cross-entropy in nats under perturbation (Shafahi et al. 2019, arXiv:1904.12843).

    inputs: (n, ...); labels: (n,); threat: linf or l2. The caller runs backward and steps after each loss; the same
    backward gives the gradient along which the perturbation moves, by `step_size` in the input's units, eps by
    default. `memory` keeps it for the next batch, whose rows start from it. All passes are in train mode, as each of
    them also trains. Raises `InputError` on other norms, inputs outside the domain, and bad settings.

    >>> data = torch.rand(4, 2), torch.zeros(4, dtype=torch.long)
    >>> settings = dict(threat=ThreatModel("linf", 0.1), generator=Generator(), memory={}, replays=3)
    >>> len([loss.backward() for loss in free_at(nn.Linear(2, 3), *data, **settings)])
    3
    """
    del generator
    admit(inputs, labels, threat, "linf", "l2")
    counts(replays=replays)
    checked_size("step_size", step_size)
    size = threat.radii(inputs) if step_size is None else step_size
    offset = _recalled(memory, inputs)
    for _ in range(replays):
        x = (inputs + offset).clamp(*threat.domain).requires_grad_()
        yield F.cross_entropy(model(x), labels)
        offset = _in_ball(offset + size * steepest(_gradient(x), threat.norm), threat)
        memory["offset"] = torch.cat([offset, memory.get("offset", offset)[len(offset) :]])


def _recalled(memory: dict[str, Tensor], inputs: Tensor) -> Tensor:
    """Return the kept perturbation of these rows; rows without one start from zero."""
    kept = memory.get("offset", inputs[:0]).to(inputs)[: len(inputs)]
    return torch.cat([kept, torch.zeros_like(inputs[len(kept) :])])


def _in_ball(offset: Tensor, threat: ThreatModel) -> Tensor:
    """Bring a perturbation into the ball alone: where it leaves the domain depends on the next batch's inputs."""
    width = threat.domain[1] - threat.domain[0]
    return project(offset, torch.zeros_like(offset), replace(threat, domain=(-width, width)))


def _gradient(x: Tensor) -> Tensor:
    if x.grad is None:
        raise InputError("a backward pass for every loss", got="none", fix="loss.backward() in the loop")
    return x.grad
