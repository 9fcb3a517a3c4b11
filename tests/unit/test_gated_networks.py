"""Networks with hard gates: what gates do, soft ones, local learning rules, limits, certified and exact distances."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from torch import Generator, nn

from robustgeom.attacks.apgd import apgd
from robustgeom.attacks.fmn import fmn
from robustgeom.data.load import load_dataset
from robustgeom.errors import InputError, UserError
from robustgeom.models.build import build
from robustgeom.models.gated_relu import GatedReLU
from robustgeom.models.gln import GLN
from robustgeom.models.gln_exact import exact_distance
from robustgeom.models.gln_limit import gln_norm, infinite_time_limit
from robustgeom.models.load import model_digest
from robustgeom.models.mlp import MLP
from robustgeom.models.variants import variant, variant_names
from robustgeom.models.vnn import VNN, VectorReLU
from robustgeom.threat import ThreatModel
from robustgeom.training._local import passed
from robustgeom.training.dfa import _feedback, dfa
from robustgeom.training.gevb import gevb
from robustgeom.training.recipe import Recipe
from robustgeom.training.run import Run, constrain, prepare
from robustgeom.training.signals import unit_signals
from robustgeom.training.standard import standard


def images(n, size=8, seed=0):
    return torch.rand(n, 1, size, size, generator=Generator().manual_seed(seed))


def gated(**more):
    """A two-class network of one hidden layer on 5x5 images, prepared on random ones."""
    torch.manual_seed(0)
    model = GLN(size=5, **{"hidden": (4,), "classes": 2, **more}).double().eval()
    model.prepare(images(200, 5).double())
    return model


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_local_layers_with_the_same_weights_everywhere_are_convolutions(stride):
    torch.manual_seed(0)
    more = {"size": 7, "stride": stride, "maps": (4, 6), "hidden": (5,), "classes": 3}
    if stride == 3:
        more["maps"] = (4,)
    conv, local = (VNN(kind=kind, **more).double().eval() for kind in ("conv", "local"))
    for ours, theirs in zip(local.blocks, conv.blocks, strict=True):
        weight, bias = theirs.layer.weight.data, theirs.layer.bias.data.normal_()
        if ours.gate is not None:
            ours.gate.load_state_dict(theirs.gate.state_dict())
        if ours.layer.weight.shape == weight.shape:
            ours.layer.weight.data, ours.layer.bias.data = weight, bias
        else:
            ours.layer.weight.data.copy_(weight[:, None, None])
            ours.layer.bias.data.copy_(bias[..., None, None])
    x = images(4, 7).double()
    assert local.blocks[0](local.entering(x)).shape[-1] == ((7 - 1) // stride + 1) // 2
    torch.testing.assert_close(local(x), conv(x))


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
    torch.manual_seed(0)
    model = VNN(size=8, hidden=(6,)).train()
    gate = model.blocks[0].gate
    model(images(64))
    drive = gate.drive(model.blocks[0].layer(model.entering(images(64)))).std(0, correction=0)
    torch.testing.assert_close(gate.spread, drive)  # the first batch whole
    for seed in range(1, 30):
        model(images(64, seed=seed))
    torch.testing.assert_close(gate.spread, drive, rtol=0.2, atol=0)
    before = gate.spread.clone()
    model.eval()(images(64, seed=1))
    assert torch.equal(gate.spread, before)


@pytest.mark.parametrize(
    ("make", "more"),
    [
        (VNN, {"hidden": (12,)}),
        (GLN, {"hidden": (12,)}),
        (GLN, {"hidden": (6, 5), "hyperplanes": 2}),
        (GLN, {"hidden": (), "hyperplanes": 3, "classes": 3}),
    ],
)
def test_soft_gates_become_hard_ones_as_they_narrow_and_let_gradients_see_what_opens(make, more):
    torch.manual_seed(0)
    model = make(size=5, **more).double().eval()
    x = images(6, 5).double()
    if isinstance(model, GLN):
        model.prepare(x)
    assert variant_names(model) == ["soft-gates"]
    hard, soft = model(x), variant(model, "soft-gates")
    assert not torch.allclose(soft(x), hard, atol=1e-3)
    torch.testing.assert_close(replace(soft, narrowest=1e-9).narrowed(1.0)(x), hard)
    soft = replace(soft, width=0.5)
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
    feedback = _feedback(3, 4, 0, 3)
    assert feedback.abs().max() <= 1
    error = (plain(x).softmax(1) - nn.functional.one_hot(labels, 3)).detach()
    on = (plain.blocks[0].layer(z) > 0).float()
    torch.testing.assert_close(plain.blocks[0].layer.weight.grad, ((error @ feedback) * on).T @ z / 4)
    torch.testing.assert_close(
        plain.blocks[1].layer.weight.grad,
        error.T @ plain.blocks[0](z).detach() / 4,
    )


def test_direct_feedback_reaches_every_place_of_a_convolution():
    torch.manual_seed(0)
    x, labels = images(4, 4), torch.tensor([0, 1, 2, 0])
    model = MLP(size=4, classes=3, maps=(2,), hidden=(5,)).eval()
    first, second, last = model.blocks
    a = nn.functional.avg_pool2d(first.layer(2 * x - 1).relu(), 2).flatten(1)
    torch.testing.assert_close(model(x), last.layer(second.layer(a).relu()))
    dfa(model, x, labels, generator=Generator()).backward()
    error = (model(x).softmax(1) - nn.functional.one_hot(labels, 3)).detach()
    h = first.layer(2 * x - 1)
    signal = (error @ _feedback(3, 2 * 16, 0, 0)).view(4, 2, 4, 4) * (h > 0)
    expected = torch.autograd.grad((signal.detach() * h).sum() / 4, first.layer.weight)[0]
    torch.testing.assert_close(first.layer.weight.grad, expected)
    assert len(_feedback(3, 2 * 16, 0, 0).unique()) == 3 * 2 * 16


@pytest.mark.parametrize("maps", [{}, {"kind": "conv", "maps": (6, 4)}])
def test_signals_are_those_that_backpropagation_sends_and_their_angle_is_with_the_open_units(maps):
    torch.manual_seed(0)
    model = VNN(size=8, hidden=(12, 6), classes=4, **maps).double().eval()
    x = images(5).double()
    found = unit_signals(model, x)
    assert found.stages == model.stages
    signal = torch.ones(5, 1, dtype=torch.double)
    for block, stage in zip(list(model.blocks)[:0:-1], model.stages[::-1], strict=True):
        if block.layer.weight.dim() > 2 or (stage == "blocks.1" and maps):
            break
        opened = passed(model, x).gates[model.stages.index(stage)].squeeze(1)
        signal = opened * (signal @ block.layer.weight.detach())
        cosine = signal.sum(1) / (signal.norm(dim=1) * opened.sum(1).sqrt())
        angle = torch.rad2deg(cosine.nan_to_num(0.0).clamp(-1, 1).acos())  # where all signals are 0
        torch.testing.assert_close(found.angles[:, model.stages.index(stage)], angle)
    assert found.angles.shape == found.negative.shape == (5, len(model.stages))
    assert (found.angles <= 90).all()
    assert (found.negative == 0).all()


def test_signals_of_mixed_weights_point_anywhere():
    torch.manual_seed(0)
    found = unit_signals(VNN(hidden=(64, 64), nonnegative=False).eval(), images(20, 28))
    assert found.angles.mean().item() == pytest.approx(90, abs=12)
    assert found.negative.mean().item() == pytest.approx(0.5, abs=0.15)
    with pytest.raises(InputError, match="network of vectors"):
        unit_signals(MLP(hidden=(4,)).eval(), images(2, 28))


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
    with pytest.raises(InputError, match="units that are vectors"):
        gevb(MLP(size=3, maps=(10,), hidden=(4,)), *data, generator=Generator())
    with pytest.raises(InputError, match="scalar units"):
        dfa(VNN(size=3, hidden=(4,)), *data, generator=Generator())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vnn", {"kind": "dens"}),
        ("vnn", {"classes": 1}),
        ("vnn", {"hidden": (0,)}),
        ("vnn", {"kind": "conv", "maps": ()}),
        ("vnn", {"kind": "conv", "maps": (4, 4, 4), "size": 4}),
        ("mlp", {"maps": (4, 4, 4), "size": 4}),
        ("mlp", {"maps": (4, 4, 4), "size": 8, "stride": 2}),
        ("mlp", {"stride": 2}),
        ("vnn", {"kind": "conv", "stride": 0}),
        ("vnn", {"stride": 2}),
        ("gln", {"hidden": (0,)}),
        ("gln", {"classes": 1}),
        ("gln", {"hyperplanes": -1}),
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


def test_closed_gates_pass_nothing_and_the_limit_is_the_least_of_such():
    rng = np.random.default_rng(3)
    X, signs = rng.normal(size=(6, 2)), np.array([1, -1, 1, -1, 1, 1])
    gates = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]])
    found = infinite_time_limit(gates, X, signs, count=2, closed=True)
    assert (found.weights[:, 0] == 0).all()

    def f(flat):
        return np.einsum("nh,hd,nd->n", gates, flat.reshape(3, 2), X)

    least = min(
        minimize(
            lambda w: np.sqrt(np.square(w.reshape(3, 2)).sum(1) + 1e-12).sum(),
            rng.normal(size=6),
            constraints={"type": "ineq", "fun": lambda w: signs * f(w) - 1},
            options={"maxiter": 500},
        ).fun
        for _ in range(5)
    )
    assert found.objective == pytest.approx(least, rel=1e-3)
    assert found.decision(gates, X) == pytest.approx(f(found.weights[:, 1].ravel()), abs=1e-9)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"norm": "l1"}, "known norm"),
        ({"closed": True, "norm": "l2"}, 'norm "gln"'),
        ({"closed": True, "contexts": [[0], [0], [0]]}, "two contexts"),
        ({"signs": [1, 0, 1]}, "signs of"),
        ({"inputs": [[np.nan, 1], [1, 2], [1, 1]]}, "finite"),
        ({"contexts": [[0], [1]]}, "one row a sample|contexts"),
        ({"count": 1}, "more contexts"),
        ({"count": 2.5}, "more contexts"),
        ({"inputs": "abc"}, "numbers"),
        ({"contexts": [[], [], []]}, "contexts"),
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


def by_enumeration(model, x):
    """The same distance by one linear program for every combination of contexts."""
    layer, flat = model.layers[0], x.flatten().numpy()
    sides = layer.sides.numpy().reshape(-1, layer.sides.shape[2])
    thresholds = layer.thresholds.numpy().flatten()
    every = layer.weight.detach().view(layer.units, layer.contexts, -1).numpy()
    readout = model.readout
    v = np.ones(1) if isinstance(readout, nn.Identity) else readout.weight.detach().numpy()[0]
    offset = 0.0 if isinstance(readout, nn.Identity) else readout.bias.item()
    sign, d, best = (1 if model.decision(x).item() >= 0 else -1), len(flat), np.inf
    for bits in map(np.array, product([0, 1], repeat=len(thresholds))):
        contexts = bits.reshape(layer.units, -1) @ 2 ** np.arange(layer.sides.shape[1])[::-1]
        slope = (v[:, None] * every[np.arange(layer.units), contexts]).sum(0)
        # Variables: pixels and the distance; features are 2 x - 1 and 1.
        rows = [np.append(2 * sign * slope[:-1], 0.0)]
        limits = [-sign * (slope[-1] - slope[:-1].sum() + offset)]
        for side, threshold, bit in zip(sides, thresholds, bits, strict=True):
            turn = 1 if bit else -1
            rows.append(np.append(-turn * 2 * side[:-1], 0.0))
            limits.append(turn * (side[-1] - side[:-1].sum() - threshold))
        for k in (1, -1):
            rows += list(np.hstack([k * np.eye(d), -np.ones((d, 1))]))
            limits += list(k * flat)
        cost = np.append(np.zeros(d), 1.0)
        found = linprog(cost, A_ub=np.array(rows), b_ub=limits, bounds=[(0, 1)] * d + [(0, None)])
        best = min(best, found.fun if found.status == 0 else np.inf)
    return best


@pytest.mark.parametrize("more", [{}, {"hyperplanes": 2, "hidden": (2,)}, {"hidden": (), "hyperplanes": 2}])
def test_exact_distances_are_those_of_all_contexts_one_by_one(more):
    model = gated(**more)
    for x in images(3, 5, seed=3).double().split(1):
        found = exact_distance(model, x)
        assert found.complete
        assert found.distance == pytest.approx(by_enumeration(model, x), rel=2e-4)
        assert found.lower == pytest.approx(found.distance, rel=2e-4)
        assert 0 <= model.certified_radius(x).item() <= found.lower + 1e-12
        assert found.image.shape == x.shape
        assert (found.image - x).abs().max().item() == pytest.approx(found.distance, abs=1e-6)
        # Just beyond it the prediction is another: it is as near as can be.
        around = found.image + 1e-4 * torch.randn(
            200, *x.shape[1:], generator=Generator().manual_seed(0), dtype=torch.double
        )
        assert (model(around.clamp(0, 1)).argmax(1) != model(x).argmax()).any()


def test_attacks_that_narrow_soft_gates_fool_all_that_can_be_fooled_where_one_width_does_not():
    torch.manual_seed(0)
    model = GLN(hidden=(), hyperplanes=3, size=8, classes=2).double().eval()
    model.prepare(images(300, seed=1).double())
    x = images(40, seed=3).double()
    labels = model(x).argmax(1)
    exact = np.array([exact_distance(model, image).distance for image in x.split(1)])
    eps = float(np.quantile(exact, 0.8))
    soft = variant(model, "soft-gates")

    def fooled(source):
        given = {
            "threat": ThreatModel("linf", eps),
            "loss": "margin",
            "generator": Generator().manual_seed(0),
        }
        return int((model(apgd(model, x, labels, source=source, **given)).argmax(1) != labels).sum())

    narrowed, plain, fixed = fooled(soft), fooled(None), fooled(soft.__call__)
    assert plain < fixed < narrowed
    assert narrowed == (exact <= eps).sum() == 32


def test_the_nearest_that_attacks_find_is_never_nearer_than_the_exact_distance_and_seldom_much_farther():
    torch.manual_seed(0)
    model = GLN(hidden=(4,), size=8, classes=2).double().eval()
    model.prepare(images(300, seed=1).double())
    x = images(30, seed=3).double()
    labels, soft = model(x).argmax(1), variant(model, "soft-gates")
    exact = torch.tensor([exact_distance(model, image).distance for image in x.split(1)])
    found = fmn(model, x, labels, threat=ThreatModel("linf", 1.0), steps=200, source=soft)
    assert (model(found).argmax(1) != labels).all()
    parts = (found - x).abs().flatten(1).amax(1) / exact
    assert parts.min() >= 1 - 1e-6
    assert parts.median() <= 1.05


def test_networks_of_colour_images_have_distances_too():
    torch.manual_seed(0)
    model = GLN(channels=3, size=2, hidden=(3,), classes=2).double().eval()
    x = torch.rand(1, 3, 2, 2, generator=Generator().manual_seed(0), dtype=torch.double)
    model.prepare(torch.rand(50, 3, 2, 2, generator=Generator().manual_seed(1), dtype=torch.double))
    assert exact_distance(model, x).image.shape == x.shape


def steepest(model, x):
    """The signs along which, linear piece by linear piece, margins fall and the nearest hyperplane comes closer."""
    leaf = x.clone().requires_grad_()
    logits = model(leaf)
    top = logits.argmax(1)
    others = logits.scatter(1, top[:, None], -torch.inf)
    margins = logits.gather(1, top[:, None]) - others
    directions = []
    for k in range(logits.shape[1]):
        keep = top != k
        (slope,) = torch.autograd.grad(margins[keep, k].sum(), leaf, retain_graph=True)
        directions.append(-slope.sign())
    layer = model.layers[0]
    drive = layer.drive(model.features(x)).flatten(1)
    reach = layer.sides[:, :, :-1].abs().sum(2).flatten()
    nearest = (drive.abs() / reach).argmin(1)
    sides = layer.sides.flatten(0, 1)[nearest][:, :-1].view(x.shape)
    return [*directions, -drive.gather(1, nearest[:, None]).sign().view(-1, 1, 1, 1) * sides.sign()]


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("hidden", [(6,), ()])
def test_certified_radii_hold_to_the_edge_and_are_no_smaller_than_they_must(hidden, classes):
    torch.manual_seed(0)
    model = GLN(size=5, hidden=hidden, classes=classes).double().eval()
    model.prepare(images(100, 5).double())
    x = images(40, 5, seed=2).double()
    radius, told = model.certified_radius(x).view(-1, 1, 1, 1), model(x).argmax(1)
    before = model.layers[0].context(model.features(x))
    assert (radius > 0).all()
    crossed = torch.zeros(len(x), dtype=torch.bool)
    for direction in steepest(model, x):
        assert torch.equal(model(x + radius * direction).argmax(1), told)
        beyond = x + 1.001 * radius * direction
        moved = (model.layers[0].context(model.features(beyond)) != before).any(1)
        crossed |= moved | (model(beyond).argmax(1) != told)
    assert crossed.double().mean() > 0.9  # what stops a radius lies just behind it
    with pytest.raises(InputError, match="one gated layer"):
        GLN(size=5, hidden=(4, 3)).eval().certified_radius(images(1, 5))
    assert not hasattr(GLN(size=5, hidden=(4, 3)), "certified_norm")
    assert model.certified_norm == "linf"


def test_certified_radii_of_single_precision_are_below_those_of_double():
    torch.manual_seed(0)
    model = GLN(size=28, hidden=(50,), classes=2).eval()
    model.prepare(images(300, 28))
    x = images(200, 28, seed=1)
    single = model.certified_radius(x)
    double = model.double().certified_radius(x.double())
    assert (single <= double + 1e-8).all()  # both hold back some 1e-6 of a pixel
    assert (single > 0.9 * double).double().mean() > 0.9


def test_a_search_that_is_too_short_finds_nothing_and_says_so():
    model, x = gated(), images(1, 5, seed=3).double()
    distance = exact_distance(model, x).distance
    near = exact_distance(model, x, within=distance / 2)
    assert (near.distance, near.lower, near.image, near.complete) == (float("inf"), distance / 2, None, True)


@pytest.mark.parametrize(
    "more",
    [
        {"classes": 3},
        {"hidden": (4, 3)},
        {"hidden": (61,)},
        {"hidden": (), "hyperplanes": 17},
    ],
)
def test_exact_distances_are_for_small_networks_of_two_classes(more):
    with pytest.raises(InputError):
        exact_distance(gated(**more), images(1, 5).double())


@pytest.mark.parametrize(
    ("image", "within", "said"),
    [
        (images(2, 5), 1.0, "one image"),
        (images(1, 4), 1.0, "of 25 pixels"),
        (images(1, 5) * torch.nan, 1.0, r"pixels in \[0, 1\]"),
        (images(1, 5) - 1, 1.0, r"pixels in \[0, 1\]"),
        (images(1, 5), 0.0, "within <= 1"),
        (images(1, 5), float("nan"), "within <= 1"),
    ],
)
def test_distances_of_what_is_no_image_are_refused(image, within, said):
    with pytest.raises(InputError, match=said):
        exact_distance(gated(), image.double(), within=within)


# --- in training --------------------------------------------------------------------------------------------------


def test_gates_are_set_before_the_first_step_also_of_averages_and_behind_smoothing():
    recipe = Recipe.model_validate(
        {
            "name": "x",
            "family": "x",
            "architecture": {"name": "gln", "arguments": {"hidden": [5]}},
            "objective": {"name": "standard"},
            "optimiser": {"epochs": 1, "lr": 0.01},
            "averaging": {"decay": 0.9},
        }
    )
    data = load_dataset("fashion-mnist", split="eval", limit=60)
    run = Run(recipe, data, data, "cpu")
    layer = run.model.layers[0]
    shares = layer.context(run.model.features(data.inputs)).double().mean(0)
    assert ((shares - 0.5).abs() < 0.02).all()
    assert torch.equal(run.average.layers[0].thresholds, layer.thresholds)
    wrapped = build("smoothed", {"sigma": 0.1, "base": "gln", "base_arguments": {"hidden": [5]}})
    prepare(wrapped, data.inputs)
    assert (
        (wrapped.base.layers[0].context(GLN.features(data.inputs)).double().mean(0) - 0.5).abs() < 0.02
    ).all()


def test_networks_without_hyperplanes_are_linear_and_bad_inputs_prepare_none():
    model = GLN(size=5, hidden=(), hyperplanes=0, classes=2).double().eval()
    x = images(4, 5).double()
    model.prepare(x)
    torch.testing.assert_close(
        model.decision((x[:2] + x[2:]) / 2), (model.decision(x[:2]) + model.decision(x[2:])) / 2
    )
    assert (model.certified_radius(x) > 0).all()
    with pytest.raises(InputError, match="finite inputs"):
        model.prepare(x * torch.nan)


def test_what_no_weight_says_is_part_of_a_networks_digest():
    def digest(make, **more):
        torch.manual_seed(0)
        return model_digest(make(size=5, hidden=(4,), **more))

    assert digest(GLN) == digest(GLN)
    assert digest(VNN) == digest(VNN)
    mixed, signed = VNN(size=5, hidden=(4,), nonnegative=False), VNN(size=5, hidden=(4,))
    signed.load_state_dict(mixed.state_dict())
    assert model_digest(mixed) != model_digest(signed)


def test_limits_of_many_units_are_within_reach():
    rng = np.random.default_rng(0)
    X, contexts = rng.normal(size=(12, 20)), rng.integers(0, 2, (12, 40))
    found = infinite_time_limit(contexts, X, np.sign(X[:, 0]), norm="l2", count=2)
    assert found.accurate
    assert np.isfinite(found.objective)
    assert (np.sign(X[:, 0]) * found.decision(contexts, X)).min() == pytest.approx(1, abs=1e-4)
