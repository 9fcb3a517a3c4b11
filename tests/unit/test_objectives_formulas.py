"""Objectives against formulas written another way, closed forms on linear models, finite differences."""

import copy
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from robustgeom.attacks.fgsm import fgsm
from robustgeom.errors import InputError
from robustgeom.threat import ThreatModel, distance
from robustgeom.training._terms import divergence
from robustgeom.training._worst import climb, in_eval

spec = importlib.util.spec_from_file_location("objective_toys", Path(__file__).with_name("objective_toys.py"))
toys = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toys)
network = toys.network
linear = toys.linear
batch = toys.batch
seeded = toys.seeded
losses = toys.losses
loss_of = toys.loss_of
driven = toys.driven
gradients = toys.gradients
Linear = toys.Linear

CLIMBING = ["mart", "trades"]


# --- plain numpy, from the papers' formulas ------------------------------------------------------------------------


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def cross_entropy(z, y):
    return -np.log(softmax(z)[np.arange(len(y)), y])


def kl(p, q):
    return (p * np.log(p / q)).sum(1)


def by_numpy(name, clean, attacked, y, beta):
    p, q, rows = softmax(clean), softmax(attacked), np.arange(len(y))
    if name == "trades":
        return (cross_entropy(clean, y) + beta * kl(p, q)).mean()
    others = q.copy()
    others[rows, y] = -1
    boosted = -np.log(q[rows, y]) - np.log(1 - others.max(1))
    return (boosted + beta * kl(p, q) * (1 - p[rows, y])).mean()


def in_train_mode(model, *passes):
    """Logits of a copy that sees `passes` in train mode, one after the other."""
    twin = copy.deepcopy(model).train()
    return [twin(x).detach().numpy().astype(float) for x in passes]


# --- clean objectives ----------------------------------------------------------------------------------------------


def test_smoothed_labels_by_hand():
    model, (x, y) = network(), batch()
    (z,) = in_train_mode(model, x)
    target = np.full((12, 3), 0.3 / 3) + 0.7 * np.eye(3)[y]
    found = loss_of("label_smoothing", model, (x, y), smoothing=0.3).item()
    assert found == pytest.approx(-(target * np.log(softmax(z))).sum(1).mean(), rel=1e-5)
    plain = loss_of("label_smoothing", model, (x, y), smoothing=0.0)
    torch.testing.assert_close(plain, loss_of("standard", model, (x, y)))


def test_squeezed_logits_by_hand():
    model, (x, y) = network(), batch()
    (z,) = in_train_mode(model, x)
    found = loss_of("logit_squeezing", model, (x, y), weight=0.2).item()
    assert found == pytest.approx((cross_entropy(z, y) + 0.2 * (z**2).sum(1)).mean(), rel=1e-5)


@pytest.mark.parametrize("name", ["logit_squeezing", "noise_augmented"])
def test_noise_is_normal_of_the_stated_width_and_leaves_the_domain(name):
    model, (x, y) = linear(width=400), batch(20, (400,), dtype=torch.float64)
    model.train()
    loss = loss_of(name, model, (x, y), sigma=0.5)
    (seen,) = model.points(True)
    assert stats.kstest((seen - x).flatten().numpy() / 0.5, "norm").pvalue > 0.01
    assert seen.min() < -0.5
    assert seen.max() > 1.5
    z = model(seen).detach().numpy()
    penalty = 0.05 * (z**2).sum(1) if name == "logit_squeezing" else 0
    assert loss.item() == pytest.approx((cross_entropy(z, y) + penalty).mean(), rel=1e-12)


def test_input_gradients_of_a_linear_model_in_closed_form():
    model, (x, y) = linear(), batch(9, (6,), dtype=torch.float64)
    z = model(x).detach().numpy()
    slope = (softmax(z) - np.eye(3)[y]) @ model.weight.detach().numpy()
    expected = (cross_entropy(z, y) + 2.5 * (slope**2).sum(1)).mean()
    assert loss_of("gradient_norm", model, (x, y), weight=2.5).item() == pytest.approx(expected, rel=1e-12)


def test_the_penalty_and_its_gradient_by_finite_differences():
    model, (x, y) = network(dtype=torch.float64), batch(2, dtype=torch.float64)
    h = 1e-5

    def objective():
        # Central differences of the batch's summed loss, one pixel at a time.
        slope = torch.zeros_like(x).flatten()
        for i in range(x.numel()):
            step = F.one_hot(torch.tensor(i), x.numel()).view_as(x) * h
            with torch.no_grad():
                up, down = (F.cross_entropy(model(x + s * step), y, reduction="sum") for s in (1, -1))
            slope[i] = (up - down) / (2 * h)
        with torch.no_grad():
            return (F.cross_entropy(model(x), y) + 3 * slope.view(2, -1).square().sum(1).mean()).item()

    loss = loss_of("gradient_norm", model, (x, y), weight=3.0)
    assert loss.item() == pytest.approx(objective(), rel=1e-6)
    found = gradients(model, loss)
    values, ends = model.conv.weight.data.view(-1), []
    for shift in (1e-4, -1e-4):
        values[5] += shift
        ends.append(objective())
        values[5] -= shift
    assert found["conv.weight"].flatten()[5].item() == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-5)


# --- one step ------------------------------------------------------------------------------------------------------


def test_a_fast_step_starts_anywhere_in_twice_the_ball_and_is_not_cut_to_the_ball():
    model, y = linear(width=500), torch.arange(12) % 3
    x = torch.full((12, 500), 0.5, dtype=torch.float64)
    loss = loss_of("fast_at", model, (x, y), eps=0.1)
    start, worst = (p for _, p in model.seen)
    assert stats.kstest(((start - x).flatten() / 0.4 + 0.5).numpy(), "uniform").pvalue > 0.01
    slope = (softmax(model(start).detach().numpy()) - np.eye(3)[y]) @ model.weight.detach().numpy()
    np.testing.assert_allclose((worst - start).numpy(), 0.1 * np.sign(slope), atol=1e-12)
    assert (worst - x).abs().max() > 0.25
    assert loss.item() == pytest.approx(cross_entropy(model(worst).detach().numpy(), y).mean(), rel=1e-12)


def test_a_fast_step_in_l2_goes_one_radius_along_the_gradient_from_twice_the_ball():
    model, y = linear(width=50), torch.arange(300) % 3
    x = torch.full((300, 50), 0.5, dtype=torch.float64)
    loss_of("fast_at", model, (x, y), norm="l2", eps=0.1)
    start, worst = (p for _, p in model.seen)
    share = (start - x).norm(dim=1) / 0.2
    assert stats.kstest((share**50).numpy(), "uniform").pvalue > 0.01  # uniform in a ball of 50 dimensions
    slope = (softmax(model(start).detach().numpy()) - np.eye(3)[y]) @ model.weight.detach().numpy()
    expected = 0.1 * slope / np.linalg.norm(slope, axis=1, keepdims=True)
    np.testing.assert_allclose((worst - start).numpy(), expected, atol=1e-12)


def test_a_fast_step_without_noise_is_fgsm():
    model, (x, _) = network(), batch()
    with in_eval(model), torch.no_grad():
        y = model(x).argmax(1)  # FGSM leaves misclassified inputs alone
    loss_of("fast_at", model, (x, y), noise=0.0)
    with in_eval(model):
        expected = fgsm(model, x, y, threat=ThreatModel("linf", 0.1))
    torch.testing.assert_close(model.points(True)[0], expected)


@settings(max_examples=15, deadline=None)
@given(eps=st.floats(0, 0.5), noise=st.floats(0, 3), step=st.floats(0, 2), low=st.sampled_from([0.0, -1.0]))
def test_fast_inputs_stay_in_the_domain_and_within_noise_plus_step(eps, noise, step, low):
    model, (x, y) = network(), batch(3)
    data = (low + (1 - low) * x, y)
    loss_of("fast_at", model, data, eps=eps, noise=noise, step=step, domain=(low, 1.0))
    ((_, start), (_, worst)) = model.seen
    assert low <= min(start.min(), worst.min())
    assert max(start.max(), worst.max()) <= 1
    assert (start - data[0]).abs().max() <= noise * eps + 1e-5
    assert (worst - data[0]).abs().max() <= (noise + step) * eps + 1e-5


# --- many steps ----------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(CLIMBING),
    norm=st.sampled_from(["linf", "l2"]),
    eps=st.floats(0, 3),
    step_size=st.none() | st.floats(0.001, 10),
    low=st.sampled_from([0.0, -1.0]),
)
def test_climbed_inputs_stay_in_ball_and_domain(name, norm, eps, step_size, low):
    model, (x, y) = network(), batch(3)
    data = (low + (1 - low) * x, y)
    loss_of(name, model, data, norm=norm, eps=eps, step_size=step_size, domain=(low, 1.0))
    for points in model.points(False)[2:] + model.points(True):
        assert low <= points.min()
        assert points.max() <= 1
        assert (distance(points, data[0], norm) <= eps * (1 + 1e-5) + 1e-6).all()


@pytest.mark.parametrize("name", CLIMBING)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_loss_of_clean_and_attacked_logits_by_hand(name, norm):
    model, (x, y) = network(), batch()
    before = copy.deepcopy(model)
    loss = loss_of(name, model, (x, y), norm=norm, eps=0.3, beta=4.0)
    clean, worst = model.points(True)
    assert torch.equal(clean, x)
    z = in_train_mode(before, clean, worst)
    assert loss.item() == pytest.approx(by_numpy(name, *z, y.numpy(), beta=4.0), rel=1e-5)
    found = gradients(model, loss)
    # Gradients flow through clean and attacked predictions.
    probe = before.train()
    p, q = probe(clean).softmax(1), probe(worst).softmax(1)
    divergences = (p * (p / q).log()).sum(1)
    pick = F.one_hot(y, 3).bool()
    if name == "trades":
        expected = (-p[pick].log() + 4 * divergences).mean()
    else:
        rest = 1 - q.masked_fill(pick, 0).amax(1)
        expected = (-q[pick].log() - rest.log() + 4 * (1 - p[pick]) * divergences).mean()
    for key, value in gradients(probe, expected).items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-5)


def test_trades_on_two_linear_classes_ends_in_a_corner():
    model, (x, y) = linear(classes=2, width=5), batch(16, (5,), dtype=torch.float64, classes=2)
    loss = loss_of("trades", model, (x, y), eps=0.05, steps=6)
    worst = model.points(True)[1]
    # The divergence grows with the margin's change: every input goes as far as it may, one way or the other.
    way = (model.weight[1] - model.weight[0]).detach().sign()
    ends = [(x + s * 0.05 * way).clamp(0, 1) for s in (1, -1)]
    gaps = torch.stack([(worst - end).abs().amax(1) for end in ends])
    assert gaps.amin(0).max() < 1e-12
    z = [model(p).detach().numpy() for p in (x, worst)]
    assert loss.item() == pytest.approx(by_numpy("trades", *z, y.numpy(), 6.0), rel=1e-9)


def test_mart_on_two_linear_classes_ends_in_the_worst_corner():
    model, (x, y) = linear(classes=2, width=5), batch(16, (5,), dtype=torch.float64, classes=2)
    loss_of("mart", model, (x, y), eps=0.05, steps=6)
    away = (model.weight[1 - y] - model.weight[y]).detach().sign()
    torch.testing.assert_close(model.points(True)[1], (x + 0.05 * away).clamp(0, 1))


def test_steps_in_l2_go_along_the_gradient():
    model, y = linear(classes=2, width=5), torch.tensor([0, 1])
    x = torch.full((2, 5), 0.5, dtype=torch.float64)
    loss_of("mart", model, (x, y), norm="l2", eps=0.2, steps=8, step_size=2.0)
    away = (model.weight[1 - y] - model.weight[y]).detach()
    expected = x + 0.2 * away / away.norm(dim=1, keepdim=True)
    torch.testing.assert_close(model.points(True)[1], expected, rtol=0, atol=1e-6)


def test_climbing_is_that_many_steps_of_that_length():
    x, seen = torch.full((2, 3), 0.5), []

    def loss(points):
        seen.append(points.detach().clone())
        return points.sum()

    end = climb(loss, x, ThreatModel("linf", 0.3), steps=4, step_size=0.05, generator=seeded())
    assert len(seen) == 4
    start = x + 0.001 * torch.randn(2, 3, generator=seeded())
    torch.testing.assert_close(seen[0], start)
    torch.testing.assert_close(end, start + 0.2)


def test_extreme_logits_have_a_finite_boosted_loss():
    model = Linear(1e4 * torch.eye(3), torch.zeros(3))
    loss = loss_of("mart", model, (torch.eye(3), torch.tensor([0, 2, 1])))
    assert torch.isfinite(loss)
    assert all(torch.isfinite(g).all() for g in gradients(model, loss).values())


def test_divergence_against_scipy():
    g = seeded()
    a, b = (3 * torch.randn(40, 5, generator=g, dtype=torch.float64) for _ in range(2))
    expected = stats.entropy(softmax(a.numpy()), softmax(b.numpy()), axis=1)
    np.testing.assert_allclose(divergence(a, b).numpy(), expected, rtol=1e-10)


# --- free adversarial training -------------------------------------------------------------------------------------


def free_by_hand(model, batches, eps, replays, lr):
    """Shafahi et al., algorithm 1, on numpy weights of a linear classifier, with one kept perturbation a row."""
    w, b = (p.detach().numpy().copy() for p in (model.weight, model.bias))
    kept = np.zeros_like(batches[0][0].numpy())
    for x, y in ((x.numpy(), y.numpy()) for x, y in batches):
        n = len(x)
        for _ in range(replays):
            point = np.clip(x + kept[:n], 0, 1)
            error = (softmax(point @ w.T + b) - np.eye(3)[y]) / n
            slope = error @ w
            w, b = w - lr * error.T @ point, b - lr * error.sum(0)
            kept[:n] = np.clip(kept[:n] + eps * np.sign(slope), -eps, eps)
    return w, b, kept


def test_free_training_by_hand_over_batches_of_unequal_size():
    model, (x, y) = linear(), batch(17, (6,), dtype=torch.float64)
    batches = [(x[:7], y[:7]), (x[7:14], y[7:14]), (x[14:], y[14:])]
    w, b, kept = free_by_hand(model, batches, 0.1, 3, 0.5)
    optimiser, memory = torch.optim.SGD(model.parameters(), lr=0.5), {}
    for data in batches:
        for loss in losses("free_at", model, data, memory=memory):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    np.testing.assert_allclose(model.weight.detach().numpy(), w, rtol=1e-10)
    np.testing.assert_allclose(model.bias.detach().numpy(), b, rtol=1e-10)
    np.testing.assert_allclose(memory["offset"].numpy(), kept, atol=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_free_perturbations_stay_in_the_ball_and_inputs_in_the_domain(norm):
    model, memory = network(), {}
    for seed, n in enumerate((5, 9, 4)):
        data = batch(n, seed=seed)
        list(driven("free_at", model, data, norm=norm, eps=0.3, memory=memory, step_size=0.2))
        for points in model.points(True)[-3:]:
            assert (distance(points, data[0], norm) <= 0.3 + 1e-6).all()
            assert 0 <= points.min() <= points.max() <= 1
        assert not memory["offset"].requires_grad
    assert memory["offset"].shape == (9, 1, 8, 8)
    assert (distance(memory["offset"], torch.zeros(9, 1, 8, 8), norm) <= 0.3 + 1e-6).all()


def test_free_training_needs_its_backward_passes():
    steps = losses("free_at", network(), batch())
    next(steps)
    with pytest.raises(InputError, match="expected a backward pass for every loss"):
        next(steps)
