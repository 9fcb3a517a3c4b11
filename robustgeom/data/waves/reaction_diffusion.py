"""Retinal waves by reaction and diffusion: sheets of starburst cells that excite each other and tire."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from robustgeom.errors import InputError
from robustgeom.seeds import seed_of

__all__ = ["Sheets", "WaveParameters", "advance", "resting_sheets", "retinal_waves"]

STEP = 1e-3  # s
REDRAWN = 100  # steps between draws of the noise
FAINT = 1e-30  # shares of transmitter that processors are slow to handle
DISCARDED = 200.0  # s, in which a sheet forgets that it started at rest everywhere


@dataclass(frozen=True)
class WaveParameters:
    """Conductances (without unit), potentials in mV, times in s, and the sheet's side in mm.

    Those of the published model with a slow after-hyperpolarisation, Lansdell, Ford and Kutz 2014, arXiv:1404.7549.
    `noise` is the mean of the exponentially distributed conductance that each cell draws anew every tenth of a second.
    """

    capacitance: float = 160.0
    calcium: float = 10.0
    potassium: float = 30.0
    leak: float = 3.0
    transmitter: float = 2.0
    calcium_reversal: float = 50.0
    potassium_reversal: float = -90.0
    leak_reversal: float = -70.0
    transmitter_reversal: float = 50.0
    noise_reversal: float = 50.0
    calcium_half: float = -20.0
    calcium_slope: float = 20.0
    recovery_half: float = -25.0
    recovery_slope: float = 40.0
    release_half: float = -40.0
    release_gain: float = 0.2
    recovery_time: float = 5.0
    slow_time: float = 60.0
    transmitter_time: float = 0.2
    slow_strength: float = 2.0
    slow_rate: float = 0.3
    release_rate: float = 5.0
    binding: float = 800.0
    diffusion: float = 0.01  # mm2/s
    noise: float = 0.2
    side: float = 2.0

    def __post_init__(self) -> None:
        for name in ("capacitance", "calcium_slope", "recovery_slope", "noise", "side"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} above 0", got=str(getattr(self, name)), fix="the usual value")


USUAL = WaveParameters()
State = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Sheets:
    """The state of sheets of cells, each field (sheets, size, size).

    `voltage` in mV; `recovery` of the potassium current and its `slow` after-hyperpolarisation; `transmitter`
    (acetylcholine).
    """

    voltage: Tensor
    recovery: Tensor
    slow: Tensor
    transmitter: Tensor


def resting_sheets(sheets: int, size: int = 32, *, dtype: torch.dtype = torch.float32) -> Sheets:
    """Return sheets at rest: -70 mV everywhere and nothing else.

    >>> resting_sheets(2, 4).voltage.unique().tolist()
    [-70.0]
    """
    zeros = torch.zeros(sheets, size, size, dtype=dtype)
    return Sheets(torch.full_like(zeros, -70.0), zeros, zeros.clone(), zeros.clone())


@torch.no_grad()
def advance(
    state: Sheets, steps: int, conductance: Tensor | float = 0.0, parameters: WaveParameters = USUAL
) -> Sheets:
    """Return the state `steps` milliseconds later, under a constant noise conductance (sheets, size, size).

    Each step lets the transmitter diffuse (Crank-Nicolson along each axis, nothing crosses the edge), then everything
    react (midpoint rule).

    >>> later = advance(resting_sheets(1, 4), 10)
    >>> later.voltage.shape
    torch.Size([1, 4, 4])
    """
    spread = _spreading(state.voltage.shape[-1], state.voltage, parameters)
    noise = torch.as_tensor(conductance).to(state.voltage)
    v, r, s, a = state.voltage, state.recovery, state.slow, state.transmitter
    for _ in range(steps):
        a = spread @ a @ spread.T
        half = _moved((v, r, s, a), (v, r, s, a), STEP / 2, noise, parameters)
        v, r, s, a = _moved((v, r, s, a), half, STEP, noise, parameters)
    return Sheets(v, r, s, a)


def retinal_waves(
    seconds: float,
    *,
    sheets: int = 1,
    size: int = 32,
    frames_per_second: int = 10,
    seed: int = 0,
    discarded: float = DISCARDED,
    parameters: WaveParameters = USUAL,
) -> Tensor:
    """Return voltages in mV of sheets that wave by themselves: (sheets, frames, size, size).

    seconds: how long each is watched, after `discarded` ones that are thrown away. Sheet k depends on the seed and k
    alone, not on how many there are. Raises `InputError` where frames do not fall on tenths of a second or nothing is
    left to be seen.
    """
    apart = _between_frames(frames_per_second, seconds, sheets, size, discarded)
    generators = [Generator().manual_seed(seed_of(seed, "waves", sheet)) for sheet in range(sheets)]
    state, frames = resting_sheets(sheets, size), []
    total, skipped = (round(s * 1000) for s in (discarded + seconds, discarded))
    conductance = torch.zeros_like(state.voltage)
    for step in range(0, total, apart):
        if step % REDRAWN == 0:
            draws = [
                torch.empty(size, size).exponential_(1 / parameters.noise, generator=g) for g in generators
            ]
            conductance = torch.stack(draws)
        state = advance(state, apart, conductance, parameters)
        if step >= skipped:
            frames.append(state.voltage)
    return torch.stack(frames, 1)


def _between_frames(frames_per_second: int, seconds: float, sheets: int, size: int, discarded: float) -> int:
    """Return the steps from one frame to the next."""
    apart = round(1000 / frames_per_second) if frames_per_second > 0 else 0
    if apart == 0 or REDRAWN % apart or apart * frames_per_second != 1000:
        got, fix = str(frames_per_second), "frames_per_second=10"
        raise InputError("10, 20, 50, 100, 200, 500 or 1000 frames a second", got=got, fix=fix)
    if seconds * frames_per_second < 1 or sheets < 1 or size < 3 or discarded < 0:
        got = f"{seconds} s of {sheets} sheets of {size} x {size} cells, {discarded} s discarded"
        raise InputError(
            "a frame, a sheet and 3 x 3 cells at least", got=got, fix="seconds=60, sheets=1, size=32"
        )
    return apart


def _spreading(size: int, like: Tensor, p: WaveParameters) -> Tensor:
    """Return the matrix (size, size) of one Crank-Nicolson step of diffusion along an axis."""
    apart = p.side / (size - 1)
    second = torch.diag(torch.full((size,), -2.0, dtype=torch.float64))
    second += torch.diag(torch.ones(size - 1, dtype=torch.float64), 1) + torch.diag(
        torch.ones(size - 1, dtype=torch.float64), -1
    )
    second[0, 1] = second[-1, -2] = 2.0  # mirrored at the edge
    half = second * (p.diffusion * STEP / 2 / apart**2)
    eye = torch.eye(size, dtype=torch.float64)
    step = torch.linalg.solve(eye - half, eye + half)
    return torch.where(step.abs() < FAINT, 0.0, step).to(like)


def _moved(start: State, at: State, seconds: float, noise: Tensor, p: WaveParameters) -> State:
    """Return where `start` is after some time at the rates of change of `at`."""
    v, r, s, a = (torch.add(x, d, alpha=seconds) for x, d in zip(start, _change(at, noise, p), strict=True))
    return v, r, s, a


def _change(now: State, noise: Tensor, p: WaveParameters) -> State:
    """Return the rates of change, per second."""
    v, r, s, a = now
    # (1 + tanh x) / 2 is the logistic function of 2 x, and cosh takes one exponential.
    calcium = torch.sigmoid((v - p.calcium_half).mul_(2 / p.calcium_slope)).mul_(p.calcium)
    bound = a.square().mul_(p.binding)
    bound = bound.div_(1 + bound).mul_(p.transmitter)
    released = torch.sigmoid((v - p.release_half).mul_(p.release_gain))
    # Currents g (E - v), as the sum of g E less that of g times v.
    whole = (calcium + (bound + noise)).add_(r, alpha=p.potassium).add_(p.leak)
    drive = (calcium * p.calcium_reversal).add_(bound, alpha=p.transmitter_reversal)
    drive.add_(noise, alpha=p.noise_reversal).add_(r, alpha=p.potassium * p.potassium_reversal)
    voltage = drive.add_(p.leak * p.leak_reversal).addcmul_(whole, v, value=-1).mul_(1000 / p.capacitance)
    away = v - p.recovery_half
    grown = torch.exp(away / (2 * p.recovery_slope))
    speed = grown.reciprocal().add_(grown).mul_(0.5 / p.recovery_time)
    recovery = torch.sigmoid(away.mul_(2 / p.recovery_slope)).sub_(r).mul_(speed)
    recovery.addcmul_(s, 1 - r, value=p.slow_strength / p.recovery_time)
    slow = (released * p.slow_rate).sub_(s, alpha=1 / p.slow_time)
    return voltage, recovery, slow, released.mul_(p.release_rate).sub_(a, alpha=1 / p.transmitter_time)
