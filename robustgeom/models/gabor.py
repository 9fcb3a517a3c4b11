"""Gabor filters with the parameter distributions that physiology published for primary visual cortex.

Orientation: De Valois et al. 1982a. Spatial frequency: De Valois et al. 1982b. Size in cycles: Ringach 2002.
Size and frequency go together with correlation 0.75: Schiller et al. 1976. Put together by Dapello et al. 2020
(VOneNet, doi:10.1101/2020.06.16.154542).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from robustgeom.errors import InputError, unknown

__all__ = ["Gabors", "gabor_bank", "sample_gabors"]

ORIENTATION_EDGES = (-22.5, 22.5, 67.5, 112.5, 157.5)
ORIENTATION_COUNTS = (66, 49, 77, 54)
FREQUENCY_EDGES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
FREQUENCY_COUNTS = (4, 4, 8, 25, 32, 26, 28, 12)
SIZE_EDGES = tuple(10 ** (-1 + 0.24 * i) for i in range(6))
SIZE_COUNTS = ((2, 0, 1, 0, 0), (8, 9, 4, 1, 0), (1, 2, 19, 17, 3), (0, 0, 1, 7, 4), (0, 0, 0, 0, 0))
CORRELATION = 0.75


@dataclass(frozen=True)
class Gabors:
    """Parameters (count,) each: orientation and phase in radians, frequency in cycles a degree, sizes in cycles.

    `n_x` is the envelope's deviation across the stripes, `n_y` along them. `colour` and `partner` are the input
    channels that a filter and its quadrature partner read.
    """

    orientation: Tensor
    phase: Tensor
    frequency: Tensor
    n_x: Tensor
    n_y: Tensor
    colour: Tensor
    partner: Tensor

    def __len__(self) -> int:
        return len(self.phase)


def sample_gabors(
    count: int,
    *,
    generator: Generator,
    channels: int = 1,
    highest: float = 5.6,
    colour: Literal["corrected", "faithful"] = "corrected",
) -> Gabors:
    """Return the parameters of `count` Gabor filters, drawn from the published distributions.

    highest: the largest spatial frequency in cycles a degree; bins above it are left out. colour: "faithful" draws the
    channel of a filter and of its partner apart, as VOneNet's code does, so that most pairs of colour images are no
    quadrature pairs; "corrected" draws it once. Raises `InputError` where no frequency is left.

    >>> sample_gabors(3, generator=Generator().manual_seed(0)).colour.tolist()
    [0, 0, 0]
    """
    kept = [
        c if edge <= highest else 0 for c, edge in zip(FREQUENCY_COUNTS, FREQUENCY_EDGES[1:], strict=True)
    ]
    if colour not in ("corrected", "faithful"):
        raise unknown("colour", colour, ("corrected", "faithful"))
    if not any(kept):
        raise InputError("a highest frequency of at least 0.7", got=str(highest), fix="5.6")
    uniform = torch.rand(4, count, generator=generator, dtype=torch.float64)
    first, second = torch.randn(2, count, generator=generator, dtype=torch.float64)
    second = CORRELATION * first + math.sqrt(1 - CORRELATION**2) * second
    n_x = _from_bins(_normal_cdf(second), SIZE_EDGES, [sum(row) for row in SIZE_COUNTS], log=True)
    row = torch.bucketize(n_x, torch.tensor(SIZE_EDGES[1:-1], dtype=torch.float64), right=True)
    given = torch.stack([_from_bins(uniform[2], SIZE_EDGES, r, log=True) for r in SIZE_COUNTS if any(r)])
    colours = torch.randint(channels, (2, count), generator=generator)
    return Gabors(
        orientation=torch.deg2rad(_from_bins(uniform[0], ORIENTATION_EDGES, ORIENTATION_COUNTS) % 180),
        phase=2 * math.pi * uniform[1],
        frequency=_from_bins(_normal_cdf(first), FREQUENCY_EDGES, kept, log=True),
        n_x=n_x,
        n_y=given.gather(0, row[None])[0],
        colour=colours[0],
        partner=colours[0 if colour == "corrected" else 1],
    )


def gabor_bank(gabors: Gabors, *, size: int, density: float, channels: int = 1, shift: float = 0.0) -> Tensor:
    """Return kernels (count, channels, size, size) of `gabors`, each zero but in the one channel that it reads.

    size: odd, in pixels; density: pixels a degree of visual field; shift: added to the phase, in radians; a shift of
    pi/2 gives the quadrature partners, which read the partners' channels. x runs along rows, as in VOneNet. The
    envelope integrates to 1 and the kernels are not balanced to a zero mean. Raises `InputError` on an even size, or
    where the highest frequency is above half a cycle a pixel.

    >>> gabor_bank(sample_gabors(2, generator=Generator()), size=11, density=14).shape
    torch.Size([2, 1, 11, 11])
    """
    if size % 2 == 0:
        raise InputError("an odd kernel size", got=str(size), fix=str(size + 1))
    cycles = gabors.frequency / density
    if bool((cycles > 0.5).any()):
        got = f"{density:.3g} for {gabors.frequency.max():.3g} cycles a degree"
        raise InputError("two pixels a cycle", got=got, fix="a smaller field of view")
    reach = torch.arange(size, dtype=torch.float64) - size // 2
    x, y = torch.meshgrid(reach, reach, indexing="ij")
    angle, f, phase = (v.view(-1, 1, 1) for v in (gabors.orientation, cycles, gabors.phase + shift))
    sigma_x, sigma_y = gabors.n_x.view(-1, 1, 1) / f, gabors.n_y.view(-1, 1, 1) / f
    across, along = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    envelope = torch.exp(-0.5 * ((across / sigma_x) ** 2 + (along / sigma_y) ** 2))
    kernels = envelope / (2 * math.pi * sigma_x * sigma_y) * torch.cos(2 * math.pi * f * across + phase)
    bank = torch.zeros(len(gabors), channels, size, size)
    bank[torch.arange(len(gabors)), gabors.partner if shift else gabors.colour] = kernels.float()
    return bank


def _from_bins(
    uniform: Tensor, edges: tuple[float, ...], counts: tuple[int, ...] | list[int], *, log: bool = False
) -> Tensor:
    """Map uniform draws through the inverse distribution: bins by their counts, even inside a bin (or in its log)."""
    ends = torch.tensor(edges, dtype=torch.float64)
    ends = ends.log() if log else ends
    share = torch.tensor(counts, dtype=torch.float64).cumsum(0) / sum(counts)
    bins = torch.searchsorted(share, uniform, right=True).clamp(max=len(counts) - 1)
    below = torch.cat([share.new_zeros(1), share])[bins]
    inside = (uniform - below) / (share[bins] - below)
    value = ends[bins] + inside * (ends[bins + 1] - ends[bins])
    return value.exp() if log else value


def _normal_cdf(z: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(z / math.sqrt(2)))
