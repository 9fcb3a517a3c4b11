"""The judge of stochastic models: how often it errs, when it stops, what it does where it cannot tell."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robustgeom.harness.judge import ALPHA, SINGLE_DRAWS, judge
from robustgeom.harness.target import Target
from robustgeom.models.noise import GaussianNoise
from robustgeom.stats import clopper_pearson

N = 2000


def frequencies(*shares, n=N):
    """Return inputs (n, 1 + classes) of a network that predicts class j on `shares[j]` of its draws."""
    return torch.tensor([0.0, *shares], dtype=torch.float64).repeat(n, 1)


def one_of(u, x):
    """Return logits (n, classes) that predict the class whose turn `u` (n, 1) in [0, 1) is."""
    chosen = (u >= x[:, 1:].cumsum(1)[:, :-1]).sum(1)
    return 4 * nn.functional.one_hot(chosen, x.shape[1] - 1).double()


class Keyed(nn.Module):
    """Draws by our own noise layer."""

    def __init__(self):
        super().__init__()
        self.noise = GaussianNoise(1, rho=1.0, key="a")

    def forward(self, x):
        return one_of(torch.special.ndtr(self.noise(x[:, :1].float()).double()), x)


def batchwise(x):
    """Draw by torch.rand, for the whole batch at once."""
    return one_of(torch.rand(len(x), 1, dtype=torch.float64), x)


def decide(x, *, draws=128, labels=0, forward=batchwise, seed=0, places=None):
    target = Target(forward, range(len(x)), "batch" if forward is batchwise else "keyed", seed=seed)
    labels = torch.full((len(x),), labels)
    return judge(target, x, labels, torch.arange(len(x)), draws=draws, places=places), target


def promised(count):
    """Whether `count` wrong decisions of N are within the promise: ALPHA is not below their exact interval."""
    return clopper_pearson(int(count), N, confidence=0.99).low <= ALPHA


# --- error rates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shares",
    [(0.5, 0.5), (0.45, 0.55), (1 / 3, 1 / 3, 1 / 3), (0.4, 0.4, 0.2), (0.3, 0.4, 0.3), (*[0.09] * 10, 0.1)],
)
def test_a_label_that_is_not_ahead_of_all_seldom_passes(shares):
    verdict, _ = decide(frequencies(*shares), draws=128)
    assert promised((verdict.prediction == 0).sum())


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.55, 0.45), (0.4, 0.3, 0.3), (0.14, *[0.09] * 9, 0.05)])
def test_a_label_that_is_ahead_is_seldom_decided_against(shares):
    verdict, _ = decide(frequencies(*shares))
    against = (verdict.prediction != 0) & ~verdict.near_tie
    assert promised(against.sum())


@pytest.mark.parametrize("shares", [(0.8, 0.2), (0.2, 0.8), (0.7, 0.15, 0.15), (0.1, 0.1, 0.8)])
def test_clear_majorities_are_found(shares):
    verdict, _ = decide(frequencies(*shares))
    winner = max(range(len(shares)), key=lambda c: shares[c])
    assert (verdict.prediction == winner).double().mean() > 0.99
    assert verdict.draws.double().mean() < 64


# --- what a decision consists of ---------------------------------------------------------------------------------


def test_undecided_rows_are_near_ties_and_not_robust():
    verdict, _ = decide(frequencies(0.5, 0.3, 0.2), draws=24)
    held = verdict.near_tie
    assert 0.5 < held.double().mean() < 1
    assert (verdict.prediction[held] != 0).all()
    assert (verdict.draws[held] == 24).all()


def test_a_tie_of_two_classes_is_not_robust():
    verdict, _ = decide(frequencies(0.5, 0.5, n=300))
    assert (verdict.prediction == 1).double().mean() > 0.97


def test_undecided_rows_name_the_most_frequent_other_class():
    verdict, _ = decide(frequencies(0.45, 0.1, 0.45, n=300), draws=200)
    assert (verdict.prediction == 2).double().mean() > 0.99


def test_the_vote_decides_and_not_the_mean_probability():
    """Class 0 is predicted seldom but surely, class 1 often but barely."""

    def forward(x):
        surely = torch.rand(len(x), 1) < 0.3
        return torch.where(surely, torch.tensor([9.0, 0.0]), torch.tensor([0.0, 0.02]))

    x = torch.zeros(50, 1)
    verdict = judge(
        Target(forward, range(50), "batch", seed=0), x, torch.zeros(50).long(), torch.arange(50), draws=256
    )
    assert (verdict.margin > 0).all()
    assert (verdict.prediction == 1).all()
    assert not verdict.near_tie.any()


def test_every_row_gets_twenty_draws_and_decided_rows_no_more():
    x = torch.cat([frequencies(1.0, 0.0, n=5), frequencies(0.5, 0.5, n=5)])
    verdict, target = decide(x, draws=60, forward=Keyed().eval())
    assert verdict.draws.tolist()[:5] == [SINGLE_DRAWS] * 5
    assert verdict.draws.tolist()[5:] == [60] * 5
    assert target.forward_calls.tolist() == verdict.draws.tolist()


def test_a_small_number_of_draws_is_kept_to():
    verdict, target = decide(frequencies(1.0, 0.0, n=3), draws=12)
    assert verdict.draws.tolist() == target.forward_calls.tolist() == [12] * 3
    assert verdict.prediction.tolist() == [0] * 3  # 12 to nothing is enough


def test_rows_are_decided_alike_alone_and_in_company():
    x = torch.cat([frequencies(p, 1 - p, n=4) for p in (0.05, 0.5, 0.65, 0.8, 1.0)])
    whole, target = decide(x, forward=Keyed().eval())
    labels = torch.zeros(1, dtype=torch.int64)
    for i in range(len(x)):
        alone = judge(target, x[i : i + 1], labels, torch.tensor([i]), draws=128)
        for name, value in vars(alone).items():
            torch.testing.assert_close(value[0], getattr(whole, name)[i])


def test_the_share_of_right_draws_and_the_mean_probability_are_those_of_the_draws_made():
    x = frequencies(0.6, 0.3, 0.1, n=20)
    verdict, target = decide(x, forward=Keyed().eval())
    for i, row in enumerate(verdict.draws.tolist()):
        again = target.query(x[i].repeat(row, 1), torch.full((row,), i), torch.arange(row))
        torch.testing.assert_close(verdict.log_p[i].exp(), again.softmax(1).mean(0))
        assert verdict.correct_rate[i] == pytest.approx(float((again.argmax(1) == 0).double().mean()))


# --- noise by the batch --------------------------------------------------------------------------------------------


def test_the_same_batch_gets_the_same_noise_whoever_is_wanted():
    x = torch.cat([frequencies(p, 1 - p, n=8) for p in (0.05, 0.5, 0.65, 0.8)])
    whole, _ = decide(x)
    places = torch.tensor([1, 9, 20, 30])
    some, target = decide(x, places=places)
    for name, value in vars(some).items():
        assert torch.equal(value, getattr(whole, name)[places])
    assert target.forward_calls.tolist() == [int(some.draws.max())] * len(x)
    few, target = decide(x, places=torch.tensor([0, 1]))
    assert target.forward_calls.tolist() == [int(few.draws.max())] * len(x)
    assert few.draws.max() < 128
