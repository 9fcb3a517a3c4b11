"""Randomized smoothing on classifiers whose smoothed form is known exactly, and what it refuses to certify."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, kstest, norm
from torch import nn

from robustgeom.errors import InputError, UnknownNameError
from robustgeom.geometry import capture
from robustgeom.models.build import build
from robustgeom.models.load import model_digest
from robustgeom.models.noise import GaussianNoise, noise_context, noise_frozen
from robustgeom.models.smoothing import Smoothed, certify
from robustgeom.threat import distance, inscribed
from robustgeom.training.standard import standard

SIGMA, D = 0.5, 9


def half_space(*, classes=2, seed=0):
    """A linear base: class 0 where w.x > 1, and the same class probabilities for any direction of w."""
    base = nn.Linear(D, classes)
    weight = torch.randn(D, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        base.weight.zero_()[0] = weight
        base.bias.fill_(-50.0)[:2] = torch.tensor([-1.0, 0.0])
    return base.eval(), weight / weight.norm(), 1 / float(weight.norm())


def at(distances, direction, offset):
    """Inputs at signed `distances` (n,) from the boundary, at places that differ along it."""
    along = torch.randn(len(distances), D, generator=torch.Generator().manual_seed(1))
    along -= (along @ direction)[:, None] * direction
    return along + (offset + torch.as_tensor(distances))[:, None] * direction


# --- the network -------------------------------------------------------------------------------------------------


def test_one_pass_is_the_base_on_inputs_with_gaussian_noise_that_nothing_clips():
    model, x = Smoothed(nn.Identity(), sigma=0.25), torch.rand(50, 400)
    noise = (model(x) - x) / 0.25
    assert kstest(noise.flatten().numpy(), "norm").pvalue > 1e-3
    assert (model(x) < 0).any()
    assert (model(x) > 1).any()


def test_noise_comes_ahead_of_the_bases_normalisation():
    model = build("smoothed", {"sigma": 0.25, "base": "cnn"}).eval()
    x = torch.rand(3, 1, 28, 28)
    with noise_frozen(4):
        z = model.noise(torch.zeros_like(x)) / 0.25
        assert torch.equal(model(x), model.base(x + 0.25 * z))


def test_a_wrapper_starts_in_the_mode_of_its_base():
    assert not Smoothed(nn.Linear(2, 2).eval(), sigma=1.0).training
    assert Smoothed(nn.Linear(2, 2), sigma=1.0).training


def test_stages_are_the_bases_own_and_can_be_captured():
    model = build("smoothed", {"sigma": 0.1, "base": "cnn"}).eval()
    assert list(capture(model, [torch.rand(2, 1, 28, 28)])) == [
        "input",
        "base.conv1",
        "base.conv2",
        "base.hidden",
        "logits",
    ]
    assert Smoothed(nn.Linear(2, 2), sigma=0.1).stages is None


def test_sigma_is_part_of_the_models_digest_and_not_of_its_weights():
    low, high = (Smoothed(nn.Linear(2, 2), sigma=s) for s in (0.1, 0.2))
    high.load_state_dict(low.state_dict())
    assert model_digest(low) != model_digest(high)


def test_the_architecture_takes_arguments_for_its_base_and_refuses_others():
    model = build("smoothed", {"sigma": 0.1, "base": "cnn", "base_arguments": {"classes": 4}})
    assert model.base.logits.out_features == 4
    with pytest.raises(UnknownNameError, match="preact_resnet"):
        build("smoothed", {"sigma": 0.1, "base": "preact_resent"})
    with pytest.raises(UnknownNameError, match="known argument of cnn, got 'depth'"):
        build("smoothed", {"sigma": 0.1, "base": "cnn", "base_arguments": {"depth": 4}})
    with pytest.raises(InputError, match="sigma >= 0"):
        Smoothed(nn.Linear(2, 2), sigma=-0.1)


def test_the_standard_objective_meets_new_noise_in_every_batch():
    model = Smoothed(nn.Linear(4, 3), sigma=0.5)
    batch = torch.rand(8, 4), torch.arange(8) % 3
    losses = [standard(model, *batch, generator=torch.Generator()) for _ in range(2)]
    assert losses[0] != losses[1]
    losses[0].backward()
    assert model.base.weight.grad.abs().min() > 0


# --- the certificate against closed forms ------------------------------------------------------------------------


def test_radius_stays_below_the_distance_to_the_boundary_and_approaches_it():
    base, direction, offset = half_space()
    true = torch.linspace(-0.9, 0.9, 10)
    x, gaps = at(true, direction, offset), []
    for draws in (100, 500, 2500):
        found = certify(Smoothed(base, SIGMA), x, draws=draws, alpha=1e-4)
        certain = found.radius > 0
        assert torch.equal(found.prediction[certain], (true[certain] < 0).long())
        assert (found.radius <= true.abs()).all()
        gaps.append(float((true.abs() - found.radius)[true.abs() < 0.7].mean()))
    # The bound's distance from the truth falls as one over the root of the draws.
    assert gaps[0] > 1.7 * gaps[1] > 1.7**2 * gaps[2]
    assert gaps[2] < 0.08


def test_certificate_is_that_of_counts_taken_by_hand_and_of_scipys_exact_interval():
    base, direction, offset = half_space(classes=3, seed=2)
    model, x = Smoothed(base, SIGMA), at([0.1, -0.3, 0.8], direction, offset)
    found = certify(model, x, draws=300, selection_draws=20, alpha=0.02, seed=5, ids=[7, 8, 9])
    for i, key in enumerate((7, 8, 9)):
        votes = []
        for draw in range(320):
            with noise_context(5, [key], draw):
                votes.append(int(model(x[i : i + 1]).argmax()))
        chosen = max(set(votes[:20]), key=votes[:20].count)
        counted = binomtest(votes[20:].count(chosen), 300, alternative="greater")
        lower = counted.proportion_ci(0.98, method="exact").low
        assert found.p_lower[i].item() == pytest.approx(lower, rel=1e-9)
        assert found.prediction[i] == chosen
        assert found.radius[i].item() == pytest.approx(SIGMA * norm.ppf(lower), rel=1e-9)


def test_the_bound_fails_as_often_as_the_binomial_says_and_at_most_alpha():
    base, direction, offset = half_space()
    true, alpha, draws, n = 0.4, 0.1, 40, 250
    x = at([true], direction, offset).expand(n, D)
    found = certify(Smoothed(base, SIGMA), x, draws=draws, selection_draws=10, alpha=alpha)
    p = norm.cdf(true / SIGMA)
    fails = [
        binomtest(k, draws, alternative="greater").proportion_ci(1 - alpha, "exact").low > p
        for k in range(41)
    ]
    rate = sum(binom.pmf(k, draws, p) for k, failed in enumerate(fails) if failed)
    assert 0.02 < rate <= alpha
    wrong = int((found.radius > true).sum())
    assert binomtest(wrong, n, rate).pvalue > 0.01


def test_it_abstains_on_the_boundary_and_where_no_class_has_half_of_the_draws():
    base, direction, offset = half_space()
    found = certify(Smoothed(base, SIGMA), at([0.0] * 40, direction, offset), draws=200, alpha=0.01)
    assert (found.prediction == -1).sum() >= 38
    assert (found.radius[found.prediction == -1] == 0).all()
    thirds = nn.Linear(2, 3).eval()
    with torch.no_grad():
        angles = torch.arange(3) * 2 * math.pi / 3
        thirds.weight.copy_(torch.stack([angles.cos(), angles.sin()], 1))
        thirds.bias.zero_()
    found = certify(Smoothed(thirds, 1.0), torch.zeros(5, 2), draws=200)
    assert (found.prediction == -1).all()
    assert (found.p_lower < 0.5).all()


def test_however_sure_the_base_is_the_radius_has_the_ceiling_that_the_draws_allow():
    base, direction, offset = half_space()
    found = certify(Smoothed(base, SIGMA), at([50.0], direction, offset), draws=500, alpha=0.001)
    assert found.radius.item() == pytest.approx(SIGMA * norm.ppf(0.001 ** (1 / 500)))


# --- repeating ---------------------------------------------------------------------------------------------------


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(vars(first).values(), vars(second).values(), strict=True))


def test_a_certificate_follows_from_seed_and_id_whatever_is_certified_beside_it():
    base, direction, offset = half_space()
    model, x = Smoothed(base, SIGMA), at(torch.linspace(-0.5, 0.5, 6), direction, offset)
    common = {"draws": 150, "selection_draws": 20}
    whole = certify(model, x, ids=range(10, 16), **common)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    order = [4, 0, 3]
    some = certify(model, x[order], ids=[10 + i for i in order], batch=64, **common)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(some.p_lower, whole.p_lower[order])
    assert same(certify(model, x, ids=range(10, 16), **common), whole)
    assert not same(certify(model, x, ids=range(10, 16), seed=1, **common), whole)
    assert not same(certify(model, x, ids=range(20, 26), **common), whole)


def test_no_inputs_have_no_certificates():
    found = certify(Smoothed(nn.Linear(4, 2).eval(), SIGMA), torch.zeros(0, 4))
    assert [len(v) for v in vars(found).values()] == [0, 0, 0]


# --- refusals ----------------------------------------------------------------------------------------------------


class Dropping(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5, training=True)


class Alternating(nn.Module):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return x * (-1) ** self.calls


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Linear(4, 2).eval(), "got Linear"),
        (nn.Sequential(Smoothed(nn.Linear(4, 2), 0.1)).eval(), "got Sequential"),
        (Smoothed(nn.Linear(4, 2), 0.1), "training mode"),
        (Smoothed(nn.Sequential(nn.Linear(4, 2), nn.Dropout()).eval(), 0.1).train(), "training mode"),
        (Smoothed(nn.Linear(4, 2), 0.0).eval(), "sigma > 0"),
        (
            Smoothed(nn.Sequential(GaussianNoise(4, rho=1.0, key="deep"), nn.Linear(4, 2)), 0.1).eval(),
            "noise at deep",
        ),
        (Smoothed(Smoothed(nn.Linear(4, 2), 0.1), 0.1).eval(), "noise at smoothing"),
        (Smoothed(Dropping(), 0.1).eval(), "random numbers of its own"),
        (Smoothed(Alternating(), 0.1).eval(), "random numbers of its own"),
        (Smoothed(nn.Flatten(0), 0.1).eval(), "logits of shape"),
        (Smoothed(nn.Linear(5, 2), 0.1).eval(), "inputs that the model takes"),
    ],
)
def test_networks_that_the_theorem_does_not_speak_of_are_refused(model, said):
    with pytest.raises(InputError, match=said):
        certify(model, torch.rand(3, 4), draws=10)


def test_noise_of_ratio_zero_in_the_base_is_none():
    base = nn.Sequential(GaussianNoise(4, rho=0.0, key="deep"), nn.Linear(4, 2))
    assert len(certify(Smoothed(base, 0.1).eval(), torch.rand(2, 4), draws=10).radius) == 2


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"draws": 0}, "draws >= 1"),
        ({"selection_draws": 0}, "selection_draws >= 1"),
        ({"batch": 0}, "batch >= 1"),
        ({"alpha": 0.0}, "0 < alpha < 0.5"),
        ({"alpha": 0.5}, "0 < alpha < 0.5"),
        ({"ids": [1, 2]}, "3 ids"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting, said):
    with pytest.raises(InputError, match=said):
        certify(Smoothed(nn.Linear(4, 2).eval(), 0.1), torch.rand(3, 4), **setting)


# --- other norms -------------------------------------------------------------------------------------------------

BALLS = st.sampled_from(["l1", "l2", "linf"])


@settings(max_examples=60, deadline=None)
@given(of=BALLS, under=BALLS, d=st.integers(1, 40), seed=st.integers(0, 1000))
def test_the_inscribed_ball_lies_inside_and_touches(of, under, d, seed):
    radius = inscribed(0.7, of=of, under=under, dimension=d)
    drawn = torch.randn(50, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    axis = nn.functional.one_hot(torch.tensor([0]), d).double()
    points = torch.cat([drawn, drawn.sign(), axis, torch.ones(1, d, dtype=torch.float64)])
    origin = torch.zeros_like(points)
    onto = points * (radius / distance(points, origin, under))[:, None]
    assert float(distance(onto, origin, of).max()) == pytest.approx(0.7)


def test_changes_without_a_ball_have_no_inscribed_one():
    with pytest.raises(InputError, match="l1, l2 or linf"):
        inscribed(1.0, of="l2", under="l0", dimension=4)
