"""Distillation on clean inputs alone."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Generator, Tensor, nn

from robustgeom.training._door import shares, temperatures
from robustgeom.training._terms import Teacher, softened, still

__all__ = ["kd_clean"]


def kd_clean(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    teacher: Teacher,
    generator: Generator,
    temperature: float = 1.0,
    hard: float = 0.0,
) -> Tensor:
    """Return the divergence of clean predictions from the teacher's (Hinton et al. 2015, arXiv:1503.02531).

    (1 - hard) T^2 KL(t(x) / T, s(x) / T) + hard CE(s(x), y) in nats, a mean over rows; T is the temperature. inputs:
    (n, ...); labels: (n,); teacher: inputs to logits. No input is perturbed: from an adversarially trained teacher some
    robustness comes through all the same (Goldblum et al. 2020, arXiv:1905.09747). Raises `InputError` unless
    temperature > 0 and 0 <= hard <= 1.

    >>> import torch
    >>> data = torch.rand(4, 2), torch.zeros(4, dtype=torch.long)
    >>> student = nn.Linear(2, 3)
    >>> kd_clean(student, *data, teacher=student, generator=Generator()).item()
    0.0
    """
    del generator
    temperatures(temperature=temperature)
    shares(hard=hard)
    told, said = still(teacher, inputs), model(inputs)
    loss = (1 - hard) * softened(told, said, temperature).mean()
    return loss + hard * F.cross_entropy(said, labels) if hard else loss
