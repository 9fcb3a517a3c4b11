"""Draws of one input share what lies ahead of the noise: the same answers, for fewer rows through the front."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from robustgeom.attacks._losses import find_loss
from robustgeom.attacks._oracle import Oracle
from robustgeom.data.load import load_dataset
from robustgeom.harness.evaluate import evaluate
from robustgeom.harness.options import RunOptions
from robustgeom.harness.subject import subject
from robustgeom.models.cochlear import CochlearNet
from robustgeom.models.noise import FixedNoise, GaussianNoise
from robustgeom.models.vone import VOneNet

DRAWS = 5
ROWS = 7
DATA = load_dataset("fashion-mnist", split="eval").take(torch.arange(ROWS))


class Around(nn.Module):
    """A network whose skip connection passes the noise by."""

    def __init__(self):
        super().__init__()
        self.noise, self.head = FixedNoise(0.5, key="a"), nn.Linear(784, 10)

    def forward(self, x):
        x = x.flatten(1)
        return self.head(x + self.noise(x))


class OverRows(nn.Module):
    """A network in which rows meet ahead of the noise: how often one occurs makes a difference."""

    def __init__(self):
        super().__init__()
        self.noise, self.head = FixedNoise(0.01, key="a"), nn.Linear(784, 10)

    def forward(self, x):
        x = x.flatten(1)
        weight = torch.arange(1.0, len(x) + 1)[:, None]
        return self.head(self.noise(x - (weight * x).sum(0)))


class Rolls(nn.Module):
    """A network with a layer of ours and randomness of its own, which acts now and then."""

    def __init__(self):
        super().__init__()
        self.noise, self.head = FixedNoise(0.5, key="a"), nn.Linear(784, 10)

    def forward(self, x):
        x = x.roll(1, 1) if torch.rand(()) < 0.3 else x
        return self.head(self.noise(x.flatten(1)))


class Recomputes(nn.Module):
    """A network whose backward pass runs ahead of its noise layer again, as saves memory."""

    def __init__(self):
        super().__init__()
        self.front, self.noise, self.head = nn.Linear(784, 8), FixedNoise(0.5, key="a"), nn.Linear(8, 10)

    def forward(self, x):
        def inner(x):
            return self.noise(self.front(x)).relu()

        return self.head(checkpoint(inner, x.flatten(1), use_reentrant=False))


def in_layers():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), FixedNoise(0.3, key="a"), nn.ReLU(), nn.Conv2d(4, 4, 3),
        GaussianNoise(4, rho=0.5, key="b"), nn.Flatten(), nn.Linear(2304, 10),
    )  # fmt: skip


NETWORKS = {
    "front": lambda: VOneNet(front={"simple": 4, "complex": 4, "rho": 1.0}),
    "poisson": lambda: VOneNet(front={"simple": 4, "complex": 4, "rho": 1.0, "noise": "poisson"}),
    "layers": in_layers,
    "input": lambda: nn.Sequential(FixedNoise(0.3, key="a"), nn.Flatten(), nn.Linear(784, 10)),
    "flat": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(784, 8), FixedNoise(1.0, key="a"), nn.Linear(8, 10)
    ),
}


def bound(network, rows=ROWS):
    torch.manual_seed(0)
    return subject(network().eval(), DATA.take(torch.arange(rows)))[0]


def look(target, average="gradients"):
    rows = torch.arange(len(DATA))
    return Oracle(target, None, DRAWS, average).look(find_loss("margin"), (DATA.labels,), DATA.inputs, rows)


@pytest.mark.parametrize("average", ["gradients", "logits"])
@pytest.mark.parametrize("name", NETWORKS)
def test_answers_and_gradients_are_those_of_separate_passes(name, average):
    found = bound(NETWORKS[name])
    assert found.early
    target = found.target(DATA.ids, 3, 10)
    shared, apart = look(target, average), look(replace(target, early=False), average)
    for field in ("logits", "loss", "gradient"):
        torch.testing.assert_close(getattr(shared, field), getattr(apart, field), rtol=1e-4, atol=1e-5)
    assert shared.logits.std() > 0


@pytest.mark.parametrize("rows", [1, ROWS])
@pytest.mark.parametrize("network", [Around, OverRows, Recomputes])
def test_networks_that_would_answer_otherwise_are_found_out(network, rows):
    found = bound(network, rows)
    assert found.noise == "keyed"
    assert not found.early
    assert torch.isfinite(look(found.target(DATA.ids, 3, 10)).gradient).all()


def test_randomness_beside_a_layer_of_ours_is_seeded_too_and_not_shared():
    torch.manual_seed(0)
    model = Rolls().eval()
    options = RunOptions(n=12, eps="8/255", analyze=False)
    before, made = torch.get_rng_state(), []
    for _ in range(2):
        made.append(evaluate(model, options=options))
        assert torch.equal(torch.get_rng_state(), before)
    assert made[0].header.model.noise == "batch"
    assert made[0].fingerprint() == made[1].fingerprint()
    assert not bound(Rolls).early


def test_the_front_sees_each_input_once_and_every_draw_is_counted():
    found = bound(NETWORKS["front"])
    seen = []
    gabor = found.engine.front.gabor
    handle = gabor.register_forward_hook(lambda _module, args, _out: seen.append(len(args[0])))
    told = []
    target = replace(found.target(DATA.ids, 3, 10), watch=lambda *answer: told.append(answer), rows_a_pass=20)
    look(target)
    handle.remove()
    assert sum(seen) < len(DATA) * DRAWS / 2
    assert target.forward_calls.tolist() == target.backward_calls.tolist() == [DRAWS] * len(DATA)
    x, rows, logits = (torch.cat(part) for part in zip(*told, strict=True))
    assert len(x) == len(rows) == len(logits) == len(DATA) * DRAWS
    torch.testing.assert_close(x, DATA.inputs[rows])


def test_a_pass_cut_into_pieces_answers_as_in_one():
    target = bound(NETWORKS["front"]).target(DATA.ids, 3, 10)
    rows = torch.arange(len(DATA)).repeat_interleave(DRAWS)
    draws = torch.arange(DRAWS).repeat(len(DATA))
    with torch.no_grad():
        whole = target.query(DATA.inputs, rows, draws, rows)
        cut = replace(target, rows_a_pass=8).query(DATA.inputs, rows, draws, rows)
    torch.testing.assert_close(cut, whole, rtol=1e-4, atol=1e-5)


class Heard(nn.Module):
    """A cochlear network with the variants of its own and one whose path passes the noise by."""

    def __init__(self):
        super().__init__()
        self.net = CochlearNet(front={"rho": 1.0}, width=4, back_end="pooled_cnn")

    @property
    def variants(self):
        return {**self.net.variants, "around": lambda x: self.net(x) + x[:, :20]}

    def forward(self, x):
        return self.net(x)


def test_gradient_sources_share_what_lies_ahead_of_their_noise_too():
    torch.manual_seed(0)
    found, seen = subject(Heard().eval(), load_dataset("spoken-words", split="eval", limit=ROWS))
    assert found.early
    rows = torch.arange(ROWS)
    for name, shared in {"uncapped": True, "cap-25": True, "around": False}.items():
        source = found.source(name, seen.ids, 3, "keyed")
        assert source.early is shared
        slopes = [
            Oracle(found.target(seen.ids, 3, 20), one, DRAWS, "gradients")
            .look(find_loss("margin"), (seen.labels,), seen.inputs, rows)
            .gradient
            for one in (source, replace(source, early=False))
        ]
        torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-4 * float(slopes[1].abs().max()))
        assert slopes[0].abs().max() > 0
    assert not found.source("uncapped", seen.ids, 3, "none").early
