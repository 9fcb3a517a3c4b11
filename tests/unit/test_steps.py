"""Steps made passable: outputs stay, gradients come through, whatever way a mask is used."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, nn

from robustgeom.errors import InputError
from robustgeom.models.gated_relu import GatedReLU
from robustgeom.models.steps import SoftSteps
from robustgeom.models.vnn import VNN


class Of(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def data(seed=0):
    return torch.rand(4, 6, generator=Generator().manual_seed(seed), dtype=torch.double)


USES = {
    "product": lambda x: x * (x > 0.5),
    "product, turned": lambda x: (x <= 0.5) * x,
    "cast to float": lambda x: 3 * (x >= 0.5).float() + x,
    "cast with to": lambda x: (x > 0.5).to(x.dtype) * x,
    "cast as another": lambda x: (x > 0.5).type_as(x) * x,
    "where": lambda x: torch.where(x > 0.5, 2 * x, x - 1),
    "where with numbers": lambda x: torch.where(x > 0.5, 1.0, 0.0) + x,
    "where with infinities": lambda x: torch.where(x > 0.5, x, torch.tensor(-1e30, dtype=x.dtype)).clamp(
        min=-2
    ),
    "masked fill": lambda x: x.masked_fill(x < 0.5, 0.0),
    "not": lambda x: x * ~(x < 0.5),
    "and": lambda x: x * ((x > 0.3) & (x < 0.7)),
    "or": lambda x: x * torch.logical_or(x < 0.3, x > 0.7),
    "function": lambda x: x * torch.gt(x, 0.5) + x * torch.le(x, 0.1),
    "winners": lambda x: x * (x >= x.topk(2, dim=1)[0][:, -1:]),
    "a mask that is reshaped": lambda x: x * (x > 0.5).view(2, 12).view(4, 6),
    "sign": lambda x: (x - 0.5).sign() + x,
    "heaviside": lambda x: torch.heaviside(x - 0.5, torch.zeros((), dtype=x.dtype)) * x,
}


@pytest.mark.parametrize("use", USES)
def test_outputs_stay_and_gradients_are_those_of_sigmoids(use):
    plain = Of(USES[use])
    soft, x = SoftSteps(plain), data().requires_grad_()
    out = soft(x)
    assert torch.equal(out.detach(), plain(x.detach()))
    assert soft.steps >= 1
    weight = torch.rand(out.shape, generator=Generator().manual_seed(1), dtype=torch.double)
    ours = torch.autograd.grad((weight * out).sum(), x)[0]
    if use == "heaviside":  # torch has no derivative of it at all
        return
    own = plain(x)
    theirs = torch.autograd.grad((weight * own).sum(), x)[0] if own.requires_grad else torch.zeros_like(x)
    assert ours.isfinite().all()
    assert not torch.allclose(ours, theirs)


def test_the_slope_is_the_sigmoids_at_the_stated_width():
    x = data().requires_grad_()
    out = SoftSteps(Of(lambda x: (x > 0.5).to(x.dtype)), width=0.2)(x)
    found = torch.autograd.grad(out.sum(), x)[0]
    apart = x.detach() - 0.5
    size = 0.2 * apart.square().mean(1, keepdim=True).sqrt()
    share = torch.sigmoid(apart / size)
    torch.testing.assert_close(found, share * (1 - share) / size)


@pytest.mark.parametrize("step", [torch.round, torch.floor, torch.ceil, torch.trunc])
def test_roundings_pass_gradients_on(step):
    x = data().requires_grad_()
    out = SoftSteps(Of(lambda x: step(8 * x) / 8))(x)
    assert torch.equal(out.detach(), step(8 * x.detach()) / 8)
    assert torch.equal(torch.autograd.grad(out.sum(), x)[0], torch.ones_like(x))


def test_uses_without_a_slope_see_plain_booleans():
    def forward(x):
        mask = x > 0.5
        assert int(mask.sum()) == int((x.detach() > 0.5).sum())
        rows = torch.nonzero(mask.any(1)).flatten()
        return x[rows].sum() + x[mask].sum() + mask.long().sum() * x.sum()

    x = data().requires_grad_()
    torch.testing.assert_close(SoftSteps(Of(forward))(x), forward(x))


def test_without_gradients_and_without_steps_nothing_changes():
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)).double().eval()
    soft, x = SoftSteps(network), data()
    with torch.no_grad():
        assert torch.equal(soft(x), network(x))
    leaf = x.clone().requires_grad_()
    ours, theirs = (torch.autograd.grad(f(leaf).sum(), leaf)[0] for f in (soft, network))
    assert torch.equal(ours, theirs)
    assert soft.steps == 0
    with pytest.raises(InputError, match="width above 0"):
        SoftSteps(network, width=0)


@pytest.mark.parametrize(
    "make", [lambda: VNN(size=5, hidden=(9,)), lambda: GatedReLU(size=5, hidden=9, classes=3)]
)
def test_it_finds_the_gates_of_gated_networks_by_itself(make):
    torch.manual_seed(0)
    network = make().double().eval()
    x = torch.rand(6, 1, 5, 5, generator=Generator().manual_seed(0), dtype=torch.double)
    if isinstance(network, GatedReLU):
        network.freeze(x)
    soft, leaf = SoftSteps(network), x.clone().requires_grad_()
    out = soft(leaf)
    assert torch.equal(out.detach(), network(x))
    ours = torch.autograd.grad(out[:, 0].sum(), leaf)[0]
    leaf = x.clone().requires_grad_()
    theirs = torch.autograd.grad(network(leaf)[:, 0].sum(), leaf)[0]
    assert soft.steps == 1
    assert not torch.allclose(ours, theirs)
