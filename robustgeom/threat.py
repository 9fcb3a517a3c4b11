"""What the attacker may do: a norm, a radius and the inputs' domain; projections onto that set."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from robustgeom.errors import InputError, unknown
from robustgeom.words import parse_radius

__all__ = [
    "MEASURES",
    "NORMS",
    "Measure",
    "Norm",
    "ThreatModel",
    "ball_of",
    "distance",
    "free",
    "inscribed",
    "per_row",
    "project",
    "steepest",
]

Norm = Literal["linf", "l2", "l1", "l0", "spatial", "corruption"]
NORMS: tuple[Norm, ...] = get_args(Norm)
Measure = Norm | Literal["snr"]
"""What radii may be measured in: a norm, or the l2 norm over that of the sample, which in decibels is the SNR."""
MEASURES: tuple[Measure, ...] = (*NORMS, "snr")


@dataclass(frozen=True)
class ThreatModel:
    """Perturbations of norm at most `eps` (in the input's units) that stay inside `domain`.

    For l0, `eps` is how many components of the input may change. Two kinds of change have no norm: spatial, where
    `eps` is the share of the largest rotation and shift, and corruption, where it is the severity from 0 to 5.
    `eps` may be a tensor (n,), one radius a sample. Raises `InputError` on a bad radius or domain,
    `UnknownNameError` on an unknown norm.

    >>> ThreatModel("linf", "8/255").eps
    0.03137254901960784
    """

    norm: Norm
    eps: float | Tensor
    domain: tuple[float, float] = (0.0, 1.0)

    def __init__(
        self, norm: str, eps: str | float | Tensor, domain: tuple[float, float] = (0.0, 1.0)
    ) -> None:
        if norm not in NORMS:
            raise unknown("norm", norm, NORMS)
        try:
            low, high = (float(v) for v in domain)
        except (ValueError, TypeError):
            low = high = math.nan
        if not low < high:
            raise InputError("a domain (low, high) with low < high", got=repr(domain), fix="(0, 1)")
        object.__setattr__(self, "norm", norm)
        object.__setattr__(self, "eps", _radii(eps) if isinstance(eps, Tensor) else parse_radius(eps))
        object.__setattr__(self, "domain", (low, high))

    def __str__(self) -> str:
        if isinstance(self.eps, Tensor):
            return f"{self.norm} of {len(self.eps)} radii"
        return f"{self.norm} {self.eps:.4g}"

    def take(self, rows: Tensor) -> ThreatModel:
        """Return the threat to the samples `rows` (k,), a mask or positions: itself where all share one radius."""
        return replace(self, eps=self.eps[rows.to(self.eps.device)]) if isinstance(self.eps, Tensor) else self

    def scaled(self, factor: float) -> ThreatModel:
        """Return the threat with radii `factor` times as wide."""
        return self if factor == 1 else replace(self, eps=self.eps * factor)

    def radii(self, like: Tensor) -> Tensor:
        """Return the radius of each row of `like` (n, ...), shaped so that it broadcasts over the rows.

        Raises `InputError` where there are radii for another number of rows.
        """
        if not isinstance(self.eps, Tensor):
            return like.new_full((1,) * like.dim(), self.eps)
        if len(self.eps) != len(like):
            raise InputError(
                f"{len(like)} radii, one a sample", got=str(len(self.eps)), fix="one eps for all"
            )
        return per_row(self.eps.to(like), like)


def ball_of(measure: Measure) -> Norm:
    """Return the norm of the balls that attacks search under a measure.

    >>> ball_of("snr"), ball_of("linf")
    ('l2', 'linf')
    """
    return "l2" if measure == "snr" else measure


def _radii(eps: Tensor) -> Tensor:
    if eps.dim() != 1 or not eps.is_floating_point() or not bool(((eps >= 0) & eps.isfinite()).all()):
        got = f"{eps.dtype} of shape {tuple(eps.shape)}"
        raise InputError("radii (n,), float, finite and >= 0", got=got, fix="one radius a sample")
    return eps.detach()


def per_row(values: Tensor, like: Tensor) -> Tensor:
    """Reshape values (n,) so that they broadcast over inputs (n, ...).

    >>> per_row(torch.zeros(3), torch.zeros(3, 2, 2)).shape
    torch.Size([3, 1, 1])
    """
    return values.view(-1, *[1] * (like.dim() - 1))


def distance(first: Tensor, second: Tensor, norm: Norm) -> Tensor:
    """Return the distance of each pair of inputs (n, ...): (n,), in the input's units; for l0, changed components.

    >>> distance(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]), "l2").item()
    5.0
    """
    flat = (first - second).flatten(1)
    if flat.shape[1] == 0:
        return flat.new_zeros(len(flat))
    if norm in ("spatial", "corruption"):
        raise InputError("a norm", got=f"{norm}, which has no distance", fix="linf")
    order = {"linf": math.inf, "l2": 2.0, "l1": 1.0, "l0": 0.0}[norm]
    norms: Tensor = torch.linalg.vector_norm(flat, ord=order, dim=1)
    return norms


def inscribed(radius: float, *, of: Norm, under: Norm, dimension: int) -> float:
    """Return the radius of the largest ball of the norm `under` inside the ball `of` this radius (l1, l2 or linf).

    Radii are in the units of inputs, which have d = `dimension` components. An l2 ball of radius r holds the linf
    ball of r / sqrt(d), whose corners are the farthest, and the l1 ball of r: an l2 norm never exceeds an l1 norm.
    Raises `InputError` on other norms, which have no ball.

    >>> inscribed(1.0, of="l2", under="linf", dimension=16), inscribed(1.0, of="l2", under="l1", dimension=16)
    (0.25, 1.0)
    """
    orders: dict[str, float] = {"linf": math.inf, "l2": 2.0, "l1": 1.0}
    strange = [norm for norm in (of, under) if norm not in orders]
    if strange:
        raise InputError("l1, l2 or linf", got=strange[0], fix="l2")
    return radius / math.pow(dimension, max(0.0, 1 / orders[of] - 1 / orders[under]))


def project(points: Tensor, origins: Tensor, threat: ThreatModel) -> Tensor:
    """Return the allowed points nearest to `points` (n, ...): in the ball around origins (n, ...) and in the domain.

    Points inside stay where they are. Ball and domain are met together: the plain way, ball first and then the
    domain, falls short of the radius. For l0 the largest changes stay. Spatial changes and corruptions know no
    ball, so only the domain counts.

    >>> project(torch.tensor([[0.9]]), torch.tensor([[0.5]]), ThreatModel("linf", 0.25)).item()
    0.75
    """
    low, high = threat.domain
    if threat.norm in ("spatial", "corruption"):
        return points.clamp(low, high)
    eps = threat.radii(points)
    if threat.norm == "linf":
        return torch.minimum(torch.maximum(points, origins - eps), origins + eps).clamp(low, high)
    clipped = points.clamp(low, high)
    outside = distance(clipped, origins, threat.norm) > eps.flatten()
    if not bool(outside.any()):
        return clipped
    rows = outside.nonzero().squeeze(1)
    delta, base = (points[rows] - origins[rows]).flatten(1), origins[rows].flatten(1)
    radius = eps.flatten().expand(len(points))[rows]
    room = torch.where(delta > 0, high - base, base - low).clamp_min(0)
    onto = {"l2": _onto_l2, "l1": _onto_l1, "l0": _onto_l0}[threat.norm]
    moved = base + delta.sign() * onto(delta.abs(), room, radius.view(-1, 1)).to(base)
    return clipped.index_copy(0, rows, moved.clamp(low, high).view_as(points[rows]))


def _onto_l2(size: Tensor, room: Tensor, eps: Tensor) -> Tensor:
    """Scale rows by the factor at which, cut to their room, they have length `eps`.

    The factor grows as coordinates meet their bound, and each round fixes at least one: it ends, mostly in a few.
    """
    tiny = torch.finfo(size.dtype).tiny
    top = size.amax(1, keepdim=True).clamp_min(tiny)
    size = size / top  # squares of huge steps must not overflow
    factor = eps / torch.linalg.vector_norm(size, dim=1, keepdim=True).clamp_min(tiny)
    for _ in range(size.shape[1]):
        bound = factor * size >= room
        fixed = (room * bound).square().sum(1, keepdim=True)
        free = (size * ~bound).square().sum(1, keepdim=True).clamp_min(tiny)
        wider = ((eps**2 - fixed).clamp_min(0) / free).sqrt()
        grown = torch.maximum(factor, torch.minimum(wider, top))
        if bool((grown <= factor * (1 + 1e-6)).all()):
            break
        factor = grown
    return torch.minimum(factor * size, room)


def _onto_l1(size: Tensor, room: Tensor, eps: Tensor) -> Tensor:
    """Soft-threshold rows, cut to their room, at the level where they sum to `eps`.

    The sum is piecewise linear in the level; its kinks are where a coordinate leaves zero or meets its bound. In
    float64, as a small ball is the small difference of a large point and its level.
    """
    size, room, eps = size.double(), room.double(), eps.double()
    full = torch.minimum(size, room)
    ends = torch.cat([size, size - full], 1)
    slopes = torch.cat([torch.ones_like(size), -torch.ones_like(size)], 1)
    levels, order = ends.sort(dim=1, descending=True)
    slope = slopes.gather(1, order).cumsum(1)
    rises = slope[:, :-1] * (levels[:, :-1] - levels[:, 1:])
    sums = torch.cat([torch.zeros_like(eps), rises.cumsum(1)], 1)
    place = (sums < eps).sum(1, keepdim=True).clamp(1, ends.shape[1] - 1) - 1
    level = levels.gather(1, place) - (eps - sums.gather(1, place)) / slope.gather(1, place).clamp_min(1)
    return torch.minimum((size - level.clamp_min(0)).clamp_min(0), room)


def _onto_l0(size: Tensor, room: Tensor, eps: Tensor) -> Tensor:
    full = torch.minimum(size, room)
    rank = full.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return full * (rank < eps.floor())


def free(gradient: Tensor, x: Tensor, threat: ThreatModel) -> Tensor:
    """Return which components of points x (n, ...) the domain lets move along `gradient`, a mask of that shape.

    >>> free(torch.tensor([[1.0, -1.0]]), torch.tensor([[1.0, 1.0]]), ThreatModel("l1", 1))
    tensor([[False,  True]])
    """
    low, high = threat.domain
    return torch.where(gradient > 0, x < high, x > low)


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
