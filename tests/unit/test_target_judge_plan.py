"""What the harness puts between a model and an attack: padding, keyed noise, counting, judging, planning."""

import math

import pytest
import torch
from torch import nn

from robustgeom.attacks.pgd import pgd
from robustgeom.errors import InputError
from robustgeom.harness.judge import NEAR_TIE, judge
from robustgeom.harness.plan import chunks
from robustgeom.harness.target import Target, row_generators
from robustgeom.models.noise import GaussianNoise
from robustgeom.seeds import seed_of
from robustgeom.threat import ThreatModel


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(6, 3, generator=g))
        self.noise = GaussianNoise(6, rho=1.0, key="a")
        self.sizes = []

    def forward(self, x):
        self.sizes.append(len(x))
        return self.noise(x) @ self.weight


def rows(n):
    return torch.arange(n)


def test_batches_are_padded_and_answers_are_not():
    model = Noisy().eval()
    target = Target(model, range(40), "keyed", seed=1, classes=3)
    x = torch.rand(40, 6)
    whole = target(x)
    part = target.query(x[3:8], torch.arange(3, 8), torch.zeros(5, dtype=torch.int64))
    assert model.sizes == [40, 8]
    assert whole.shape == (40, 3)
    torch.testing.assert_close(part, whole[3:8])


def test_keyed_noise_follows_the_sample_not_the_place_in_the_batch():
    target = Target(Noisy().eval(), range(10), "keyed", seed=1)
    x = torch.rand(10, 6)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    shuffled = target.query(x[order], order, torch.full((10,), 4))
    straight = target.query(x, rows(10), torch.full((10,), 4))
    torch.testing.assert_close(shuffled, straight[order])
    other_draw = target.query(x, rows(10), torch.full((10,), 5))
    other_seed = Target(Noisy().eval(), range(10), "keyed", seed=2).query(x, rows(10), torch.full((10,), 4))
    assert not torch.allclose(other_draw, straight)
    assert not torch.allclose(other_seed, straight)


def test_uncontrolled_noise_repeats_under_its_batch_and_leaves_the_callers_stream():
    def forward(x):
        return x[:, :3] + torch.randn(len(x), 3)

    target, x = Target(forward, range(5), "batch", seed=1), torch.rand(5, 6)
    torch.manual_seed(9)
    expected = torch.rand(2)
    torch.manual_seed(9)
    draw = torch.zeros(5, dtype=torch.int64)
    first, second = target.query(x, rows(5), draw), target.query(x, rows(5), draw)
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(first, second)
    assert not torch.equal(first, target.query(x, rows(5), torch.ones(5, dtype=torch.int64)))


def test_plain_calls_meet_a_fresh_draw_each_and_need_all_rows():
    x = torch.rand(5, 6)
    target, again = (Target(Noisy().eval(), range(5), "keyed", seed=1) for _ in range(2))
    first, second = target(x), target(x)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(second, again.query(x, rows(5), torch.ones(5, dtype=torch.int64)))
    with pytest.raises(InputError, match=r"expected 5 rows, one a sample, got 2; try model.at"):
        target(x[:2])


def test_a_forward_pass_that_writes_into_its_input_reaches_a_copy():
    x = torch.rand(32, 6)
    before = x.clone()
    Target(lambda v: v.mul_(0)[:, :3], range(32), "none", seed=0)(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("eot", [1, 3])
def test_every_pass_is_counted_for_its_sample(eot):
    model = Noisy().eval()
    model.noise.rho = 0.0
    target = Target(model, range(7), "none" if eot == 1 else "keyed", seed=0)
    x = torch.rand(7, 6)
    labels = target(x).argmax(1)
    target.forward_calls.zero_()
    settings = {"steps": 4, "stop_when_fooled": False, "eot": eot}
    pgd(
        target, x, labels, threat=ThreatModel("linf", 1e-6), generator=row_generators(range(7), 0), **settings
    )
    settle = 2 if eot > 1 else 0
    assert target.forward_calls.tolist() == [(5 + settle) * eot] * 7
    assert target.backward_calls.tolist() == [4 * eot] * 7


def test_a_fooled_sample_costs_nothing_more():
    model = Noisy().eval()
    model.noise.rho = 0.0
    target, x = Target(model, range(2), "none", seed=0), torch.rand(2, 6)
    labels = model(x).argmax(1)
    labels[0] = (labels[0] + 1) % 3  # wrong from the start
    pgd(target, x, labels, threat=ThreatModel("linf", 1e-6), steps=9, generator=row_generators(range(2), 0))
    assert target.forward_calls.tolist() == [1, 10]


def test_seeds_and_generators_depend_on_every_part():
    assert len({seed_of(*key) for key in [(0, "a"), (1, "a"), (0, "b"), (0, "a", 1), ("0|a", 1, 2)]}) == 5
    first, second = row_generators([3, 4], "x"), row_generators([4, 5], "x")
    assert torch.equal(torch.rand(3, generator=first[1]), torch.rand(3, generator=second[0]))


def test_the_judges_margin_is_that_of_the_mean_probability_over_draws():
    target, x = Target(Noisy().eval(), range(9), "keyed", seed=3), torch.rand(9, 6)
    labels = torch.arange(9) % 3
    draws = [target.query(x, rows(9), torch.full((9,), d)).double() for d in range(12)]
    mean = torch.stack([z.softmax(1) for z in draws]).mean(0)
    verdict = judge(target, x, labels, rows(9), draws=12)
    torch.testing.assert_close(verdict.log_p.exp(), mean)
    others = mean.scatter(1, labels[:, None], 0).amax(1)
    torch.testing.assert_close(verdict.margin, (mean.gather(1, labels[:, None]).squeeze(1) / others).log())
    rate = torch.stack([z.argmax(1) == labels for z in draws]).double().mean(0)
    torch.testing.assert_close(verdict.correct_rate, rate)


def test_one_draw_gives_margins_in_logits_and_marks_near_ties():
    logits = torch.tensor([[2.0, 0.5, 0.0], [1.0, 1.0 + NEAR_TIE / 2, 0.0], [0.0, 3.0, 1.0]])
    target = Target(
        lambda x: torch.cat([logits, logits[-1:].expand(len(x) - 3, 3)]), range(3), "none", seed=0
    )
    verdict = judge(target, torch.rand(3, 2), torch.zeros(3, dtype=torch.int64), rows(3), draws=1)
    torch.testing.assert_close(
        verdict.margin, torch.tensor([1.5, -NEAR_TIE / 2, -3.0]).double(), atol=1e-6, rtol=0
    )
    assert verdict.near_tie.tolist() == [False, True, False]


def test_extreme_logits_keep_finite_margins():
    target = Target(lambda x: torch.tensor([[1e4, -1e4]]).expand(len(x), 2), range(1), "none", seed=0)
    verdict = judge(target, torch.rand(1, 2), torch.zeros(1, dtype=torch.int64), rows(1), draws=1)
    assert math.isclose(float(verdict.margin), 2e4)


@pytest.mark.parametrize(
    ("count", "batch", "sizes"), [(70, 32, [32, 32, 6]), (70, 33, [64, 6]), (0, 128, []), (5, 1, [5])]
)
def test_chunks_cover_the_rows_in_order(count, batch, sizes):
    wanted = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    planned = chunks(wanted, batch)
    assert [len(c) for c in planned] == sizes
    assert torch.equal(torch.cat([*planned, wanted[:0]]), wanted)


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="batch_size >= 1"):
        chunks(rows(3), 0)
    with pytest.raises(InputError, match="expected a model that takes inputs"):
        Target(nn.Linear(5, 2), range(2), "none", seed=0)(torch.rand(2, 6))
