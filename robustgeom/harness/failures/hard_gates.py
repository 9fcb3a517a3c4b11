"""Steps of the network that no gradient sees: hard gates, winners, roundings."""

from __future__ import annotations

import torch
from torch import Tensor

from robustgeom.attacks._losses import margin
from robustgeom.harness.engine import dtype_of
from robustgeom.harness.failures._case import Case
from robustgeom.harness.failures._grading import Status, names, result
from robustgeom.records import CheckResult
from robustgeom.stats import exceeds
from robustgeom.threat import Norm, steepest

__all__ = ["hard_gates"]

_RATE = 0.1
_MOST = 32  # samples
_PARTS = 8  # of the way across the ball
_HALVINGS = 12
_KEPT = 0.05  # of the largest change: a slope leaves 0.0002 of it
_STAYED = 0.7  # of the change three halvings before: a root or a logarithm at black pixels loses more
_BEFORE = 3
_SEEN = 1e-3  # of the margin: what rounding stays far below
_ROUNDED = 64  # units in the last place of the largest logit


def hard_gates(case: Case) -> CheckResult | None:
    """Return on how many standing samples the margin jumps on a random way across the ball: it should be none.

    On that way the eighth with the largest change is halved twelve times, always keeping the half that changes more. A
    continuous network changes less and less, one that steps as much as before: gated linear and vectorised networks,
    k winners, frozen gates, roundings. Gradients do not see what opens there, and attacks that climb them stop short
    (robust accuracy 18 to 26 points too high in our pilot), while attacks on a soft form of the steps do not. What
    passes gradients straight through is not told apart. None for networks with random draws of their own, which differ
    between any two points.
    """
    if case.battle.subject.noise == "batch":
        return None
    rows = case.some(case.standing[:_MOST], (1 + _PARTS + _HALVINGS) * case.draws)
    count = int(_jumps(case, rows).sum())
    text = f"the margin jumps inside the ball on {count} of {len(rows)} standing samples, which gradients do not see"
    bad = exceeds(count, len(rows), _RATE)
    soft, fixed = names(case.softened), names(case.of_one_width)
    action = "attack a form with soft gates: a variant of the model as source, or --remedy"
    if bad and soft:
        text += f"; {soft} sees it"
    if bad and fixed:  # some of those
        text += f", {fixed} through gates of one width"
        action = "rg.SoftGates: which width sees most is not known ahead, attacks narrow it"
    status: Status = "pass" if not bad else "warn" if soft else "fail"
    return result("hard gates", status, count / max(len(rows), 1), text, action)


def _jumps(case: Case, rows: Tensor) -> Tensor:
    """Return whether the margin of each of the rows (k,) keeps its change however close two points are."""
    x, labels = case.inputs(rows)
    at, oracle = torch.arange(len(rows), device=x.device), case.oracle(rows, "gates")
    noise = torch.randn(x.shape, generator=case.generator("gates"))
    away = case.reach(rows, x) * _across(noise.to(x), case.norm)
    largest_logit = torch.zeros(len(rows), dtype=torch.float64, device=x.device)

    def height(share: Tensor) -> Tensor:
        point = (x + share.view(-1, *[1] * (x.dim() - 1)) * away).clamp(*case.domain)
        seen = oracle.look(margin, (labels,), point, at, gradient=False)
        largest_logit.copy_(torch.maximum(largest_logit, seen.logits.abs().amax(1).double()))
        return seen.loss.double()

    shares = torch.linspace(-1, 1, _PARTS + 1, device=x.device)
    heights = torch.stack([height(share.expand(len(rows))) for share in shares], 1)
    largest, part = heights.diff(dim=1).abs().max(1)
    low, high = shares[part], shares[part + 1]
    ends = torch.stack([heights[at, part], heights[at, part + 1]], 1)
    changes = [largest]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        between = height(middle)
        left = (between - ends[:, 0]).abs() >= (ends[:, 1] - between).abs()
        low, high = torch.where(left, low, middle), torch.where(left, middle, high)
        ends = torch.stack(
            [torch.where(left, ends[:, 0], between), torch.where(left, between, ends[:, 1])], 1
        )
        changes.append(ends.diff(dim=1).abs().squeeze(1))
    left_over, shortly = changes[-1], changes[-1 - _BEFORE]
    rounding = _ROUNDED * torch.finfo(dtype_of(case.battle.subject.module)).eps * largest_logit
    stays = (left_over > _KEPT * largest) & (left_over > _STAYED * shortly)
    return stays & (left_over > torch.maximum(rounding, _SEEN * heights.abs().amax(1)))


def _across(noise: Tensor, norm: Norm) -> Tensor:
    """Return the way to the ball's surface that noise points: to its corners in linf, and to no corner in l1."""
    if norm == "l1":
        return noise / noise.abs().flatten(1).sum(1).view(-1, *[1] * (noise.dim() - 1))
    return steepest(noise, norm)
