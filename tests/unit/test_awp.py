"""Adversarial weight perturbation against a network moved in place, and what it leaves as it was."""

import copy
import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robustgeom.training.awp import at_worst_weights

spec = importlib.util.spec_from_file_location("objective_toys", Path(__file__).with_name("objective_toys.py"))
toys = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toys)
batch = toys.batch
gradients = toys.gradients
loss_of = toys.loss_of
network = toys.network
seeded = toys.seeded

WITH_AWP = ["mart", "pgd_at", "trades"]


def shifted_twin(model, loss, gamma):
    """A copy whose matrices are moved in place, as by an optimiser with its own rate for each."""
    twin, probe = copy.deepcopy(model), copy.deepcopy(model)
    loss(probe).backward()
    with torch.no_grad():
        for p, q in zip(twin.parameters(), probe.parameters(), strict=True):
            if p.dim() > 1:
                p.add_(gamma * p.norm() / q.grad.norm() * q.grad)
    return twin


def test_the_loss_and_its_gradients_are_those_of_a_network_moved_in_place():
    model, (x, y) = network(dtype=torch.float64), batch(dtype=torch.float64)

    def loss(net):
        return F.cross_entropy(net(x), y) + net(1 - x).square().mean()

    twin = shifted_twin(model, loss, 0.05)
    before = copy.deepcopy(model)
    found = at_worst_weights(model, loss, 0.05)
    expected = loss(twin)
    torch.testing.assert_close(found, expected)
    assert found > loss(before)
    for key, value in gradients(twin, expected).items():
        torch.testing.assert_close(gradients_of(model, found)[key], value)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before.parameters(), strict=True))
    assert all(torch.equal(b, c) for b, c in zip(model.buffers(), twin.buffers(), strict=True))
    assert model.bn.num_batches_tracked == 2


def gradients_of(model, loss):
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True)
    return dict(zip(parameters, found, strict=True))


def test_a_small_shift_raises_the_loss_by_norm_times_slope():
    model, (x, y) = network(dtype=torch.float64), batch(dtype=torch.float64)
    plain = F.cross_entropy(model(x), y)
    slopes = gradients_of(model, plain)
    rate = sum(p.norm() * slopes[n].norm() for n, p in model.named_parameters() if p.dim() > 1)
    rise = at_worst_weights(model, lambda net: F.cross_entropy(net(x), y), 1e-6) - plain
    assert rise.item() == pytest.approx(1e-6 * rate.item(), rel=1e-4)


def test_weights_that_are_frozen_or_unused_stay():
    class Partial(nn.Module):
        def __init__(self):
            super().__init__()
            self.frozen, self.used, self.unused = nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(2, 2)

        def forward(self, x):
            return self.used(self.frozen(x))

    model, x = Partial(), torch.rand(5, 4, generator=seeded())
    model.frozen.weight.requires_grad_(False)
    found = at_worst_weights(model, lambda net: net(x).sum(), 0.1)
    hidden = model.frozen(x)
    slope = hidden.sum(0).expand(3, 3)
    weight = model.used.weight + 0.1 * model.used.weight.norm() / slope.norm() * slope
    torch.testing.assert_close(found, F.linear(hidden, weight, model.used.bias).sum())


@pytest.mark.parametrize("name", WITH_AWP)
def test_objectives_under_weight_perturbation(name):
    model, data = network(), batch()
    twin = copy.deepcopy(model)
    plain, harder = loss_of(name, twin, data), loss_of(name, model, data, awp=0.02)
    assert plain < harder < 3 * plain
    # Attacked inputs come from the weights as they are.
    assert torch.equal(model.points(True)[-1], twin.points(True)[-1])
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))
    # Copies took the statistics of the first pass.
    assert model.bn.num_batches_tracked == twin.bn.num_batches_tracked
    if name == "pgd_at":
        expected = shifted_twin(
            network(), lambda net: F.cross_entropy(net(model.points(True)[-1]), data[1]), 0.02
        )
        torch.testing.assert_close(harder, F.cross_entropy(expected(model.points(True)[-1]), data[1]))


@pytest.mark.parametrize("name", WITH_AWP)
def test_noise_statistics_move_as_without_weight_perturbation_and_noise_goes_on(name):
    model, data = network(rho=0.5), batch()
    loss_of(name, model, data, awp=1e-9).backward()
    twin = network(rho=0.5)
    loss_of(name, twin, data)
    torch.testing.assert_close(model.noise.variance, twin.noise.variance, rtol=1e-4, atol=0)
    assert model.noise.started
    assert not torch.equal(model.eval()(data[0]), model(data[0]))
