"""Manifold builders: which points they make, under which noise, and how much they hold in memory."""

import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import robustgeom as rg
from robustgeom.errors import InputError, UnknownNameError
from robustgeom.harness.manifolds import KINDS, NOISY, Builder, class_manifolds, grouped
from robustgeom.harness.measuring import Measuring
from robustgeom.harness.subject import subject
from robustgeom.threat import ThreatModel, distance

RADII = {"linf": 0.1, "l2": 1.5, "l1": 8.0}
IMAGES, POINTS = 4, 6


@pytest.fixture(scope="module")
def data():
    return rg.load_dataset("fashion-mnist", split="eval").balanced(60)


class OwnNoise(nn.Module):
    """A zoo network behind noise that only torch's global stream controls."""

    def __init__(self):
        super().__init__()
        self.inner = rg.load_model("fmnist-cnn-standard")

    def forward(self, x):
        return self.inner(x + 0.1 * torch.randn_like(x))


@pytest.fixture(scope="module")
def networks(data):
    models = {
        "plain": "fmnist-cnn-standard",
        "robust": "fmnist-cnn-pgd-at",
        "keyed": "fmnist-cnn-gaussian",
        "batch": OwnNoise().eval(),
    }
    return {name: subject(model, data)[0] for name, model in models.items()}


def builder(network, data, norm="linf", **settings):
    threat = ThreatModel(norm, settings.pop("eps", RADII[norm]))
    return Builder(network, data, threat, n_images=IMAGES, points=POINTS, eot=2, **settings)


def points(manifolds):
    """All points in order, and the keys of their noise."""
    found = list(manifolds.batches())
    return torch.cat([b.inputs for b in found]), [key for b in found for key in b.keys]


def logits(network, manifolds):
    return Measuring(features=100).activations(network, manifolds)["logits"].view(IMAGES, POINTS, -1)


def origins(data):
    return data.balanced(IMAGES).inputs.repeat_interleave(POINTS, 0)


@pytest.mark.parametrize("norm", RADII)
def test_attacks_and_noise_stay_in_ball_and_domain_at_one_norm_version_by_version(networks, data, norm):
    made = builder(networks["plain"], data, norm)
    attack, noise = (points(made.build(kind))[0] for kind in ("attack", "noise"))
    start = origins(data)
    far = distance(attack, start, norm)
    torch.testing.assert_close(distance(noise, start, norm), far, rtol=1e-4, atol=1e-5)
    assert bool((far <= RADII[norm] * (1 + 1e-5)).all())
    assert float(far.min()) > 0.5 * RADII[norm]
    for inputs in (attack, noise):
        assert 0 <= float(inputs.min()) <= float(inputs.max()) <= 1
        assert len(torch.unique(inputs.flatten(1), dim=0)) == IMAGES * POINTS


def test_attacked_versions_raise_the_loss_more_than_noise_of_their_norm(networks, data):
    made = builder(networks["plain"], data)
    labels = data.balanced(IMAGES).labels.repeat_interleave(POINTS)
    losses = [
        nn.functional.cross_entropy(logits(networks["plain"], made.build(kind)).flatten(0, 1), labels)
        for kind in ("attack", "noise")
    ]
    assert losses[0] > 2 * losses[1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_makes_the_same_points_and_another_seed_others(networks, data, kind):
    network = networks["keyed"]
    first, again = (points(builder(network, data).build(kind)) for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert first[1] == again[1]
    other = points(builder(network, data, seed=1).build(kind))[0]
    assert torch.equal(first[0], other) == (kind in ("class", "own-noise"))


@pytest.mark.parametrize("kind", ["class", "noise", "translations", "contrasts", "views"])
def test_two_networks_are_measured_on_the_same_points(networks, data, kind):
    made = [builder(networks[name], data).build(kind) for name in ("plain", "robust")]
    assert torch.equal(points(made[0])[0], points(made[1])[0])
    assert made[0].names == made[1].names
    assert made[0].counts == made[1].counts


def test_points_do_not_depend_on_the_batch_size(networks, data):
    small, large = (builder(networks["plain"], data, batch_size=size) for size in (32, 128))
    small, large = (replace(b, n_images=9) for b in (small, large))
    for kind in ("noise", "translations", "contrasts", "views"):
        assert torch.equal(points(small.build(kind))[0], points(large.build(kind))[0])


@pytest.mark.parametrize("name", ["keyed", "batch"])
def test_frozen_noise_without_a_perturbation_has_no_variance(networks, data, name):
    network = networks[name]
    still = logits(network, builder(network, data, eps=0.0).build("frozen-noise"))
    assert torch.equal(still, still[:, :1].expand_as(still))
    fresh = logits(network, builder(network, data).build("own-noise"))
    assert bool((fresh.std(1).amax(1) > 1e-3).all())
    moved = logits(network, builder(network, data).build("frozen-noise"))
    assert bool((moved.std(1).amax(1) > 1e-3).all())


def test_frozen_noise_is_one_draw_for_all_images_and_not_no_noise(networks, data):
    made = builder(networks["keyed"], data, eps=0.0).build("frozen-noise")
    assert set(points(made)[1]) == {0}
    with torch.no_grad():
        quiet = networks["keyed"].variant("noise-off")(data.balanced(IMAGES).inputs)
    assert not torch.allclose(logits(networks["keyed"], made)[:, 0], quiet, atol=1e-2)


def test_a_frozen_perturbation_is_one_version_of_the_attack_under_fresh_noise(networks, data):
    made = builder(networks["keyed"], data)
    one, keys = points(made.build("frozen-perturbation"))
    one = one.view(IMAGES, POINTS, -1)
    assert torch.equal(one, one[:, :1].expand_as(one))
    assert len(set(keys)) == IMAGES * POINTS
    attack = points(made.build("attack"))[0].view(IMAGES, POINTS, -1)
    share = (
        ((one[:, 0] - attack[:, 0]).abs() < 1e-5).float().mean()
    )  # a step's sign may turn with the batch's shape
    assert share > 0.99
    assert bool((logits(networks["keyed"], made.build("frozen-perturbation")).std(1).amax(1) > 1e-3).all())


@pytest.mark.parametrize("kind", NOISY)
def test_kinds_that_need_noise_are_refused_without_it(networks, data, kind):
    with pytest.raises(InputError, match=f"a network with noise for {kind} manifolds, got one without"):
        builder(networks["plain"], data).build(kind)


def test_unknown_kinds_and_a_missing_threat_are_refused(networks, data):
    with pytest.raises(UnknownNameError, match="try own-noise"):
        builder(networks["keyed"], data).build("ownnoise")
    with pytest.raises(InputError, match="a threat for attack manifolds"):
        Builder(networks["plain"], data).build("attack")


def test_translations_move_the_image_by_no_more_than_the_share(networks, data):
    spot = torch.zeros(1, 1, 28, 28)
    spot[0, 0, 14, 14] = 1
    image = replace(data.take(torch.tensor([0])), inputs=spot)
    made = Builder(networks["plain"], image, n_images=1, points=40, shift=0.1).build("translations")
    inputs, _ = points(made)
    places = torch.arange(28.0)
    across = (inputs.sum((1, 2)) * places).sum(1) / inputs.sum((1, 2, 3)) - 14
    assert float(across.abs().max()) <= 2.8 + 1e-3
    assert float(across.abs().max()) > 2  # forty draws reach near the edge
    torch.testing.assert_close(inputs.sum((1, 2, 3)), torch.ones(40))


def test_wide_translations_move_the_image_by_half_a_side(networks, data):
    spot = torch.zeros(1, 1, 28, 28)
    spot[0, 0, 14, 14] = 1
    image = replace(data.take(torch.tensor([0])), inputs=spot)
    inputs, _ = points(Builder(networks["plain"], image, n_images=1, points=60).build("wide-translations"))
    down = inputs.sum(3).argmax(2) - 14
    assert 10 < int(down.abs().max()) <= 14


def test_contrasts_change_brightness_and_contrast_by_half_at_most(networks, data):
    even = torch.full((1, 1, 28, 28), 0.4)
    even[..., :14] = 0.2
    image = replace(data.take(torch.tensor([0])), inputs=even)
    inputs, _ = points(Builder(networks["plain"], image, n_images=1, points=200).build("contrasts"))
    means = inputs.mean((1, 2, 3)) / 0.3
    assert 0.5 <= means.min() < 0.6
    assert 1.4 < means.max() <= 1.5
    contrast = (inputs[..., 20] - inputs[..., 2]).mean((1, 2)) / inputs.mean((1, 2, 3)) / (0.2 / 0.3)
    assert 0.5 <= contrast.min() < 0.6
    assert 1.4 < contrast.max() <= 1.5 + 1e-6
    sounds = rg.Dataset(
        "w", "test", torch.zeros(2, 100), torch.tensor([0, 1]), (0, 1), ("a", "b"), (-1.0, 1.0)
    )
    for kind in ("contrasts", "views"):
        with pytest.raises(InputError, match="images"):
            points(Builder(networks["plain"], sounds, points=5).build(kind))


def test_views_are_those_of_objectives_without_labels(networks, data):
    made, image = [], data.take(torch.tensor([0]))
    for points_ in (5, 40):
        made.append(points(Builder(networks["plain"], image, n_images=1, points=points_).build("views"))[0])
    assert torch.equal(made[0], made[1][:5])  # a version is the same however many there are
    mirrored = (made[1] - image.inputs.flip(3)).abs().mean((1, 2, 3)) < (made[1] - image.inputs).abs().mean(
        (1, 2, 3)
    )
    assert len(made[1].unique(dim=0)) == 40
    assert 0 < int(mirrored.sum()) < 40


def test_waveforms_are_shifted_in_time(networks, data):
    wave = torch.zeros(2, 100)
    wave[:, 50] = -1
    heard = rg.Dataset("w", "test", wave, torch.tensor([0, 1]), (0, 1), ("a", "b"), (-1.0, 1.0))
    inputs, _ = points(Builder(networks["plain"], heard, points=5, shift=0.2).build("translations"))
    assert inputs.shape == (10, 100)
    peaks = inputs.argmin(1)
    assert len(set(peaks.tolist())) > 3
    assert bool(((peaks - 50).abs() <= 20).all())


def test_any_column_groups_the_same_responses(networks, data):
    network = networks["keyed"]
    pose = ["left" if i % 3 else "right" for i in range(len(data))]
    by_pose = grouped(data, pose, points=100, condition="pose")
    by_class = class_manifolds(data, points=100)
    assert by_pose.names == ("left", "right")
    assert by_pose.counts == (40, 20)
    assert by_class.names == data.classes
    found = {}
    for made in (by_pose, by_class):
        answers = Measuring(features=100).activations(network, made)["logits"]
        found[made.condition] = dict(zip(points(made)[1], answers, strict=True))
    assert set(found["pose"]) == set(data.ids)
    for key, answer in found["clean"].items():
        torch.testing.assert_close(found["pose"][key], answer, rtol=1e-4, atol=1e-4)


def test_groups_take_the_first_points_in_order_and_leave_out_single_samples(data):
    column = np.array([3] * 20 + [10] * 39 + [7])
    made = grouped(data, column, points=5)
    assert made.names == ("3", "10")
    assert points(made)[1] == [*data.ids[:5], *data.ids[20:25]]
    with pytest.raises(InputError, match="60 labels, one a sample, got 59"):
        grouped(data, column[1:])
    with pytest.raises(InputError, match=r"two groups or more, got 1 of 2 groups"):
        grouped(data, [0] * 59 + [1])


@pytest.mark.parametrize("kind", ["attack", "noise"])
def test_points_are_made_a_batch_at_a_time(networks, data, kind):
    made = replace(builder(networks["plain"], data, "l2"), points=64, batch_size=32).build(kind)
    alive, most = [], 0

    def counted():
        nonlocal most
        for batch in made.batches():
            assert len(batch.inputs) <= 32
            alive.append(weakref.ref(batch.inputs))
            most = max(most, sum(ref() is not None for ref in alive))
            yield batch

    found = Measuring(features=20).activations(networks["plain"], replace(made, batches=counted))
    assert len(alive) == IMAGES * 64 / 32
    assert most <= 2
    assert {tuple(x.shape) for x in found.values()} == {(IMAGES * 64, 20), (IMAGES * 64, 10)}


def test_facts_about_samples_do_not_matter_to_their_versions(networks, data):
    known = replace(data, facts={"speaker": tuple(range(len(data)))})
    found, expected = (builder(networks["plain"], d).build("noise") for d in (known, data))
    assert torch.equal(points(found)[0], points(expected)[0])
