"""Training: recipes, augmentation against slicing, objectives, and resuming bit for bit."""

from pathlib import Path

import pytest
import torch
from torch import nn

from robustgeom.data.dataset import Dataset
from robustgeom.errors import ContentError
from robustgeom.models.noise import GaussianNoise
from robustgeom.threat import ThreatModel
from robustgeom.training.augment import augment
from robustgeom.training.export import _front_end
from robustgeom.training.loop import fit as fit_with_history
from robustgeom.training.pgd_at import pgd_at
from robustgeom.training.recipe import Augmentation, read_family, read_recipe
from robustgeom.training.standard import standard
from robustgeom.training.validate import share_correct

RECIPE = """
name = "toy"
family = "toys"
seed = 3

[architecture]
name = "cnn"

[architecture.arguments]
size = 8
classes = 3

[objective]
name = "standard"

[optimiser]
epochs = 3
batch_size = 20
lr = 0.05

[augmentation]
flip = true
shift = 1
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text(RECIPE)
    return file


def toy(n=50, seed=0):
    """Three classes of 8 x 8 images that differ in which third is bright."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    images = 0.3 * torch.rand(n, 1, 8, 8, generator=g)
    for row, label in enumerate(labels.tolist()):
        images[row, 0, 3 * label : 3 * label + 2] += 0.6
    return Dataset("toy", "train", images, labels, tuple(range(n)), tuple("abc"))


def recipe(path, **sections):
    return read_recipe(path).model_copy(update=sections)


def variation(path, name):
    base = read_recipe(path)
    if name == "noisy":
        arguments = {**base.architecture.arguments, "rho": 1.0, "noisy": ["conv1", "hidden"]}
        return recipe(path, architecture=base.architecture.model_copy(update={"arguments": arguments}))
    if name == "adversarial":
        changed = {"name": "pgd_at", "eps": 0.1, "arguments": {"steps": 2}}
        return recipe(path, objective=base.objective.model_copy(update=changed))
    if name == "resnet":
        changed = {"name": "preact_resnet", "arguments": {"classes": 3, "widths": [4, 4, 4]}}
        return recipe(path, architecture=base.architecture.model_copy(update=changed))
    return base


def fit(*args, **options):
    return fit_with_history(*args, **options).model


class Cut(Exception):  # noqa: N818
    pass


def cut_after(epoch):
    def progress(done):
        if done.epoch == epoch:
            raise Cut

    return progress


def same(first, second):
    a, b = first.state_dict(), second.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", ["plain", "noisy", "adversarial", "resnet"])
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(path, tmp_path, name):
    chosen, data, held = variation(path, name), toy(), toy(9, seed=1)
    whole = fit(chosen, data, held)
    checkpoint = tmp_path / "state"
    for epoch in (1, 2):
        with pytest.raises(Cut):
            fit(chosen, data, held, checkpoint=checkpoint, progress=cut_after(epoch))
    epochs = []
    resumed = fit(chosen, data, held, checkpoint=checkpoint, progress=lambda done: epochs.append(done.epoch))
    assert epochs == [3]
    assert same(resumed, whole)
    assert not any(m.training for m in resumed.modules())
    assert [f.name for f in tmp_path.glob("state*")] == ["state"]


def test_a_checkpoint_of_another_recipe_or_a_damaged_one_is_refused(path, tmp_path):
    chosen, data, held = read_recipe(path), toy(), toy(9, seed=1)
    checkpoint = tmp_path / "state"
    with pytest.raises(Cut):
        fit(chosen, data, held, checkpoint=checkpoint, progress=cut_after(1))
    for other in (recipe(path, seed=4), variation(path, "adversarial")):
        with pytest.raises(ContentError, match="expected a checkpoint of this recipe and data"):
            fit(other, data, held, checkpoint=checkpoint)
    with pytest.raises(ContentError, match="expected a checkpoint of this recipe and data"):
        fit(chosen, toy(seed=5), held, checkpoint=checkpoint)
    for damage in (b"", b"garbage", checkpoint.read_bytes()[:-100]):
        checkpoint.write_bytes(damage)
        with pytest.raises(ContentError, match="expected an intact checkpoint"):
            fit(chosen, data, held, checkpoint=checkpoint)


def test_the_seed_decides_everything(path):
    chosen, data, held = read_recipe(path), toy(), toy(9, seed=1)
    torch.manual_seed(1)
    first = fit(chosen, data, held)
    torch.manual_seed(2)
    assert same(fit(chosen, data, held), first)
    assert not same(fit(recipe(path, seed=4), data, held), first)


def test_the_callers_random_stream_is_left_alone(path):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    fit(read_recipe(path), toy(20), toy(9, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_training_learns_and_tells_its_progress(path):
    told = []
    base = read_recipe(path)
    longer = recipe(path, optimiser=base.optimiser.model_copy(update={"epochs": 12}))
    model = fit(longer, toy(120), toy(30, seed=1), progress=told.append)
    assert [done.epoch for done in told] == list(range(1, 13))
    assert {done.epochs for done in told} == {12}
    assert told[-1].loss < 0.5 * told[0].loss
    assert told[-1].validation_accuracy == share_correct(model, toy(30, seed=1)) > 0.9
    assert all(done.seconds > 0 for done in told)


def test_share_correct_counts_every_sample_once():
    data = toy(1100)
    with torch.no_grad():
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
        expected = (model(data.inputs).argmax(1) == data.labels).double().mean().item()
    assert share_correct(model, data) == pytest.approx(expected, abs=1e-12)


# --- recipes ----------------------------------------------------------------------------------------------------


def test_a_recipe_is_read_with_its_defaults(path):
    chosen = read_recipe(path)
    assert (chosen.name, chosen.seed, chosen.data) == ("toy", 3, "fashion-mnist")
    assert chosen.objective.name == "standard"
    assert (chosen.optimiser.momentum, chosen.optimiser.weight_decay) == (0.9, 5e-4)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 3", "epochs = 0", "with optimiser.epochs: greater than 0, got 0 in .*recipe.toml; try "),
        ("epochs = 3", "epoch = 3", "got the unknown field 'optimiser.epoch' in .*; try epochs"),
        ("lr = 0.05", "lr = -1", "with optimiser.lr: greater than 0, got -1 in"),
        ("lr = 0.05", "momentum = 1.0", "with optimiser.momentum: less than 1, got 1.0 in"),
        ('name = "cnn"', 'name = "cnnn"', "unknown architecture 'cnnn'; known: cnn, .* at architecture"),
        (
            'name = "standard"',
            'name = "trade"',
            "unknown objective 'trade'; known: .*standard.* at objective",
        ),
        (
            'name = "standard"',
            'name = "standard"\neps = 0.1',
            "standard takes no eps, got eps = 0.1 at objective",
        ),
        ('name = "standard"', 'name = "pgd_at"', "pgd_at takes eps > 0, got eps = 0 at objective"),
        (
            'name = "standard"',
            'name = "pgd_at"\neps = 0.1\narguments = { step = 3 }',
            "unknown argument of pgd_at 'step'; known: steps, step_size.* at objective",
        ),
        (
            'name = "standard"',
            'name = "pgd_at"\nnorm = "l0"',
            "with objective.norm: 'linf', 'l2' or 'l1', got 'l0'",
        ),
        (
            'name = "standard"',
            'name = "fast_at"\nnorm = "l1"\neps = 1',
            "expected a threat in linf or l2, got l1",
        ),
        (
            'name = "standard"',
            'name = "trades"\neps = 0.1\narguments = { beta = -6.0 }',
            "trades cannot do with these: .*beta.* at objective",
        ),
        (
            'name = "standard"',
            'name = "pgd_at"\neps = 0.1\narguments = { steps = "ten" }',
            "pgd_at cannot do with these: .* at objective",
        ),
        ('name = "standard"', 'name = "pgd_at"\neps = inf', "with objective.eps: a finite number, got inf"),
        ("lr = 0.05", "lr = inf", "with optimiser.lr: a finite number"),
        (
            'name = "standard"',
            'name = "pgd_at"\neps = -0.1',
            "with objective.eps: greater than or equal to 0, got -0.1",
        ),
        ("shift = 1", "shift = -1", "with augmentation.shift: greater"),
        (
            "shift = 1",
            "rotate = 1",
            "got the unknown field 'augmentation.rotate' in .*; try one of flip, shift, stretch",
        ),
        ('family = "toys"', "", "got no 'family' in .*; try adding 'family'"),
        ("seed = 3", 'seed = "three"', "with seed: a valid integer, got 'three'"),
        ("lr = 0.05", 'lr = "0.05"', "with optimiser.lr: a valid number, got '0.05'"),
        ("epochs = 3", "epochs = true", "with optimiser.epochs: a valid integer, got True"),
        ('name = "standard"', 'name = "standard"\nnorm = "l2"', "standard takes no norm, got norm = 'l2'"),
        ("seed = 3", 'seed = 3\ndata = "mnist"', "unknown data set with training images 'mnist'"),
        ("[optimiser]", "[optimizer]", "got the unknown field 'optimizer' in .*; try optimiser"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused_with_the_field(path, old, new, message):
    path.write_text(RECIPE.replace(old, new, 1))
    with pytest.raises(ContentError, match=f"expected a valid recipe.*{message}"):
        read_recipe(path)


@pytest.mark.parametrize("raw", [b"name = ", b"\xff\xfe\x00"])
def test_a_recipe_that_cannot_be_read_is_refused(path, raw):
    path.write_bytes(raw)
    with pytest.raises(ContentError, match=r"expected a readable recipe.toml, got .*recipe.toml: "):
        read_recipe(path)


def test_a_missing_recipe_is_refused(tmp_path):
    with pytest.raises(ContentError, match=r"expected a readable recipe.toml"):
        read_recipe(tmp_path / "none.toml")


def test_recipes_are_values():
    with pytest.raises(ValueError, match="frozen"):
        Augmentation(shift=1).shift = 2


# --- augmentation -----------------------------------------------------------------------------------------------


def by_slicing(image, flip, dy, dx, shift):
    """Flip, pad with zeros on every side, cut out a window: one image at a time."""
    c, h, w = image.shape
    padded = torch.zeros(c, h + 2 * shift, w + 2 * shift)
    padded[:, shift : shift + h, shift : shift + w] = image.flip(2) if flip else image
    return padded[:, dy : dy + h, dx : dx + w]


@pytest.mark.parametrize("shape", [(40, 1, 8, 8), (40, 3, 6, 9)])
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("shift", [0, 1, 3])
def test_every_augmented_image_is_a_flip_and_a_shift_of_its_own(shape, flip, shift):
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    found = augment(images, Augmentation(flip=flip, shift=shift), torch.Generator().manual_seed(1))
    assert found.shape == images.shape
    used = set()
    for image, result in zip(images, found, strict=True):
        matches = [
            (f, dy, dx)
            for f in ((False, True) if flip else (False,))
            for dy in range(2 * shift + 1)
            for dx in range(2 * shift + 1)
            if torch.equal(by_slicing(image, f, dy, dx, shift), result)
        ]
        assert len(matches) == 1
        used.add(matches[0])
    assert len({f for f, _, _ in used}) == 1 + flip
    assert {dy for _, dy, _ in used} == {dx for _, _, dx in used} == set(range(2 * shift + 1))


def test_augmentation_repeats_with_its_generator_and_leaves_its_input():
    images = torch.rand(10, 1, 8, 8)
    kept, settings = images.clone(), Augmentation(flip=True, shift=2)
    first = augment(images, settings, torch.Generator().manual_seed(1))
    assert torch.equal(augment(images, settings, torch.Generator().manual_seed(1)), first)
    assert not torch.equal(augment(images, settings, torch.Generator().manual_seed(2)), first)
    assert torch.equal(images, kept)


@pytest.mark.parametrize("shift", [0, 3])
def test_waveforms_are_delayed_each_by_its_own_time(shift):
    waves = torch.rand((60, 20), generator=torch.Generator().manual_seed(0))
    found = augment(waves, Augmentation(flip=False, shift=shift), torch.Generator().manual_seed(1))
    padded = torch.nn.functional.pad(waves, (shift, shift))
    starts = [
        [s for s in range(2 * shift + 1) if torch.equal(row[s : s + 20], wave)]
        for row, wave in zip(padded, found, strict=True)
    ]
    assert all(len(places) == 1 for places in starts)
    assert {places[0] for places in starts} == set(range(2 * shift + 1))


def test_waveforms_are_played_faster_or_slower():
    time = torch.arange(8000) / 8000
    waves = torch.sin(2 * torch.pi * 500 * time).expand(200, -1)
    found = augment(waves, Augmentation(flip=False, stretch=0.2), torch.Generator().manual_seed(0))
    tones = torch.fft.rfft(found[:, 2000:6000]).abs().argmax(1) * 2
    assert 400 <= tones.min() < 410
    assert 590 < tones.max() <= 600
    assert abs(float(tones.float().mean()) - 500) < 15
    slow = found[tones.argmax()]  # played fast, it is over before the second is
    assert slow[:500].abs().max() == slow[-500:].abs().max() == 0
    settings = Augmentation(flip=False, shift=5, stretch=1e-9)
    same = augment(waves, settings, torch.Generator().manual_seed(1))
    exact = augment(waves, Augmentation(flip=False, shift=5), torch.Generator().manual_seed(1))
    torch.testing.assert_close(same, exact, rtol=0, atol=2e-3)


# --- objectives ---------------------------------------------------------------------------------------------------


class Counted(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
        )
        self.modes = []

    def forward(self, x):
        self.modes.append((self.training, len(x)))
        return self.body(x)


@pytest.fixture
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Counted().train()


def adversarial(model, data, **changes):
    settings = {"threat": ThreatModel("linf", 0.2), "steps": 4, "step_size": None} | changes
    return pgd_at(model, data.inputs, data.labels, generator=torch.Generator().manual_seed(0), **settings)


def test_standard_is_the_cross_entropy(network):
    data = toy(12)
    loss = standard(network.eval(), data.inputs, data.labels, generator=torch.Generator())
    p = network(data.inputs).softmax(1)[torch.arange(12), data.labels]
    torch.testing.assert_close(loss, -p.log().mean())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_adversarial_loss_is_above_the_standard_one_on_the_same_batch(network, norm):
    data = toy(30)
    network.eval()
    clean = standard(network, data.inputs, data.labels, generator=torch.Generator())
    worst = adversarial(network, data, threat=ThreatModel(norm, 0.2))
    assert worst > clean
    torch.testing.assert_close(adversarial(network, data, threat=ThreatModel(norm, 0)), clean)


def test_one_adversarial_step_updates_batch_statistics_once(network):
    norm, data = network.body[1], toy(30)
    before = norm.running_mean.clone()
    adversarial(network, data).backward()
    assert norm.num_batches_tracked.item() == 1
    assert not torch.equal(norm.running_mean, before)
    assert network.training
    assert norm.training
    # The attack queries in eval mode, every row at every step; the loss is one pass in train mode.
    assert network.modes == [(False, 30)] * 5 + [(True, 30)]


def test_the_adversarial_loss_reaches_the_weights_only_through_its_own_pass(network):
    data = toy(30)
    adversarial(network, data).backward()
    found = {n: p.grad.clone() for n, p in network.named_parameters()}
    assert all(torch.isfinite(g).all() for g in found.values())
    assert sum(g.abs().sum() for g in found.values()) > 0


def test_adversarial_training_repeats_and_keeps_an_eval_model_in_eval(network):
    data = toy(30)
    network.eval()
    assert torch.equal(adversarial(network, data), adversarial(network, data))
    assert not network.training
    assert network.body[1].num_batches_tracked.item() == 0


def test_other_noise_in_the_front_end_is_another_front_end_on_the_card():
    """Else a sweep over rho would average Poisson-like noise with Gaussian."""
    members = read_family(Path(__file__).parents[2] / "zoo/family.toml")
    named = {recipe.name: _front_end(recipe) for recipe in members}
    assert named["fmnist-vone-gaussian-3"] == named["fmnist-vone-off"] == "vone"
    assert named["fmnist-vone-poisson-3"] == "vone-poisson"
    assert named["fmnist-resnet-gaussian-3"] == "none"


def test_noise_layers_are_reseeded_every_epoch(path):
    chosen, data, held = variation(path, "noisy"), toy(20), toy(9, seed=1)
    model = fit(chosen, data, held)
    layers = [m for m in model.modules() if isinstance(m, GaussianNoise)]
    assert len(layers) == 2
    assert all(bool(m.started) and (m.variance != 1).all() for m in layers)
    again = [m for m in fit(chosen, data, held).modules() if isinstance(m, GaussianNoise)]
    for a, b in zip(layers, again, strict=True):
        x = torch.zeros(3, len(a.variance))
        assert torch.equal(a(x), b(x))
