"""Rotations and shifts of images: the worst of a grid, or ascent along their three parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from robustgeom.attacks._loop import Found, Step, Watch, fooled_rows
from robustgeom.attacks._losses import Loss, find_loss
from robustgeom.attacks._oracle import PIECE, Average, Model, Oracle, Seen
from robustgeom.attacks._prepare import prepare
from robustgeom.attacks._start import Randomness, draw, resolve, select
from robustgeom.errors import InputError, unknown
from robustgeom.threat import ThreatModel, per_row

__all__ = ["Search", "spatial", "warp"]

Search = Literal["grid", "gradient"]
_SEARCHES = ("grid", "gradient")
_STRIDE = 2.5  # of the way from the centre to the largest move, shared out among the steps


def spatial(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    max_rotation: float = 30.0,
    max_shift: float = 0.1,
    search: Search = "grid",
    angles: int = 31,
    shifts: int = 5,
    steps: int = 10,
    restarts: int = 10,
    loss: str = "margin",
    eot: int = 1,
    eot_max: int | None = None,
    average: Average = "gradients",
    source: Model | None = None,
    generator: Randomness = None,
    watch: Watch | None = None,
) -> Tensor:
    """Return the worst rotated and shifted images that are found (Engstrom et al. 2019, arXiv:1712.02779).

    inputs: (n, channels, height, width) in the threat's domain; labels: (n,) classes. A threat spatial of eps in
    [0, 1] allows rotations about the centre up to eps * `max_rotation` degrees, and then shifts up to eps *
    `max_shift` of the height and of the width. Pixels are bilinear blends of the image's, its edge repeated
    beyond it, so that values stay in the domain whatever it is. `search` is grid, the worst of `angles` * `shifts` *
    `shifts` evenly spaced ones, the largest first, or gradient: `steps` of sign ascent on rotation and shifts, from
    the input itself and `restarts` - 1 random places. The input itself is always among the candidates. `loss` ranks
    them: ce, dlr, margin, scaled-ce or probability-margin. `eot`, `eot_max`, `average` and `source` are as in pgd;
    the grid takes no gradients. `generator`, for the gradient search, is one torch.Generator, or one per row. Costs
    1 + angles * shifts^2 forward passes a row and draw, or restarts * (steps + 1) forward and restarts * steps
    backward passes, less for rows that are fooled early. Raises `InputError` on inputs that are no images, outside
    the domain, NaN, labels that do not fit, counts below 1, eps > 1, max_rotation outside [0, 180] and max_shift
    outside [0, 1].

    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    >>> x, y = torch.rand(8, 1, 8, 8), torch.zeros(8, dtype=torch.long)
    >>> spatial(model, x, y, threat=ThreatModel("spatial", 1), angles=5, shifts=3).shape
    torch.Size([8, 1, 8, 8])
    """
    counts = {"angles": angles, "shifts": shifts, "steps": steps, "restarts": restarts, "eot": eot}
    inputs, labels = prepare(inputs, labels, threat, norms=("spatial",), **counts)
    _check(inputs, threat, max_rotation, max_shift)
    if search not in _SEARCHES:
        raise unknown("search", search, _SEARCHES)
    oracle, value = Oracle(model, source, eot, average), find_loss(loss)
    if len(inputs) == 0:
        return inputs.clone()
    most = inputs.new_tensor([math.radians(max_rotation), 2 * max_shift, 2 * max_shift])
    most = threat.radii(inputs).view(-1, 1).expand(len(inputs), 1) * most
    hunt = _Hunt(oracle, value, inputs, labels, most, threat.domain, Found.nothing(inputs), watch)
    if search == "grid":
        hunt.over(_grid(angles if max_rotation else 1, shifts if max_shift else 1).to(inputs))
    else:
        hunt.oracle = oracle.settled(value, (labels,), inputs, eot_max)
        hunt.uphill(steps, restarts, resolve(generator))
    return hunt.found.x


def _check(inputs: Tensor, threat: ThreatModel, max_rotation: float, max_shift: float) -> None:
    if inputs.dim() != 4:
        got = f"inputs of shape {tuple(inputs.shape)}"
        raise InputError("images (n, channels, height, width)", got=got, fix="an attack with a norm")
    if bool((threat.radii(inputs) > 1).any()):
        raise InputError("a spatial eps in [0, 1], a share of the largest", got=str(threat.eps), fix="eps=1")
    for name, value, top in (("max_rotation", max_rotation, 180), ("max_shift", max_shift, 1)):
        if not 0 <= value <= top:
            raise InputError(f"{name} from 0 to {top}", got=str(value), fix="leaving it out")


def _grid(angles: int, shifts: int) -> Tensor:
    """Return the grid (k, 3) of rotations and shifts from -1 to 1, without the identity, the largest first.

    Most rows that can be fooled at all are fooled by a large move, and leave.
    """
    spans = [(2 * torch.arange(n) - (n - 1)) / max(n - 1, 1) for n in (angles, shifts, shifts)]
    unit = torch.cartesian_prod(*spans)
    size = torch.linalg.vector_norm(unit, dim=1)
    order = size.argsort(descending=True, stable=True)
    return unit[order][size[order] > 0]


def warp(images: Tensor, moves: Tensor) -> Tensor:
    """Return images (k, ...) rotated by moves[:, 0] radians about their centre, then shifted by moves[:, 1:].

    Shifts are right and down, 2 being the whole side. Bilinear weights are no extrapolation, and a repeated edge
    needs no value from outside, so every pixel stays between two of the image's: black or grey fill might not.

    >>> warp(torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]]), torch.tensor([[0.0, 0.5, 0.0]])).flatten().tolist()
    [1.0, 1.0, 2.0, 3.0]
    """
    height, width = images.shape[2:]
    cosine, sine, (right, down) = moves[:, 0].cos(), moves[:, 0].sin(), moves[:, 1:].T
    across, along = sine * height / width, sine * width / height
    theta = torch.stack(
        [
            torch.stack([cosine, across, -cosine * right - across * down], 1),
            torch.stack([-along, cosine, along * right - cosine * down], 1),
        ],
        1,
    )
    places = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, places, mode="bilinear", padding_mode="border", align_corners=False)


@dataclass
class _Hunt:
    """All images, how far each may move, `most` (n, 3), and the worst version found of each."""

    oracle: Oracle
    loss: Loss
    inputs: Tensor
    labels: Tensor
    most: Tensor
    domain: tuple[float, float]
    found: Found
    watch: Watch | None

    def over(self, unit: Tensor) -> None:
        """Try the input and all moves (k, 3), shares of the most; on one noise draw, so that they compare."""
        left = self._try(torch.arange(len(self.inputs), device=unit.device), torch.zeros_like(unit[:1]), 0)
        done = 0
        while done < len(unit) and len(left):
            many = max(PIECE // len(left), 1)
            left = self._try(left, unit[done : done + many], done + 1)
            done += many

    def _try(self, left: Tensor, unit: Tensor, index: int) -> Tensor:
        """Try all moves (k, 3) on all rows left; return those that no move fools. A row keeps its first success."""
        rows, place = left.repeat_interleave(len(unit)), torch.arange(len(left), device=left.device)
        points = self._moved(rows, unit.repeat(len(left), 1))[0]
        seen = self.oracle.look(self.loss, (self.labels[rows],), points, rows, gradient=False)
        wrong, score = self._judge(index, rows, seen)
        chosen = place * len(unit) + score.view(-1, len(unit)).argmax(1)
        self.found.take(left, points[chosen], score[chosen])
        return left[~wrong[chosen]]

    def uphill(self, steps: int, restarts: int, generator: Randomness) -> None:
        """Climb in the three parameters by sign steps, from the input and from random places."""
        left = torch.arange(len(self.inputs), device=self.inputs.device)
        for number in range(restarts):
            if len(left) == 0:
                break
            unit = torch.zeros_like(self.most[left])
            if number > 0:
                unit = 2 * draw(torch.rand, unit, select(generator, left)) - 1
            left = self._climb(left, unit, steps, number * (steps + 1))

    def _climb(self, left: Tensor, unit: Tensor, steps: int, first: int) -> Tensor:
        for index in range(first, first + steps + 1):
            last = index == first + steps
            points, warped, moves = self._moved(left, unit)
            seen = self.oracle.look(self.loss, (self.labels[left],), points, left, index, gradient=not last)
            wrong, score = self._judge(index, left, seen)
            self.found.take(left, points, score)
            if not last:
                slope = torch.autograd.grad(warped, moves, seen.gradient)[0] * self.most[left]
                unit = (unit + _STRIDE / steps * slope.sign()).clamp(-1, 1)
            left, unit = left[~wrong], unit[~wrong]
            if len(left) == 0:
                break
        return left

    def _moved(self, rows: Tensor, unit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return images moved by `unit` (k, 3) shares of the most, and the same as a function of their moves."""
        moves = (unit * self.most[rows]).requires_grad_(True)
        with torch.enable_grad():
            warped = warp(self.inputs[rows], moves)
        still = per_row((moves == 0).all(1), warped)  # resampling in place would still round
        return torch.where(still, self.inputs[rows], warped.detach().clamp(*self.domain)), warped, moves

    def _judge(self, index: int, rows: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
        """Return which points fool for good, and a score that ranks them; a lucky draw of noise is no success."""
        wrong = fooled_rows(seen, self.labels[rows])
        if self.watch is not None:
            self.watch(Step(index, rows, seen.loss, wrong))
        wrong = wrong & self.oracle.certain
        return wrong, seen.loss.masked_fill(wrong, float("inf")).nan_to_num(
            nan=-float("inf"), posinf=float("inf")
        )
