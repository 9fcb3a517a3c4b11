"""Objectives without labels: views, losses written out, the probe beside them, and the second network."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, nn

from robustgeom.data.views import views
from robustgeom.errors import InputError
from robustgeom.models.build import build
from robustgeom.models.self_supervised import SelfSupervised
from robustgeom.threat import ThreatModel
from robustgeom.training.barlow_twins import _redundancy, barlow_twins
from robustgeom.training.mmcr import capacity_loss, mmcr
from robustgeom.training.neighbours import neighbour_votes
from robustgeom.training.objectives import OBJECTIVES, objective_needs
from robustgeom.training.recipe import Recipe
from robustgeom.training.run import Run
from robustgeom.training.simclr import _contrast, simclr
from robustgeom.training.wave_contrast import _contrast as over_time
from robustgeom.training.wave_mmcr import _capacity_loss

NAMES = ("adversarial_mmcr", "barlow_twins", "mmcr", "simclr")
THREAT = ThreatModel("linf", 0.05)


def seeded(seed=0):
    return Generator().manual_seed(seed)


def network():
    torch.manual_seed(0)
    return SelfSupervised(base="pooled_cnn", base_arguments={"widths": [4, 8, 8]}, projector=(16, 8)).train()


def batch(n=6):
    return torch.rand(n, 1, 28, 28, generator=seeded()), torch.arange(n) % 10


def loss_of(name, model, data, seed=0, memory=None, **settings):
    known = {"memory": {} if memory is None else memory, "threat": THREAT}
    given = {key: known[key] for key in objective_needs(name) if key in known}
    return OBJECTIVES[name](model, *data, generator=seeded(seed), **given, **settings)


# --- views ------------------------------------------------------------------------------------------------------


def test_views_without_change_are_the_images_in_consecutive_rows():
    x = torch.rand(3, 2, 9, 9, generator=seeded())
    found = views(x, 4, seeded(), crop=1.0, jitter=0.0, flip=False)
    # The whole area with another aspect is still the whole width or height, so that only one side may shrink.
    assert found.shape == (12, 2, 9, 9)
    even = views(torch.full((2, 1, 5, 5), 0.4), 3, seeded(), jitter=0.0)
    torch.testing.assert_close(even, torch.full((6, 1, 5, 5), 0.4))


def test_views_are_crops_inside_the_image_mirrored_half_the_time():
    ramp = torch.linspace(0, 1, 64).repeat(64, 1)[None, None]
    found = views(ramp, 400, seeded(), crop=0.2, jitter=0.0)[:, 0]
    left, right = found[:, 32, 0], found[:, 32, -1]
    mirrored = left > right
    assert 0.4 < mirrored.double().mean() < 0.6
    assert found.min() >= 0
    assert found.max() <= 1
    spans = (right - left).abs()
    assert spans.min() > 0.3  # the narrowest crop: the root of 0.2 times 3/4
    assert spans.max() > 0.9
    rows = found.transpose(1, 2)[:, 0]
    assert (rows.std(1) < 1e-5).all()  # nothing is turned


def test_jitter_changes_brightness_and_contrast_within_its_bounds():
    x = 0.3 + 0.2 * torch.rand(1, 1, 16, 16, generator=seeded())
    found = views(x, 300, seeded(1), crop=1.0, jitter=0.3)
    means = found.mean((1, 2, 3)) / x.mean()
    assert 0.66 < means.min() < 0.75
    assert 1.25 < means.max() < 1.34
    assert torch.equal(found, views(x, 300, seeded(1), crop=1.0, jitter=0.3))


@pytest.mark.parametrize("change", [{"crop": 0}, {"crop": 2}, {"jitter": 1}, {"jitter": -0.1}, {"count": 0}])
def test_views_that_cannot_be_are_refused(change):
    given = {"count": 2} | change
    with pytest.raises(InputError, match="a view"):
        views(torch.rand(2, 1, 4, 4), given.pop("count"), seeded(), **given)
    with pytest.raises(InputError, match="images"):
        views(torch.rand(2, 100), 2, seeded())


# --- losses -----------------------------------------------------------------------------------------------------


def test_the_contrast_is_the_cross_entropy_of_the_other_view_written_out():
    z = torch.randn(8, 5, dtype=torch.double, generator=seeded())
    expected = 0.0
    for i in range(8):
        cosines = [F.cosine_similarity(z[i], z[j], dim=0) / 0.2 for j in range(8)]
        other = i + 1 if i % 2 == 0 else i - 1
        expected -= cosines[other] - torch.stack([cosines[j] for j in range(8) if j != i]).logsumexp(0)
    assert _contrast(z, 0.2).item() == pytest.approx(float(expected) / 8)


def test_redundancy_is_that_of_correlations_written_out():
    z = torch.randn(60, 3, dtype=torch.double, generator=seeded())
    one, other = z[::2], z[1::2]
    correlation = torch.corrcoef(torch.cat([one, other], 1).T)[:3, 3:]
    own = (1 - correlation.diagonal()).square().sum()
    rest = correlation.square().sum() - correlation.diagonal().square().sum()
    assert _redundancy(z, 0.1).item() == pytest.approx(float(own + 0.1 * rest), rel=1e-4)
    same = z.repeat_interleave(2, 0)
    assert _redundancy(same, 0.0).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_labels_reach_the_probe_alone_and_views_everything_else(name):
    data = batch()
    other = data[0], (data[1] + 1) % 10
    names = [n for n, _ in network().named_parameters()]
    # A network each: attacks go by the batch statistics that a pass before has moved.
    first, second = (
        torch.autograd.grad(loss_of(name, model, d), list(model.parameters()))
        for model, d in ((network(), data), (network(), other))
    )
    for key, a, b in zip(names, first, second, strict=True):
        assert a.isfinite().all()
        assert torch.equal(a, b) != key.startswith("probe"), key
    assert all(a.abs().sum() > 0 for k, a in zip(names, first, strict=True) if not k.endswith("norm.bias"))


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_decides_and_nothing_else_moves(name):
    data, state = batch(), torch.get_rng_state()
    first, again, other = (loss_of(name, network(), data, seed=s).item() for s in (1, 1, 2))
    assert (first == again, first == other) == (True, False)
    model = network()
    state = torch.get_rng_state()
    kept = data[0].clone()
    loss_of(name, model, data)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(data[0], kept)


@pytest.mark.parametrize("name", NAMES)
def test_training_lowers_the_loss_and_teaches_the_probe(name):
    model, (_, labels) = network(), batch(20)
    x = 0.1 * torch.rand(20, 1, 28, 28, generator=seeded())
    labels = labels % 2
    x[labels == 0, :, ::4] += 0.7  # stripes across, or down
    x[labels == 1, :, :, ::4] += 0.7
    groups = [
        {"params": list(model.probe.parameters()), "lr": 0.1},
        {"params": [*model.encoder.parameters(), *model.projector.parameters()]},
    ]
    optimiser, told, memory = torch.optim.AdamW(groups, lr=3e-3), [], {}
    for step in range(60):
        loss = loss_of(name, model, (x, labels), seed=step, memory=memory)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        told.append(loss.item())
    assert sum(told[-5:]) < sum(told[:5])
    assert (model(x).argmax(1) == labels).double().mean() >= 0.9


@pytest.mark.parametrize("name", NAMES)
def test_networks_without_projector_and_settings_that_mean_nothing_are_refused(name):
    with pytest.raises(InputError, match="projector and a probe"):
        loss_of(name, nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), batch())
    bad = {
        "adversarial_mmcr": {"attacked": 9},
        "barlow_twins": {"redundancy": -1},
        "mmcr": {"lmbda": -1},
        "simclr": {"temperature": 0},
    }[name]
    with pytest.raises(InputError, match="expected"):
        loss_of(name, network(), batch(), **bad)
    with pytest.raises(InputError, match="expected"):
        loss_of(name, network(), batch(), crop=0)


def test_attacked_views_lie_far_from_their_image_and_within_reach(monkeypatch):
    model, (x, y) = network(), batch(4)
    seen = []
    monkeypatch.setattr(type(model), "features", watched(type(model).features, seen))
    loss = loss_of("adversarial_mmcr", model, (x, y), views=3, attacked=1, steps=8, lmbda=0.5)
    shown = seen[-1].view(4, 3, 1, 28, 28)
    plain = views(x, 3, seeded()).view_as(shown)
    assert torch.equal(shown[:, :2], plain[:, :2])
    moved = shown[:, 2] - plain[:, 2]
    assert 0.04 < moved.abs().amax() <= 0.05 + 1e-6
    assert shown.min() >= 0
    assert shown.max() <= 1
    with torch.no_grad():
        twin = network().eval()
        centres = F.normalize(twin.embed(plain.flatten(0, 1)), dim=1).view(4, 3, -1).mean(1)
        far, near = (F.cosine_similarity(twin.embed(v[:, 2]), centres) for v in (shown, plain))
    assert (far < near).all()
    # All views attacked, and the loss of embeddings that only the attack moves.
    assert loss_of("adversarial_mmcr", network(), (x, y), views=2, attacked=2, steps=1).isfinite()
    assert loss.isfinite()


def watched(function, seen):
    def features(self, x):
        seen.append(x.detach().clone())
        return function(self, x)

    return features


def test_the_second_network_follows_the_first_and_leaves_its_statistics_alone():
    model, data, memory = network(), batch(), {}
    loss_of("mmcr", model, data, memory=memory, momentum=0.9)
    weight = model.probe.weight.detach().clone()
    assert torch.equal(memory["momentum.network.probe.weight"], weight)
    passes = {k: int(v) for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    assert set(passes.values()) == {1}
    with torch.no_grad():
        model.probe.weight.add_(1.0)
    loss_of("mmcr", model, data, memory=memory, momentum=0.9)
    torch.testing.assert_close(memory["momentum.network.probe.weight"], weight + 0.1)
    alone = loss_of("mmcr", network(), data).item()
    same = loss_of("mmcr", network(), data, momentum=0.9).item()  # two equal networks have the means of one
    assert same == pytest.approx(alone, rel=1e-5)


# --- the network ------------------------------------------------------------------------------------------------


def test_the_probe_reads_what_the_projector_projects():
    model = network().eval()
    x, _ = batch()
    features = model.features(x)
    torch.testing.assert_close(model(x), model.probe(features))
    torch.testing.assert_close(model.embed(x), model.projector(features))
    assert model.stages == ["encoder.conv1", "encoder.conv2", "encoder.conv3", "pooled"]
    assert isinstance(model.projector[-1], nn.Linear)
    assert all(layer.bias is None for layer in model.projector if isinstance(layer, nn.Linear))


@pytest.mark.parametrize("arguments", [{"base": "vnn"}, {"projector": []}])
def test_bases_without_a_linear_readout_are_refused(arguments):
    with pytest.raises(InputError, match="linear read-out"):
        build("self_supervised", arguments)


@pytest.mark.parametrize(
    ("name", "optimiser"), [("mmcr", "lars"), ("simclr", "adamw"), ("barlow_twins", "sgd")]
)
def test_recipes_train_by_them_and_go_on_from_a_checkpoint(name, optimiser):
    from robustgeom.data.load import load_dataset

    data = load_dataset("fashion-mnist", split="eval")
    recipe = Recipe.model_validate(
        {
            "name": "x",
            "family": "x",
            "architecture": {
                "name": "self_supervised",
                "arguments": {
                    "base": "pooled_cnn",
                    "base_arguments": {"widths": [4, 4, 4]},
                    "projector": [8],
                },
            },
            "objective": {
                "name": name,
                "eps": 0.05 if name.startswith("adversarial") else 0.0,
                "arguments": {"momentum": 0.9} if name == "mmcr" else {},
            },
            "optimiser": {"name": optimiser, "epochs": 1, "batch_size": 50, "lr": 0.01},
        }
    )
    whole, cut = (Run(recipe, data, data, "cpu") for _ in range(2))
    for _ in range(3):
        whole.one_step()
    cut.one_step()
    later = Run(recipe, data, data, "cpu")
    later.restore(cut.state())
    for _ in range(2):
        later.one_step()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, later.model.state_dict()[key]), key


def test_votes_are_weighed_by_nearness():
    bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    votes = neighbour_votes(
        bank, torch.tensor([0, 1, 1]), torch.tensor([[2.0, 0.0]]), classes=2, k=2, temperature=0.5
    )
    torch.testing.assert_close(votes, torch.tensor([[2.0, 1.2]]).exp())
    with pytest.raises(InputError, match="bank"):
        neighbour_votes(bank, torch.tensor([0, 1, 1]), bank, classes=2, k=4)
    assert barlow_twins is OBJECTIVES["barlow_twins"]
    assert mmcr is OBJECTIVES["mmcr"]
    assert simclr is OBJECTIVES["simclr"]


# --- mixed precision --------------------------------------------------------------------------------------------


EXACT = {
    "simclr": partial(_contrast, temperature=0.5),
    "barlow_twins": partial(_redundancy, weight=0.005),
    "mmcr": partial(capacity_loss, views=2, lmbda=0.1),
    "wave_contrast": partial(
        over_time,
        clips=torch.arange(64) // 16,
        waves=torch.arange(64) // 16,
        separation=1,
        temperature=0.5,
        chopped=True,
    ),
    "wave_mmcr": partial(_capacity_loss, waves=torch.arange(64) // 16, lmbda=0.1, pairs=False),
}


@pytest.mark.parametrize("loss", EXACT.values(), ids=EXACT)
def test_losses_of_embeddings_are_worked_out_in_full_where_passes_are_not(loss):
    z = F.normalize(torch.randn(64, 8, generator=seeded()), dim=1)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, halved = loss(z), loss(z.bfloat16())
    assert torch.equal(mixed, loss(z))
    assert torch.equal(halved, loss(z.bfloat16().float()))


@pytest.mark.parametrize("name", NAMES)
def test_mixed_precision_changes_a_loss_by_its_rounding_alone(name):
    settings = {"momentum": 0.9} if name == "mmcr" else {}
    plain = loss_of(name, network(), batch(), **settings)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss_of(name, network(), batch(), **settings)
    assert mixed.dtype is torch.float32
    assert not torch.equal(mixed, plain)
    torch.testing.assert_close(mixed, plain, rtol=0.03, atol=0.03)
