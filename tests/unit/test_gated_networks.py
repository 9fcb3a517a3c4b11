"""Networks with hard gates: what gates do, soft ones, local learning rules, limits, certified and exact distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Generator, nn

from robustgeom.errors import InputError, UserError
from robustgeom.models.build import build
from robustgeom.models.gated_relu import GatedReLU
from robustgeom.models.gln import GLN
from robustgeom.models.gln_exact import exact_distance
from robustgeom.models.gln_limit import gln_norm, infinite_time_limit
from robustgeom.models.mlp import MLP
from robustgeom.models.variants import variant, variant_names
from robustgeom.models.vnn import VNN, VectorReLU
from robustgeom.training.dfa import dfa
from robustgeom.training.gevb import gevb
from robustgeom.training.run import constrain
from robustgeom.training.standard import standard


def images(n, size=8, seed=0):
    return torch.rand(n, 1, size, size, generator=Generator().manual_seed(seed))


def gated(**more):
    """A two-class network of one hidden layer on 5x5 images, prepared on random ones."""
    torch.manual_seed(0)
    model = GLN(size=5, classes=2, **{"hidden": (4,), **more}).double().eval()
    model.prepare(images(200, 5).double())
    return model


# --- gates ------------------------------------------------------------------------------------------------------


def test_a_vector_network_written_out_unit_by_unit():
    torch.manual_seed(1)
    model = VNN(size=2, classes=3, hidden=(4,)).double().eval()
    x = images(5, 2).double()
    first, last = model.blocks[0].layer, model.blocks[1].layer
    signs = model.blocks[0].gate.signs
    for i in range(5):
        z = (2 * x[i] - 1).flatten()
        vectors = [[first.weight[m, k] @ z + first.bias[k, m] for k in range(3)] for m in range(4)]
        opened = [sum(signs[k, m] * vectors[m][k] for k in range(3)) >= 0 for m in range(4)]
        logits = [
            sum(last.weight[0, m] * vectors[m][k] for m in range(4) if opened[m]) + last.bias[k, 0]
            for k in range(3)
        ]
        torch.testing.assert_close(model(x[i : i + 1])[0], torch.stack(logits))


@pytest.mark.parametrize("kind", ["conv", "local"])
def test_layers_over_places_written_out(kind):
    torch.manual_seed(1)
    model = VNN(size=4, classes=3, kind=kind, maps=(4, 2), hidden=(5,)).double().eval()
    x = images(2, 4).double()
    h = model.blocks[0].layer(2 * x - 1)
    padded = nn.functional.pad(2 * x - 1, (1, 1, 1, 1))
    weight, bias = model.blocks[0].layer.weight, model.blocks[0].layer.bias
    for k, m, row, column in ((0, 0, 0, 0), (2, 3, 1, 3), (1, 2, 3, 2)):
        seen = padded[1, 0, row : row + 3, column : column + 3]
        filters = weight[m, k, 0] if kind == "conv" else weight[m, row, column, k, 0]
        offset = bias[k, m] if kind == "conv" else bias[k, m, row, column]
        torch.testing.assert_close(h[1, k, m, row, column], (filters * seen).sum() + offset)
    assert model(x).shape == (2, 3)


def test_neighbours_look_at_opposite_vectors_and_gates_pass_no_gradient():
    gate = VectorReLU(6, classes=4)
    assert torch.equal(gate.signs[:, 0::2], -gate.signs[:, 1::2])
    h = torch.randn(5, 4, 6, requires_grad=True)
    gate(h).sum().backward()
    assert torch.equal(h.grad, gate.gates(h.detach()).expand(5, 4, 6))


def test_training_follows_how_gates_spread_and_evaluation_does_not():
    model = VNN(size=8, hidden=(6,)).train()
    for _ in range(600):
        model(images(64))
    gate = model.blocks[0].gate
    drive = gate.drive(model.blocks[0].layer(model.entering(images(64)))).std(0, correction=0)
    torch.testing.assert_close(gate.spread, drive, rtol=0.02, atol=0.02)
    before = gate.spread.clone()
    model.eval()(images(64, seed=1))
    assert torch.equal(gate.spread, before)


@pytest.mark.parametrize("model", [
    VNN(size=5, hidden=(12,)),
    GLN(size=5, hidden=(12,)),
    GLN(size=5, hidden=(6, 5), hyperplanes=2),
    GLN(size=5, hidden=(), hyperplanes=3, classes=3),
], ids=["vnn", "gln", "deep gln", "shallow gln"])  # fmt: skip
def test_soft_gates_become_hard_ones_as_they_narrow_and_let_gradients_see_what_opens(model):
    model = model.double().eval()
    x = images(6, 5).double()
    if isinstance(model, GLN):
        model.prepare(x)
    assert variant_names(model) == ["soft-gates"]
    hard, soft = model(x), variant(model, "soft-gates")
    wide = soft(x)
    assert not torch.allclose(wide, hard, atol=1e-3)
    for part in model.modules():
        if hasattr(part, "width"):
            part.width = 1e-9
    torch.testing.assert_close(soft(x), hard)
    for part in model.modules():
        if hasattr(part, "width"):
            part.width = 0.5
    slopes = []
    for run in (model, soft):
        leaf = x.clone().requires_grad_()
        slopes.append(torch.autograd.grad(run(leaf)[:, 0].sum(), leaf)[0])
    assert not torch.allclose(*slopes)
    step = 1e-6 * torch.randn(x.shape, generator=Generator().manual_seed(1), dtype=torch.double)
    change = soft(x + step)[:, 0] - soft(x - step)[:, 0]
    torch.testing.assert_close(change, 2 * (slopes[1] * step).flatten(1).sum(1), rtol=1e-3, atol=1e-12)


def test_relus_have_soft_gates_only_once_they_are_frozen():
    model = GatedReLU(size=5, hidden=7, classes=3).eval()
    x = images(5, 5)
    plain = model(x)
    assert variant_names(model) == []
    model.freeze(x)
    assert torch.equal(model(x), plain)
    assert variant_names(model) == ["soft-gates"]
    with torch.no_grad():
        model.layer.weight.mul_(-1)  # values change, gates stay
    torch.testing.assert_close(model(x), -plain)


def test_thresholds_at_medians_balance_contexts_and_travel_with_the_weights():
    model, x = GLN(size=5, hidden=(9,)).eval(), images(101, 5)
    model.prepare(x)
    shares = model.gated[0].context(model.features(x)).double().mean(0)
    assert ((shares - 0.5).abs() <= 0.01).all()
    other = GLN(size=5, hidden=(9,)).eval()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x))
    random = GLN(size=5, hidden=(9,), median=False).eval()
    before = random.gated[0].thresholds.clone()
    random.prepare(x)
    assert torch.equal(random.gated[0].thresholds, before)


def test_contexts_read_the_first_hyperplane_as_the_most_significant_bit():
    model = GLN(size=2, hidden=(3,), hyperplanes=2).eval()
    z = model.features(images(20, 2))
    bits = model.gated[0].drive(z) > 0
    assert torch.equal(model.gated[0].context(z), 2 * bits[..., 0].long() + bits[..., 1].long())


# --- learning rules ---------------------------------------------------------------------------------------------


def test_each_rule_is_the_hand_worked_update_on_one_layer():
    torch.manual_seed(0)
    x, labels = images(4, 3), torch.tensor([0, 1, 2, 0])
    model = VNN(size=3, classes=3, hidden=(4,)).eval()
    gevb(model, x, labels, generator=Generator()).backward()
    z = (2 * x - 1).flatten(1)
    h = model.blocks[0].layer(z)
    opened = model.blocks[0].gate.gates(h)[:, 0]
    error = (model(x).softmax(1) - nn.functional.one_hot(labels, 3)).detach()
    expected = torch.einsum("nu,nk,nf->ukf", opened, error, z) / 4
    torch.testing.assert_close(model.blocks[0].layer.weight.grad, expected)

    plain = MLP(size=3, classes=3, hidden=(4,)).eval()
    dfa(plain, x, labels, generator=Generator(), feedback_seed=3).backward()
    from robustgeom.training.dfa import _feedback

    feedback = _feedback(3, 4, 0, 3)
    assert feedback.abs().max() <= 1
    error = (plain(x).softmax(1) - nn.functional.one_hot(labels, 3)).detach()
    on = (plain.blocks[0].layer(z) > 0).float()
    torch.testing.assert_close(plain.blocks[0].layer.weight.grad, ((error @ feedback) * on).T @ z / 4)
    torch.testing.assert_close(
        plain.blocks[1].layer.weight.grad,
        error.T @ plain.blocks[0](z).detach() / 4,
    )


@pytest.mark.parametrize(("rule", "make"), [(gevb, VNN), (standard, VNN), (dfa, MLP)])
def test_every_rule_learns_and_keeps_weights_nonnegative(rule, make):
    torch.manual_seed(0)
    model = make(size=5, classes=3, hidden=(30, 20)).train()
    x, labels = images(60, 5), torch.arange(60) % 3
    x = (x + nn.functional.one_hot(labels, 25)[:, :].view(60, 1, 5, 5)).clamp(0, 1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0)
    first = None
    for _ in range(200):
        loss = rule(model, x, labels, generator=Generator())
        first = loss.item() if first is None else first
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        constrain(model)
    assert loss.item() < 0.3 * first
    if make is VNN:
        assert all((b.layer.weight >= 0).all() for b in list(model.blocks)[1:])
        assert (model.blocks[0].layer.weight < 0).any()


def test_rules_refuse_networks_that_they_are_not_for():
    data = images(2, 3), torch.tensor([0, 1])
    with pytest.raises(InputError, match="network of blocks"):
        gevb(nn.Sequential(nn.Flatten(), nn.Linear(9, 2)), *data, generator=Generator())
    with pytest.raises(InputError, match="units that are vectors"):
        gevb(MLP(size=3, hidden=(4,)), *data, generator=Generator())
    with pytest.raises(InputError, match="scalar units"):
        dfa(VNN(size=3, hidden=(4,)), *data, generator=Generator())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vnn", {"kind": "dens"}),
        ("vnn", {"width": 0}),
        ("gln", {"classes": 1}),
        ("gln", {"hyperplanes": -1}),
        ("gated_relu", {"width": -1}),
    ],
)
def test_arguments_that_make_no_network_are_refused(name, arguments):
    with pytest.raises(UserError):
        build(name, arguments)


# --- limits -----------------------------------------------------------------------------------------------------


def test_one_context_and_unit_is_a_support_vector_machine():
    X = np.array([[1.0, 1.0], [-1.0, -3.0], [4.0, 2.0]])
    found = infinite_time_limit([[0]] * 3, X, [1, -1, 1], norm="shallow")
    assert found.weights[0, 0] == pytest.approx([0.5, 0.5], abs=1e-5)  # (1, 1) alone supports it
    assert found.objective == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("norm", ["gln", "l2"])
def test_limits_are_minima_among_feasible_weights(norm):
    rng = np.random.default_rng(0)
    X, contexts = rng.normal(size=(9, 6)), rng.integers(0, 2, (9, 3))
    y = np.sign(X[:, 0])
    found = infinite_time_limit(contexts, X, y, norm=norm, count=2)

    def value(weights):
        if norm == "gln":
            return gln_norm(weights)
        combos = np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
        return sum(np.square(weights[np.arange(3), c].sum(0)).sum() for c in combos)

    assert value(found.weights) == pytest.approx(found.objective, rel=1e-5)
    for _ in range(300):
        other = found.weights + 0.1 * rng.normal(size=found.weights.shape)
        f = y * type(found)(other, 0, norm).decision(contexts, X)
        if f.min() > 0:
            assert value(other / f.min()) >= found.objective - 1e-6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"norm": "l1"}, "known norm"),
        ({"signs": [1, 0, 1]}, "signs of"),
        ({"inputs": [[np.nan, 1], [1, 2], [1, 1]]}, "finite"),
        ({"contexts": [[0], [1]]}, "one row a sample|contexts"),
        ({"count": 1}, "more contexts"),
        ({"contexts": [[0, 0]] * 3, "norm": "shallow"}, "one unit"),
        ({"inputs": [[1, 1], [1, 1], [1, 1]], "contexts": [[0]] * 3}, "can separate"),
    ],
)
def test_bad_programs_are_refused(change, said):
    given = {
        "contexts": [[0], [1], [0]],
        "inputs": [[1.0, 2.0], [2.0, 1.0], [0.0, 1.0]],
        "signs": [1, -1, 1],
    } | change
    with pytest.raises(UserError, match=said):
        infinite_time_limit(given.pop("contexts"), given.pop("inputs"), given.pop("signs"), **given)


# --- certified and exact ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"hyperplanes": 2}, {"hidden": (), "hyperplanes": 2}])
def test_no_image_nearer_than_the_exact_distance_is_told_another_class(more):
    model = gated(**more)
    for x in images(4, 5, seed=3).double().split(1):
        found = exact_distance(model, x)
        radius = model.certified_radius(x).item()
        assert 0 <= radius <= found.distance + 1e-9
        assert found.lower == pytest.approx(found.distance, rel=1e-3)
        assert (found.image - x).abs().max().item() == pytest.approx(found.distance, abs=1e-6)
        assert found.image.min() >= -1e-9
        assert found.image.max() <= 1 + 1e-9
        # Just beyond it, along the way there, the prediction changes: it is as near as can be.
        beyond = x + (found.image - x) * (1 + torch.linspace(1e-7, 1e-3, 40).view(-1, 1, 1, 1))
        told = model(x).argmax()
        assert (model(beyond).argmax(1) != told).any()
        random = Generator().manual_seed(0)
        steps = torch.rand(4000, *x.shape[1:], generator=random, dtype=torch.double).sub(0.5).sign()
        inside = (x + 0.999 * found.distance * steps).clamp(0, 1)
        assert (model(inside).argmax(1) == told).all()


def test_certified_radii_hold_under_attack_and_for_many_classes():
    torch.manual_seed(0)
    model = GLN(size=5, hidden=(6,), classes=4).double().eval()
    model.prepare(images(100, 5).double())
    x = images(30, 5, seed=2).double()
    radius, told = model.certified_radius(x), model(x).argmax(1)
    assert (radius > 0).all()
    for seed in range(50):
        noise = torch.randn(x.shape, generator=Generator().manual_seed(seed), dtype=torch.double).sign()
        moved = x + 0.9999 * radius.view(-1, 1, 1, 1) * noise
        assert torch.equal(model(moved).argmax(1), told)
    with pytest.raises(InputError, match="one gated layer"):
        GLN(size=5, hidden=(4, 3)).eval().certified_radius(images(1, 5))


def test_a_search_that_is_too_short_finds_nothing_and_says_so():
    model, x = gated(), images(1, 5, seed=3).double()
    distance = exact_distance(model, x).distance
    near = exact_distance(model, x, within=distance / 2)
    assert (near.distance, near.lower, near.image) == (float("inf"), distance / 2, None)


@pytest.mark.parametrize(
    "make",
    [lambda: GLN(size=5, hidden=(4,), classes=3), lambda: GLN(size=5, hidden=(4, 3), classes=2),
     lambda: GLN(size=5, hidden=(61,), classes=2)],
)  # fmt: skip
def test_exact_distances_are_for_small_networks_of_two_classes(make):
    with pytest.raises(InputError):
        exact_distance(make().eval(), images(1, 5))
