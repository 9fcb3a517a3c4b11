"""Capture against explicit computation: values, projection, order, clean-up and refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from robustgeom.errors import InputError, UnknownNameError
from robustgeom.geometry import capture


class Net(nn.Module):
    """Two stages and a readout; `conv` is followed by a layer that overwrites its input."""

    def __init__(self, stages=None):
        super().__init__()
        if stages is not None:
            self.stages = stages
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(4 * 36, 3)
        self.unused = nn.Linear(2, 2)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) / 3)

    def forward(self, x):
        return self.head(self.relu(self.conv(x)).flatten(1)) * 2


def images(n, seed=1):
    return torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(seed))


def hooks_of(model):
    return sum(len(m._forward_hooks) for m in model.modules())


def test_values_equal_an_explicit_computation():
    net, x = Net(["conv", "relu"]), images(7)
    found = capture(net, x.split(3))
    conv = nn.functional.conv2d(x, net.conv.weight, net.conv.bias, padding=1).detach()
    assert list(found) == ["input", "conv", "relu", "logits"]
    assert torch.equal(found["input"], x.flatten(1))
    torch.testing.assert_close(found["conv"], conv.flatten(1))
    torch.testing.assert_close(found["relu"], conv.clamp(min=0).flatten(1))
    torch.testing.assert_close(found["logits"], net(x).detach())
    assert (found["conv"] < 0).any()  # not overwritten by the layer behind it
    assert not any(v.requires_grad for v in found.values())


def test_default_stages_are_the_children_that_run():
    assert list(capture(Net(), [images(2)])) == ["input", "conv", "relu", "head", "logits"]
    assert list(capture(Net(["head"]), [images(2)])) == ["input", "head", "logits"]


def test_an_attribute_that_holds_modules_is_no_list_of_names():
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 5))
    net.add_module("stages", nn.Identity())
    net.add_module("head", nn.Linear(5, 2))
    assert list(capture(net, [images(2)])) == ["input", "0", "1", "stages", "logits"]


def test_a_last_layer_nobody_asked_for_is_not_shown_twice():
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    assert list(capture(net, [images(2)])) == ["input", "0", "logits"]
    assert list(capture(net, [images(2)], stages=["1"])) == ["input", "1", "logits"]


def test_nested_names_and_reserved_names_are_understood():
    net = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(36, 5), nn.ReLU()))
    found = capture(net, [images(2)], stages=["input", "1.0", "1.0", "logits"])
    assert list(found) == ["input", "1.0", "logits"]
    assert torch.equal(found["1.0"].clamp(min=0), found["logits"])


def test_streaming_equals_one_big_batch():
    net, x = Net(["conv"]).double(), images(11).double()
    small, big = capture(net, x.split(2), features=20), capture(net, [x], features=20)
    for name in big:
        torch.testing.assert_close(small[name], big[name])


def test_the_projection_is_fixed_linear_and_depends_on_seed_and_stage():
    net, x = Net(["conv", "relu"]), images(6)
    full = capture(net, [x])
    narrow = capture(net, [x], features=30)
    directions = torch.linalg.lstsq(full["conv"], narrow["conv"])  # exists exactly: 6 samples of width 144
    torch.testing.assert_close(full["conv"] @ directions.solution, narrow["conv"], rtol=1e-3, atol=1e-3)
    assert narrow["conv"].shape == narrow["relu"].shape == (6, 30)
    assert narrow["input"].shape == (6, 30)
    assert torch.equal(narrow["conv"], capture(net, [x], features=30)["conv"])
    assert not torch.allclose(narrow["conv"], capture(net, [x], features=30, seed=1)["conv"])
    net.relu = nn.Identity()
    again = capture(net, [x], features=30)
    assert not torch.allclose(again["conv"], again["relu"])


def test_the_projection_recovers_scaled_unit_directions():
    net = nn.Sequential(nn.Flatten(), nn.Identity())
    basis = torch.eye(36).view(36, 1, 6, 6)
    directions = capture(net, [basis], stages=["1"], features=9)["1"]
    torch.testing.assert_close(directions.norm(dim=0), torch.full((9,), 2.0))  # sqrt(36 / 9) times unit norm


def test_squared_distances_are_kept_on_average():
    net, x = nn.Sequential(nn.Flatten(), nn.Identity()), images(2)
    exact = (x[0] - x[1]).square().sum()
    found = [capture(net, [x], stages=["1"], features=12, seed=s)["1"] for s in range(400)]
    ratios = torch.stack([(f[0] - f[1]).square().sum() / exact for f in found])
    error = ratios.std() / 20
    assert abs(ratios.mean() - 1) < 4 * error
    assert error < 0.03


def test_nothing_about_the_model_changes():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5)).eval()
    net[2].train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    capture(net, [images(3)])
    assert [m.training for m in net] == [False, False, True]
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert hooks_of(net) == 0
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_a_user_s_own_hooks_stay():
    net, seen = Net(["conv"]), []
    net.conv.register_forward_hook(lambda *_: seen.append(1))
    capture(net, [images(2)])
    assert (hooks_of(net), len(seen)) == (1, 1)


def test_forward_runs_in_the_callers_context():
    net, seen = Net(["conv"]), []

    def doubled(index, batch):
        seen.append((index, len(batch)))
        return net(2 * batch)

    found = capture(net, images(5).split(3), forward=doubled)
    assert seen == [(0, 3), (1, 2)]
    torch.testing.assert_close(found["logits"], net(2 * images(5)).detach())
    torch.testing.assert_close(found["input"], images(5).flatten(1))


def test_memory_holds_projected_rows_only():
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 5000, bias=False), nn.Linear(5000, 2))
    found = capture(net, (images(4, seed=s) for s in range(3)), stages=["1"], features=8)
    assert found["1"].untyped_storage().nbytes() == 12 * 8 * 4


class Broken(Net):
    """A model whose forward pass goes wrong in a chosen way."""

    def __init__(self, kind):
        super().__init__(["conv"])
        self.kind = kind

    def forward(self, x):
        if self.kind == "raises":
            raise RuntimeError("out of order")
        first = self.conv(x)
        if self.kind == "twice":
            self.conv(x)
        return (first, first) if self.kind == "tuple" else first.sum()


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("raises", RuntimeError, "out of order"),
        ("twice", InputError, "one call of stage 'conv' for each batch"),
        ("tuple", InputError, "one tensor from stage 'logits', got tuple"),
        ("sum", InputError, "one row per sample from stage 'logits'"),
    ],
)
def test_hooks_go_even_when_the_model_fails(kind, error, words):
    net = Broken(kind)
    with pytest.raises(error, match=words):
        capture(net, [images(2)])
    assert hooks_of(net) == 0


def test_unknown_stages_suggest_known_ones():
    with pytest.raises(UnknownNameError, match=r"known stage, got 'cnv'; try conv"):
        capture(Net(), [images(2)], stages=["conv", "cnv"])
    with pytest.raises(UnknownNameError, match="got ''"):
        capture(Net(), [images(2)], stages=[""])


@pytest.mark.parametrize(
    ("batches", "options", "words"),
    [
        ([], {}, "one batch or more"),
        (images(2), {}, "an iterable of batches"),
        ([(images(2), 0)], {}, "batches that are tensors, got tuple"),
        ([images(2)[:0]], {}, "one sample or more"),
        ([images(2)], {"stages": ["unused"]}, "unused not called"),
        ([images(2)], {"stages": "conv"}, "list of module names"),
        ([images(2)], {"features": 0}, "features >= 1"),
        (
            [images(2), torch.rand(2, 1, 4, 9), torch.rand(2, 1, 7, 7)],
            {},
            r"one width of stage .input.*\[36, 49\]",
        ),
    ],
)
def test_bad_input_is_refused(batches, options, words):
    net = nn.Sequential(nn.Flatten(), nn.Identity()) if len(batches) == 3 else Net()
    with pytest.raises(InputError, match=words):
        capture(net, batches, **options)
    assert hooks_of(net) == 0


def test_running_statistics_that_would_move_are_refused():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    with pytest.raises(InputError, match="'1' in training mode"):
        capture(net, [images(2)])
