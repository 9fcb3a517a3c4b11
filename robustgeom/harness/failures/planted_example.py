"""Attacks that miss an adversarial example known to be there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from robustgeom.attacks._oracle import Model, Oracle, bind
from robustgeom.harness.failures._case import Case
from robustgeom.harness.failures._grading import by_attack
from robustgeom.harness.find import find_attack
from robustgeom.harness.spec import AttackSpec
from robustgeom.records import CheckResult
from robustgeom.threat import project, steepest

__all__ = ["planted_example"]

_RATE = 0.05
_POINTS = 12
_SHARPNESS = 10.0  # logits from the input itself to the planted point


@dataclass
class _Readout:
    """A network with two classes in place of its own: how far its logits have moved towards those of a known point.

    Class 1 wins where they have gone past `bar` (n,) of the way from `start` along `way` (n, classes).
    """

    network: Any
    start: Tensor
    way: Tensor
    bar: Tensor

    @property
    def deterministic(self) -> bool:
        return bool(getattr(self.network, "deterministic", False))

    def __call__(self, x: Tensor) -> Tensor:
        rows = torch.arange(len(x), device=x.device)
        return self.read(self.network(x), rows)

    def at(self, rows: Tensor, draws: Tensor) -> Callable[[Tensor], Tensor]:
        inner: Model = bind(self.network, rows, draws)
        return lambda x: self.read(inner(x), rows)

    def read(self, logits: Tensor, rows: Tensor) -> Tensor:
        gone = ((logits - self.start[rows]) * self.way[rows]).sum(1) - self.bar[rows]
        return torch.stack([-gone, gone], 1) * (_SHARPNESS / 2)


def planted_example(case: Case) -> CheckResult | None:
    """Return on how many samples an attack misses an adversarial example that was planted inside the ball.

    The logits are read out by a line through those of the input and of the farthest of twelve random points of the
    ball, so that this point fools and none of the others does (Zimmermann et al. 2022, arXiv:2206.13991). Attacks
    run with the suite's own settings.
    """
    extra = (_POINTS + 2) * case.draws

    def misses(spec: AttackSpec, rows: Tensor) -> Tensor:
        x, _ = case.inputs(rows)
        readout, usable = _plant(case, case.oracle(rows, "planted"), x, rows)
        part = case.battle.data.take(rows)
        part = replace(part, labels=torch.zeros_like(part.labels))
        named = spec.model_copy(update={"name": f"check: planted {spec.name}"})
        found, calls = case.battle.call(
            named, find_attack(spec), case.radius, part, lambda network: replace(readout, network=network)
        )
        case.probed += int(calls[0].sum() + calls[1].sum())
        points = project(found.detach().to(x), x, case.threat(rows)) if isinstance(found, Tensor) else x
        judge = case.oracle(rows, "planted judge")
        gone = readout.read(judge.logits(points, torch.arange(len(x), device=x.device)), torch.arange(len(x)))
        return usable & (gone.argmax(1) == 0).cpu()

    words = (
        "misses an adversarial example planted inside the ball",
        "longer steps, more of them, other gradients",
    )
    return by_attack(
        case, "planted example", case.standing, case.optimisers, misses, _RATE, words, extra=extra
    )


def _plant(case: Case, oracle: Oracle, x: Tensor, rows: Tensor) -> tuple[_Readout, Tensor]:
    """Return the readout, and for which rows (k,) a point could be planted: not where the logits never move."""
    at, generator = torch.arange(len(x), device=x.device), case.generator("planted")
    start, moves, threat = oracle.logits(x, at), [], case.threat(rows)
    for _ in range(_POINTS):
        noise = steepest(torch.randn(x.shape, generator=generator).to(x), case.norm)
        moves.append(oracle.logits(project(x + threat.radii(x) * noise, x, threat), at) - start)
    way = torch.stack(moves)  # (points, k, classes)
    size = way.square().sum(2)
    best = size.argmax(0)
    chosen, length = way[best, at], size[best, at]
    usable = length > 0
    chosen = chosen / length.clamp_min(torch.finfo(length.dtype).tiny)[:, None]
    gone = (way * chosen).sum(2)  # 1 for the planted point
    gone[best, at] = -torch.inf
    bar = (1 + gone.amax(0).clamp(0, 1)) / 2
    return _Readout(oracle.model, start, chosen, bar), usable.cpu()
