"""Gated linear networks and their limits against recorded numbers of the reference (arXiv:2202.02649)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robustgeom.models.gated_relu import GatedReLU
from robustgeom.models.gln import GLN
from robustgeom.models.gln_limit import gln_norm, infinite_time_limit, normalised_margin

DATA = Path(__file__).parent / "data" / "gln"
NETWORKS = {
    "shallow_s3": ((), 3),
    "deep_h10_s1": ((10,), 1),
    "deep_h6_s2": ((6,), 2),
    "deep3_h5_4": ((5, 4), 1),
}


@pytest.fixture(scope="module")
def forward():
    with np.load(DATA / "forward.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def convex():
    with np.load(DATA / "convex.npz") as stored:
        return dict(stored)


def images(forward):
    return torch.from_numpy(forward["x_uint8"]).float().unsqueeze(1) / 255


def tensor(case, name):
    return torch.from_numpy(case[name]).float()


@pytest.mark.parametrize("median", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_contexts_are_the_references(forward, name, median):
    hidden, hyperplanes = NETWORKS[name]
    model = GLN(hidden=hidden, hyperplanes=hyperplanes, classes=2, median=median).eval()
    for i, layer in enumerate(model.gated):
        layer.weight.data = tensor(forward, f"{name}_W{i}")
        if layer.bias is not None:
            layer.bias.data = tensor(forward, f"{name}_b{i}")
        layer.sides.copy_(tensor(forward, f"{name}_ctxW{i}").view(layer.sides.shape))
        layer.thresholds.copy_(tensor(forward, f"{name}_mi0_beta{i}"))
    if hidden:
        model.readout.weight.data = tensor(forward, f"{name}_W{len(hidden)}")
        model.readout.bias.data = tensor(forward, f"{name}_b{len(hidden)}")
    x = images(forward)
    model.prepare(x)
    tag = f"{name}_mi{int(median)}"
    for i, layer in enumerate(model.gated):
        recorded = torch.from_numpy(forward[f"{tag}_ctx{i}"]).long()
        assert torch.equal(layer.context(model.features(x)), recorded)
    f = tensor(forward, f"{tag}_f")
    torch.testing.assert_close(model.decision(x), f, rtol=1e-4, atol=1e-5 * f.abs().max().item())
    logits = model(x)
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], f[:, 0], rtol=1e-4, atol=1e-4)


def test_a_frozen_relu_network_puts_out_what_the_reference_does(forward):
    model = GatedReLU(hidden=12, classes=2).eval()
    model.layer.weight.data = tensor(forward, "frn_h12_W0")
    model.readout.weight.data = tensor(forward, "frn_h12_W1")
    x, f = images(forward), tensor(forward, "frn_h12_f")[:, 0]
    for _ in range(2):  # as a ReLU network, then with its gates frozen as they stand
        logits = model(x)
        torch.testing.assert_close(logits[:, 1] - logits[:, 0], f, rtol=1e-4, atol=1e-4)
        model.freeze(x)
    gates = model._drive(model_features := GLN.features(x)) > 0
    assert torch.equal(gates, torch.from_numpy(forward["frn_h12_gates"]).bool())
    assert model_features.shape == (260, 785)


CONVEX = [(f"shallow_s{s}", "shallow", 2**s) for s in range(4)]
CONVEX += [
    (name, norm, count) for name, count in (("deep_H4_s1", 2), ("deep_H3_s2", 4)) for norm in ("gln", "l2")
]


@pytest.mark.parametrize(("name", "norm", "count"), CONVEX)
def test_limits_have_the_recorded_norms_and_decisions(forward, convex, name, norm, count):
    X, y = GLN.features(images(forward)).double().numpy(), forward["y_pm1"].astype(float)
    train, held = convex["train_rows"], convex["val_rows"]
    contexts, others = (
        convex[f"{name}_ctx_{part}"].reshape(len(rows), -1)
        for part, rows in (("train", train), ("val", held))
    )
    found = infinite_time_limit(contexts, X[train], y[train], norm=norm, count=count)
    tag = name if norm == "shallow" else f"{name}_{norm}"
    assert found.objective == pytest.approx(float(convex[f"{tag}_obj"]), rel=1e-5)
    recorded = convex[f"{tag}_fval"]
    assert found.decision(others, X[held]) == pytest.approx(
        recorded, rel=1e-3, abs=1e-3 * np.abs(recorded).max()
    )
    assert (y[train] * found.decision(contexts, X[train])).min() == pytest.approx(1, abs=1e-5)
    if norm == "gln":
        assert gln_norm(found.weights) == pytest.approx(found.objective, rel=1e-5)


@pytest.fixture(scope="module")
def toy():
    with np.load(DATA / "gd_limit_toy.npz") as stored:
        return dict(stored)


def test_the_toys_limit_is_the_recorded_one(toy):
    found = infinite_time_limit(toy["ctx"], toy["x"], toy["y"])
    assert found.objective == pytest.approx(float(toy["obj"]), rel=1e-6)
    assert found.weights == pytest.approx(toy["zeta_star"], abs=1e-3)


def test_the_reference_got_as_near_as_it_says(toy):
    margin = normalised_margin(toy["zeta_gd_final"], toy["ctx"], toy["x"], toy["y"])
    assert margin == pytest.approx(toy["gd_history"][-1, 1], rel=1e-4)
    assert 0.98 / float(toy["obj"]) < margin < 1 / float(toy["obj"])


def test_gradient_descent_approaches_the_limit_on_the_toy(toy):
    """Rates that follow the loss take thousands of steps for what a constant one takes a hundred thousand for."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.from_numpy(toy["x"]), torch.from_numpy(toy["y"])
    contexts = torch.from_numpy(toy["ctx"])
    H, C, d = toy["zeta_star"].shape
    w = (0.3 * torch.randn(H, C, d, generator=generator, dtype=torch.double)).requires_grad_()
    v = (0.3 * torch.randn(H, generator=generator, dtype=torch.double)).requires_grad_()
    margins = []
    for step in range(4000):
        chosen = w[torch.arange(H), contexts]
        f = torch.einsum("h,nhd,nd->n", v, chosen, x)
        loss = torch.logsumexp(-y * f, 0)  # the exponential loss's direction, scaled by the loss
        gw, gv = torch.autograd.grad(loss, (w, v))
        with torch.no_grad():
            w -= gw / (1 + step) ** 0.75
            v -= gv / (1 + step) ** 0.75
        if step in (50, 500, 3999):
            zeta = (v[:, None, None] * w).detach().numpy()
            margins.append(normalised_margin(zeta, toy["ctx"], toy["x"], toy["y"]))
    best = 1 / float(toy["obj"])
    assert margins[0] < margins[1] < margins[2] < best
    assert margins[2] > 0.95 * best
    cosine = (zeta * toy["zeta_star"]).sum() / np.linalg.norm(zeta) / np.linalg.norm(toy["zeta_star"])
    assert cosine > 0.97
