"""HopSkipJump: along the boundary towards the input, from nothing but predicted classes."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from robustgeom.attacks._kinds import minimum_norm
from robustgeom.attacks._oracle import Model, Oracle
from robustgeom.attacks._prepare import prepare
from robustgeom.attacks._start import Randomness, draw, resolve, select
from robustgeom.threat import ThreatModel, distance, per_row, steepest

__all__ = ["hop_skip_jump"]

_BLENDS = (1.0, 0.5, 0.75, 0.25)  # of random points with the input, tried in turn for a start
_BLOCK = 16  # probes a draw, whatever the batch: a row's draws must not hang on it
_FINEST, _COARSEST = 6e-5, 1e-3  # of the distance: float32 decides no finer, a result should be no coarser
_HALVINGS = 12


@dataclass
class _Hunt:
    """All rows under way: where each stands, `here` (n, ...), the nearest point that fools, `best`, and the cost.

    Rows go on from the last landing even where it is no nearer: in linf, waiting for one that is gets them stuck.
    """

    oracle: Oracle
    inputs: Tensor
    labels: Tensor
    threat: ThreatModel
    queries: int
    samples: int
    generator: Randomness
    here: Tensor = field(init=False)
    best: Tensor = field(init=False)
    used: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.here, self.best = self.inputs.clone(), self.inputs.clone()
        self.used = torch.zeros_like(self.labels)
        d = max(math.prod(self.inputs.shape[1:]), 1)
        self.share = min(max(d**-1.5, _FINEST), _COARSEST)
        self.cuts, self.root = math.ceil(-math.log2(self.share)), math.sqrt(d)

    def ask(self, points: Tensor, rows: Tensor) -> Tensor:
        """Return which `points` (k, ...) of `rows` (k,) fool; those of rows without a query left do not."""
        able = self.used[rows] < self.queries
        wrong = torch.zeros_like(able)
        wrong[able] = self._decide(points[able], rows[able])
        return wrong

    def _decide(self, points: Tensor, rows: Tensor) -> Tensor:
        if len(rows) == 0:
            return torch.zeros_like(rows, dtype=torch.bool)
        logits = self.oracle.logits(points, rows)
        self.oracle = self.oracle.later(self.oracle.stride)
        self.used.index_add_(0, rows, torch.ones_like(rows))
        return (logits.argmax(1) != self.labels[rows]) & ~logits.isnan().any(1)

    def start(self, rows: Tensor) -> Tensor:
        """Look for any point that fools, with up to a quarter of the queries; return the rows that have one."""
        ready = torch.zeros_like(self.labels, dtype=torch.bool)
        for index in range(max(self.queries // 4, 1)):
            if len(rows) == 0:
                break
            # Uniform noise mostly gets one class; darkened by a random share it gets others too.
            noise = self._noise(rows, dark=index % 2 == 1)
            points = self.inputs[rows].lerp(noise, _BLENDS[index // 2 % len(_BLENDS)])
            points = points.clamp(*self.threat.domain)
            wrong = self.ask(points, rows)
            self.best[rows[wrong]] = points[wrong]
            ready[rows[wrong]] = True
            rows = rows[~wrong]
        return ready.nonzero().squeeze(1)

    def _noise(self, rows: Tensor, *, dark: bool) -> Tensor:
        near, generator, (low, high) = self.inputs[rows], select(self.generator, rows), self.threat.domain
        noise = draw(torch.rand, near, generator)
        if dark:
            noise = noise * per_row(draw(torch.rand, near.flatten(1)[:, :1], generator).flatten(), near)
        return low + (high - low) * noise

    def close_in(self, rows: Tensor, points: Tensor) -> None:
        """Halve the way from each input to `points` (k, ...), which fool, stand there, and keep the best."""
        near, far = self.inputs[rows], points
        lower, upper = near.new_zeros(len(rows)), near.new_ones(len(rows))
        for _ in range(self.cuts):
            middle = (lower + upper) / 2
            point = self._towards(near, far, per_row(middle, near)).clamp(*self.threat.domain)
            wrong = self.ask(point, rows)
            points = torch.where(per_row(wrong, point), point, points)
            lower, upper = torch.where(wrong, lower, middle), torch.where(wrong, middle, upper)
        self.here[rows] = points
        nearer = self._reach(rows, points) < self._reach(rows, self.best[rows])
        self.best[rows[nearer]] = points[nearer]

    def _towards(self, near: Tensor, far: Tensor, share: Tensor) -> Tensor:
        if self.threat.norm == "l2":
            return near + share * (far - near)
        reach = share * per_row(distance(near, far, "linf"), near)
        return torch.minimum(torch.maximum(far, near - reach), near + reach)

    def _reach(self, rows: Tensor, points: Tensor) -> Tensor:
        return distance(points, self.inputs[rows], self.threat.norm)

    def hop(self, number: int, rows: Tensor) -> Tensor:
        """Probe, jump and close in once; return the rows (k,) that could afford it."""
        spare = self.queries - self.used[rows] - self.cuts - _HALVINGS
        wanted = math.ceil(self.samples * math.sqrt(number) / _BLOCK)
        blocks = (spare // _BLOCK).clamp(max=wanted)
        rows, blocks = rows[blocks > 0], blocks[blocks > 0]
        if len(rows):
            direction = steepest(self._outward(rows, blocks), self.threat.norm)
            size = self._reach(rows, self.here[rows]) / math.sqrt(number)
            self.close_in(*self._jump(rows, direction, size))
        return rows

    def _outward(self, rows: Tensor, blocks: Tensor) -> Tensor:
        """Return the mean direction (k, ...) of random probes, each signed by whether it fools, less their mean."""
        away, total = torch.zeros_like(self.here[rows]), torch.zeros_like(self.here[rows])
        votes = away.new_zeros(len(rows))
        reach = distance(self.here[rows], self.inputs[rows], "l2") * self.share * self.root
        for index in range(int(blocks.max())):
            some = (blocks > index).nonzero().squeeze(1)
            moves, wrong = self._probe(rows[some], reach[some])
            signs = 2.0 * wrong.to(moves) - 1
            away.index_add_(0, some, (signs.view(*signs.shape, *[1] * (away.dim() - 1)) * moves).sum(1))
            total.index_add_(0, some, moves.sum(1))
            votes.index_add_(0, some, signs.sum(1))
        mean = votes / (blocks * _BLOCK)
        return torch.where(per_row(mean.abs() < 1, away), away - per_row(mean, away) * total, away)

    def _probe(self, rows: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
        """Return a block of random moves (k, block, ...) of length `reach` (k,), and which of them fool."""
        many = self.here[rows].unsqueeze(1).expand(-1, _BLOCK, *self.here.shape[1:])
        flat = draw(torch.randn, many, select(self.generator, rows)).flatten(2)
        size = torch.linalg.vector_norm(flat, dim=2, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)
        points = many + (flat / size * reach.view(-1, 1, 1)).view_as(many)
        points = points.clamp(*self.threat.domain)
        wrong = self._decide(points.flatten(0, 1), rows.repeat_interleave(_BLOCK))
        return points - many, wrong.view(-1, _BLOCK)

    def _jump(self, rows: Tensor, direction: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """Go outward by `size` (k,), halved until the point fools; return the rows that landed, and where."""
        points = self.here[rows]
        left = torch.arange(len(rows), device=rows.device)
        for _ in range(_HALVINGS):
            if len(left) == 0:
                break
            step = per_row(size[left], direction) * direction[left]
            trial = (self.here[rows[left]] + step).clamp(*self.threat.domain)
            wrong = self.ask(trial, rows[left])
            points[left[wrong]] = trial[wrong]
            left, size = left[~wrong], size / 2
        landed = torch.ones_like(rows, dtype=torch.bool)
        landed[left] = False
        return rows[landed], points[landed]


@minimum_norm
def hop_skip_jump(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    queries: int = 2000,
    samples: int = 100,
    eot: int = 1,
    generator: Randomness = None,
) -> Tensor:
    """Return the nearest misclassified inputs that HopSkipJump finds (Chen et al. 2020, arXiv:1904.02144); l2, linf.

    inputs: (n, ...) in the threat's domain; labels: (n,) classes; the result has the inputs' shape and stays in the
    domain, but not in the radius, which plays no part. Only predicted classes are used. It starts from a random
    point that fools, blended with the input, halves its way to the boundary, probes it in `samples` random
    directions (more in later rounds: times the root of the round), jumps outward along their mean, and so on. Where
    no start is found, and where the input is misclassified already, the input comes back. `eot` draws are averaged
    a query for a stochastic model. `generator` is one torch.Generator, or one per row. Costs at most `queries`
    forward passes a row and draw, a quarter of them for the start at most, and no backward pass. Raises `InputError`
    on inputs outside the domain, NaN, labels that do not fit, and counts below 1.

    >>> model = torch.nn.Linear(4, 2)
    >>> x, y = torch.rand(8, 4), torch.zeros(8, dtype=torch.long)
    >>> hop_skip_jump(model, x, y, threat=ThreatModel("l2", 0.5), queries=200).shape
    torch.Size([8, 4])
    """
    counts = {"queries": queries, "samples": samples, "eot": eot}
    inputs, labels = prepare(inputs, labels, threat, norms=("l2", "linf"), **counts)
    hunt = _Hunt(Oracle(model, eot=eot), inputs, labels, threat, queries, samples, resolve(generator))
    rows = torch.arange(len(inputs), device=inputs.device)
    rows = hunt.start(rows[~hunt.ask(inputs, rows)])
    hunt.close_in(rows, hunt.best[rows])
    for number in itertools.count(1):
        rows = hunt.hop(number, rows)
        if len(rows) == 0:
            break
    return hunt.best
