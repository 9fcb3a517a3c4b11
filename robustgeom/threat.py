"""What the attacker may do: a norm, a radius and the inputs' domain; projections onto that set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from robustgeom.errors import InputError, unknown
from robustgeom.words import parse_radius

__all__ = ["Norm", "ThreatModel", "distance", "per_row", "project", "steepest"]

Norm = Literal["linf", "l2", "l1"]


@dataclass(frozen=True)
class ThreatModel:
    """Perturbations of norm at most `eps` (in the input's units) that stay inside `domain`.

    Raises `InputError` on a bad radius or domain, `UnknownNameError` on a norm other than linf, l2, l1.

    >>> ThreatModel("linf", "8/255").eps
    0.03137254901960784
    """

    norm: Norm
    eps: float
    domain: tuple[float, float] = (0.0, 1.0)

    def __init__(self, norm: str, eps: str | float, domain: tuple[float, float] = (0.0, 1.0)) -> None:
        if norm not in get_args(Norm):
            raise unknown("norm", norm, get_args(Norm))
        try:
            low, high = (float(v) for v in domain)
        except (ValueError, TypeError):
            low = high = math.nan
        if not low < high:
            raise InputError("a domain (low, high) with low < high", got=repr(domain), fix="(0, 1)")
        object.__setattr__(self, "norm", norm)
        object.__setattr__(self, "eps", parse_radius(eps))
        object.__setattr__(self, "domain", (low, high))

    def __str__(self) -> str:
        return f"{self.norm} {self.eps:.4g}"


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """Reshape values (n,) so that they broadcast over inputs (n, ...).

    >>> per_row(torch.zeros(3), torch.zeros(3, 2, 2)).shape
    torch.Size([3, 1, 1])
    """
    return values.view(-1, *[1] * (like.dim() - 1))


def distance(first: Tensor, second: Tensor, norm: Norm) -> Tensor:
    """Return the distance of each pair of inputs (n, ...): (n,), in the input's units.

    >>> distance(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]), "l2").item()
    5.0
    """
    flat = (first - second).flatten(1)
    if flat.shape[1] == 0:
        return flat.new_zeros(len(flat))
    order = {"linf": math.inf, "l2": 2.0, "l1": 1.0}[norm]
    norms: Tensor = torch.linalg.vector_norm(flat, ord=order, dim=1)
    return norms


def project(points: Tensor, origins: Tensor, threat: ThreatModel) -> Tensor:
    """Return points (n, ...) brought into the ball around origins (n, ...) and into the domain.

    Points inside stay where they are. For linf the result is the nearest allowed point; for l2 and l1 it is
    the nearest point of the ball, then clipped, which stays in the ball because the origin is in the domain.

    >>> project(torch.tensor([[0.9]]), torch.tensor([[0.5]]), ThreatModel("linf", 0.25)).item()
    0.75
    """
    low, high = threat.domain
    if threat.norm == "linf":
        ball = torch.minimum(torch.maximum(points, origins - threat.eps), origins + threat.eps)
    else:
        onto = _onto_l2 if threat.norm == "l2" else _onto_l1
        moved = origins + onto((points - origins).flatten(1), threat.eps).view_as(points)
        inside = distance(points, origins, threat.norm) <= threat.eps
        ball = torch.where(per_row(inside, points), points, moved)
    return ball.clamp(low, high)


def _onto_l2(flat: Tensor, eps: float) -> Tensor:
    norms = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    scaled: Tensor = flat * (eps / norms.clamp_min(torch.finfo(flat.dtype).tiny))
    return scaled


def _onto_l1(flat: Tensor, eps: float) -> Tensor:
    """Soft-threshold rows onto the l1 ball (Duchi et al. 2008)."""
    size = flat.abs()
    ordered = size.sort(dim=1, descending=True).values
    ranks = torch.arange(1, flat.shape[1] + 1, dtype=flat.dtype, device=flat.device)
    thresholds = (ordered.cumsum(1) - eps) / ranks
    active = (ordered > thresholds).sum(1, keepdim=True).clamp_min(1)
    shrink = thresholds.gather(1, active - 1).clamp_min(0)
    return flat.sign() * (size - shrink).clamp_min(0)


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """Return the unit step (n, ...) of the norm along which a linear function of slope `gradient` rises most.

    A row whose gradient is zero gets a zero step.

    >>> steepest(torch.tensor([[3.0, -4.0]]), "l2")
    tensor([[ 0.6000, -0.8000]])
    """
    if norm == "linf":
        return gradient.sign()
    flat = gradient.flatten(1)
    if norm == "l2":
        # Scale first: squares of tiny gradients underflow in float32.
        flat = flat / flat.abs().amax(1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)
        norms = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
        unit: Tensor = flat / norms.clamp_min(torch.finfo(flat.dtype).tiny)
        return unit.view_as(gradient)
    top = flat.abs().argmax(1, keepdim=True)
    return torch.zeros_like(flat).scatter(1, top, flat.gather(1, top).sign()).view_as(gradient)
