"""The judge: clip, query again, decide. No attack reports its own success."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from robustgeom.harness.target import Target
from robustgeom.stats import log_evidence

__all__ = ["ALPHA", "NEAR_TIE", "SINGLE_DRAWS", "Judgement", "judge"]

NEAR_TIE = 1e-3
"""Margins closer to zero than this (in logits) may fall the other way under another batch size."""
SINGLE_DRAWS = 20
"""Noise draws that every row gets, decided or not."""
ALPHA = 0.01
"""The most often that a row passes whose most frequent class is not its label, and the other way round."""


@dataclass(frozen=True)
class Judgement:
    """The decision on each of n rows, resting on `draws` (n,) noise draws.

    `log_p` (n, classes) is the log of the mean probability; `margin` (n,) is the label's minus the best other's,
    in nats, which for one draw is the difference of the logits; `correct_rate` (n,) is the share of draws that
    predict the label. `near_tie` (n,) marks decisions that hang on rounding or, under noise, were not reached.
    """

    log_p: Tensor
    prediction: Tensor
    margin: Tensor
    correct_rate: Tensor
    near_tie: Tensor
    draws: Tensor


def judge(
    target: Target, x: Tensor, labels: Tensor, rows: Tensor, *, draws: int, places: Tensor | None = None
) -> Judgement:
    """Decide inputs (k, ...) of the target's `rows` (k,) with `labels` (k,), by at most `draws` noise draws.

    One draw decides by its logits. Of more, the prediction is the class predicted most often: a row gets 20, then
    one at a time until a sequential test has decided it. It passes as its label where that is found ahead of every
    other class, each at level 0.01, and as another class where that is found ahead of the label, at 0.01 over all
    of them. Where neither is found in time, the prediction is the most frequent other class: not robust.
    Only `places` (j,) of the k inputs are decided, all by default; the others share a noise drawn by the batch.

    >>> target = Target(lambda x: x, [0], "none", seed=0)
    >>> judge(target, torch.tensor([[0.0, 2.0]]), torch.tensor([0]), torch.tensor([0]), draws=1).margin
    tensor([-2.], dtype=torch.float64)
    """
    everything = torch.arange(len(x))
    places = everything if places is None else places
    whole = target.noise == "batch"

    def ask(draw: int, at: Tensor) -> Tensor:
        asked = everything if whole else at
        with torch.no_grad():
            logits = target.query(x[asked], rows[asked], torch.full_like(asked, draw))
        return (logits[at] if whole else logits).double().log_softmax(1).cpu()

    opening = min(draws, SINGLE_DRAWS)
    apart = [ask(draw, places) for draw in range(opening)] if whole else None
    first = apart or _together(target, x, rows, places, opening)
    tally = _Tally.of(labels.cpu()[places], first[0])
    for log_p in first[1:]:
        tally.add(torch.arange(len(places)), log_p)
    for draw in range(opening, draws):
        left = tally.undecided
        if not len(left):
            break
        tally.add(left, ask(draw, places[left]))
    return tally.vote() if draws > 1 else tally.judgement(tally.log_p.argmax(1))


def _together(target: Target, x: Tensor, rows: Tensor, places: Tensor, draws: int) -> list[Tensor]:
    """Return the log-probabilities (k, classes) of inputs at `places` (k,) under each of so many draws."""
    owners = torch.arange(len(places)).repeat_interleave(draws)
    numbers = torch.arange(draws).repeat(len(places))
    with torch.no_grad():
        logits = target.query(x[places], rows.cpu()[places][owners], numbers, owners)
    log_p = logits.double().log_softmax(1).cpu()
    return list(log_p.view(len(places), draws, -1).transpose(0, 1))


@dataclass
class _Tally:
    """What the draws of n rows come to: the log of summed probabilities, and how often each class was predicted."""

    labels: Tensor
    total: Tensor
    counts: Tensor

    @classmethod
    def of(cls, labels: Tensor, log_p: Tensor) -> _Tally:
        """Return the tally of one draw."""
        return cls(labels, log_p, _votes(log_p))

    def add(self, rows: Tensor, log_p: Tensor) -> None:
        """Add a draw of `rows` (k,), log-probabilities (k, classes)."""
        self.total[rows] = torch.logaddexp(self.total[rows], log_p)
        self.counts[rows] += _votes(log_p)

    @property
    def draws(self) -> Tensor:
        return self.counts.sum(1)

    @property
    def log_p(self) -> Tensor:
        return self.total - self.draws.double().log()[:, None]

    @property
    def undecided(self) -> Tensor:
        """The rows that need another draw."""
        right, wrong = self.decided()
        return (~(right | wrong)).nonzero().squeeze(1)

    def decided(self) -> tuple[Tensor, Tensor]:
        """Return which rows (n,) are decided for their label, and which against it."""
        mine = self.counts.gather(1, self.labels[:, None]).squeeze(1)
        # The runner-up stands for all: evidence falls with the draws behind and grows with those ahead.
        rival, rivals = self._others(self.counts).amax(1), self.counts.shape[1] - 1
        ahead, behind = torch.maximum(mine, rival).numpy(), torch.minimum(mine, rival).numpy()
        found = torch.from_numpy(log_evidence(ahead, behind))
        right = (mine > rival) & (found >= -math.log(ALPHA))
        return right, (mine < rival) & (found >= math.log(rivals / ALPHA))

    def vote(self) -> Judgement:
        """Return the decisions by frequency; classes as frequent as each other go by their mean probability."""
        right, wrong = self.decided()
        other = self._others(self.counts + self.log_p.exp() / 2).argmax(1)
        return self.judgement(torch.where(right, self.labels, other), near_tie=~(right | wrong))

    def judgement(self, prediction: Tensor, near_tie: Tensor | None = None) -> Judgement:
        """Return the judgement with these predictions (n,); by default `near_tie` is told by the margin."""
        log_p = self.log_p
        margin = log_p.gather(1, self.labels[:, None]).squeeze(1) - self._others(log_p).amax(1)
        rate = self.counts.gather(1, self.labels[:, None]).squeeze(1).double() / self.draws
        near_tie = margin.abs() < NEAR_TIE if near_tie is None else near_tie
        return Judgement(log_p, prediction, margin, rate, near_tie, self.draws)

    def _others(self, values: Tensor) -> Tensor:
        """Return `values` (n, classes) with the label's out of the running."""
        return values.double().scatter(1, self.labels[:, None], -math.inf)


def _votes(log_p: Tensor) -> Tensor:
    return one_hot(log_p.argmax(1), log_p.shape[1])
