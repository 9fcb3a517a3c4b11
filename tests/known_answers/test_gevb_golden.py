"""Vectorised networks, backpropagation and GEVB against recorded numbers of the reference (arXiv:2106.04089)."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, nn

from robustgeom.models.parts import Block
from robustgeom.models.vnn import VNN, Pooled, VectorConv, VectorLinear, VectorLocal, VectorReLU
from robustgeom.training._local import passed
from robustgeom.training.gevb import gevb
from robustgeom.training.standard import standard

DATA = Path(__file__).parent / "data" / "gevb"
K = 10


def layer(kind, case, name, *arguments, first=False, **more):
    """A layer with recorded weights, whose first one came with its classes and channels in one axis."""
    made = kind(*arguments, classes=K, first=first, **more)
    made.weight.data = case[f"{name}_weight"].reshape(made.weight.shape).clone()
    made.bias.data = case[f"{name}_bias"].reshape(made.bias.shape).clone()
    return made


def gate(case, name):
    signs = case[f"{name}_t"]
    made = VectorReLU(signs.shape[1], classes=K)
    made.signs.copy_(signs if signs.dim() == 2 else signs[:, :, 0, 0])
    return made


def network(name, folder=DATA):
    """The recorded network, the recorded case, and the names of its layers."""
    with np.load(folder / f"{name}.npz") as stored:
        case = {key: torch.from_numpy(value) for key, value in stored.items()}
    if name.startswith("fc"):
        blocks = [
            Block(layer(VectorLinear, case, "L0", 196, 48, first=True), gate(case, "L1")),
            Block(layer(VectorLinear, case, "L2", 48, 24), gate(case, "L3")),
            Block(layer(VectorLinear, case, "L4", 24, 1)),
        ]
        kind, names = "dense", ("L0", "L2", "L4")
    elif name.startswith("conv"):
        blocks = [
            Block(layer(VectorConv, case, "L0", 1, 8, 3, padding=1, first=True), gate(case, "L1"), Pooled()),
            Block(layer(VectorConv, case, "L3", 8, 6, 2, stride=2), gate(case, "L4")),
            Block(layer(VectorLinear, case, "L6", 24, 12), gate(case, "L7")),
            Block(layer(VectorLinear, case, "L8", 12, 1)),
        ]
        kind, names = "conv", ("L0", "L3", "L6", "L8")
    else:
        blocks = [
            Block(layer(VectorLocal, case, "L0", 1, 4, 3, size=8, first=True), gate(case, "L1"), Pooled()),
            Block(layer(VectorLinear, case, "L4", 64, 12), gate(case, "L5")),
            Block(layer(VectorLinear, case, "L6", 12, 1)),
        ]
        kind, names = "local", ("L0", "L4", "L6")
    model = VNN(size=8)
    model.kind, model.blocks = kind, nn.ModuleList(blocks)
    return model.eval(), case, names


def inputs(case):
    x = (case["x"] + 1) / 2
    return x if x.dim() == 4 else x.unsqueeze(1)


def check(name, folder=DATA):
    model, case, names = network(name, folder)
    x, labels = inputs(case), case["labels"]
    torch.testing.assert_close(model(x), case["logits"], rtol=1e-4, atol=1e-5)
    for prefix, objective in (("bp", standard), ("df", gevb)):
        model.zero_grad()
        loss = objective(model, x, labels, generator=Generator())
        assert loss.item() == pytest.approx(case["ce_loss"].item(), rel=1e-5)
        loss.backward()
        for block, place in zip(model.blocks, names, strict=True):
            for part in ("weight", "bias"):
                recorded = case[f"{prefix}_{place}_{part}"]
                found = getattr(block.layer, part).grad.reshape(recorded.shape)
                torch.testing.assert_close(found, recorded, rtol=1e-4, atol=1e-5)


NETWORKS = ["fc_mixed", "conv_mono", "local_mono"]


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_both_updates_are_the_references(name):
    check(name)


@pytest.mark.parametrize("name", NETWORKS)
def test_gates_are_the_references(name):
    model, case, _ = network(name)
    masks = [case[key] for key in sorted(case) if key.startswith("mask")]
    found = passed(model, inputs(case)).gates
    assert len(found) == len(masks)
    for gates, mask in zip(found, masks, strict=True):
        assert torch.equal(gates.squeeze(1), mask.to(gates))


@pytest.mark.parametrize("kind", ["dense", "local"])
def test_updates_of_a_nonnegative_network_have_the_gradients_sign_for_every_sample(kind):
    torch.manual_seed(0)
    model = VNN(size=8, kind=kind, maps=(6,), hidden=(40, 30, 20)).eval()
    x, labels = torch.rand(6, 1, 8, 8), torch.arange(6)
    for i in range(len(x)):
        grads = []
        for objective in (standard, gevb):
            model.zero_grad()
            objective(model, x[i : i + 1], labels[i : i + 1], generator=Generator()).backward()
            grads.append([b.layer.weight.grad.clone() for b in model.blocks])
            assert all((grad != 0).any() for grad in grads[-1])
        for ours, theirs in zip(*grads, strict=True):
            assert (ours.sign() * theirs.sign() >= 0).all()


@pytest.mark.parametrize("kind", ["dense", "conv", "local"])
def test_backpropagated_signals_of_nonnegative_networks_are_nowhere_negative(kind):
    """So that the broadcast signal, 1 for every open unit, has their sign, also at every place of a convolution."""
    torch.manual_seed(0)
    model = VNN(size=8, kind=kind, maps=(6, 4), hidden=(20,)).eval()
    layers = []
    for block in model.blocks:
        block.layer.register_forward_hook(lambda _, args, out: (out.retain_grad(), layers.append(out))[1])
    model(torch.rand(5, 1, 8, 8))[:, 0].sum().backward()  # one class's error of 1: its entry alone is moved
    for h in layers:
        assert (h.grad >= 0).all()
        assert (h.grad[:, 1:] == 0).all()
        assert (h.grad > 0).any()


# --- initialisation ---------------------------------------------------------------------------------------------


RECORDED = json.loads((DATA / "init_stats.json").read_text())


@pytest.mark.parametrize("case", [c for c in RECORDED if c["kind"] == "linear"])
def test_weights_begin_with_the_references_moments(case):
    torch.manual_seed(0)
    units, features = case["shape"]
    made = VectorLinear(features, units, classes=1, first=case["first_layer"], nonnegative=case["mono"])
    weight = made.weight.detach()
    error = case["std"] / math.sqrt(weight.numel() / 4)  # a quarter: neighbours are no draws of their own
    assert weight.mean().item() == pytest.approx(case["mean"], abs=6 * error)
    assert weight.std().item() == pytest.approx(case["std"], rel=0.1 if units == 1 else 0.02)
    assert (weight == 0).float().mean().item() == pytest.approx(case["frac_zero"], abs=1e-9)
    assert (weight.min().item() >= 0) == (case["min"] >= 0)


@pytest.mark.parametrize("case", [c for c in RECORDED if c["kind"] == "conv"])
def test_convolutions_begin_with_the_references_moments(case):
    torch.manual_seed(0)
    units, channels, kernel, _ = case["shape"]
    first = case[
        "first_layer"
    ]  # whose recorded channels are those of all classes, ahead of the factor sqrt(K)
    made = VectorConv(
        channels // K if first else channels, units, kernel, classes=K, first=first, nonnegative=case["mono"]
    )
    weight = made.weight.detach() / (math.sqrt(K) if first else 1)
    assert weight.std().item() == pytest.approx(case["std"], rel=0.02)
    assert weight.mean().item() == pytest.approx(
        case["mean"], abs=6 * case["std"] / math.sqrt(weight.numel() / 4)
    )
    assert (weight == 0).float().mean().item() == pytest.approx(case["frac_zero"], abs=1e-9)


def angles(width, *, nonnegative, seed):
    """Mean angle, in degrees, between backpropagated signals of a layer's units and the vector of ones."""
    torch.manual_seed(seed)
    model = VNN(size=14, hidden=(width,) * 3, nonnegative=nonnegative)
    found = passed(model, torch.rand(64, 1, 14, 14))
    signal, measured = torch.ones(64, 1), []
    for block, gates in zip(list(model.blocks)[:0:-1], found.gates[::-1], strict=True):
        signal = gates.squeeze(1) * (signal @ block.layer.weight.detach())
        cosine = signal.sum(1) / (signal.norm(dim=1) * gates.squeeze(1).sum(1).sqrt())
        measured.append(torch.rad2deg(cosine.clamp(-1, 1).acos()).mean().item())
    return measured[::-1]


@pytest.mark.parametrize(
    "case",
    json.loads((DATA / "init_alignment_vs_width.json").read_text()),
    ids=lambda c: f"{c['width']}-{c['mono']}",
)
def test_signals_align_with_ones_as_layers_widen_only_where_weights_are_nonnegative(case):
    seeds = range(3)
    found = np.mean([angles(case["width"], nonnegative=case["mono"], seed=s) for s in seeds], axis=0)
    spread = np.array(case["angle_std"]) + (1.5 if case["mono"] else 6.0)  # other images than the reference's
    assert (np.abs(found - case["angle_mean"]) < 3 * spread).all(), found
    if case["mono"] and case["width"] == 512:
        assert found[-1] == pytest.approx(math.degrees(math.acos(1 / math.sqrt(math.pi))), abs=1.5)
