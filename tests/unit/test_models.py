"""Architectures, variants, and every way in which loading a model can fail."""

import hashlib
import math
import shutil
import tomllib

import pytest
import tomli_w
import torch
from torch import nn

from robustgeom import content
from robustgeom.errors import ContentError, InputError, ReferenceNotFoundError, UnknownNameError
from robustgeom.models.build import ARCHITECTURES, build
from robustgeom.models.calibrate import calibrate
from robustgeom.models.card import read_card
from robustgeom.models.load import load_model, model_digest
from robustgeom.models.noise import (
    NOISES,
    GaussianNoise,
    noise_context,
    noise_layers,
    noise_off,
    noise_ratio,
)
from robustgeom.models.parts import Normalise
from robustgeom.models.variants import variant, variant_names

NAME = "fmnist-cnn-standard"
PLAIN = ("cnn", "pooled_cnn", "preact_resnet", "wide_resnet")  # the others hold one of these
NOISELESS = ("gated_relu", "gln", "mlp", "vnn")
SEEING = sorted(set(ARCHITECTURES) - {"cochlear"})


def arguments_of(name, shape=None, noise=None):
    """Return an architecture's arguments for (channels, size, classes) and noise of ratio `noise`."""
    channels, size, classes = shape or (1, 28, 10)
    plain = {"channels": channels, "size": size, "classes": classes}
    if name == "vone":
        return plain | {"front": {"rho": noise or 0.0}}
    if name == "cochlear":
        return {"front": {"rho": noise or 0.0}}
    if name == "smoothed":
        return {"sigma": noise or 0.0, "base_arguments": plain}
    if name == "self_supervised":
        return {"base_arguments": plain, "classes": classes}
    if name in NOISELESS:
        return plain
    place = {"rho": noise, "noisy": ["conv1" if "cnn" in name else "stem"]} if noise else {}
    return plain | place


def inputs_of(name, n):
    """Return n images, or waveforms for a network that hears."""
    generator = torch.Generator().manual_seed(0)
    if name == "cochlear":
        return 0.1 * torch.randn(n, 8000, generator=generator)
    return torch.rand(n, 1, 28, 28, generator=generator)


@pytest.mark.parametrize("name", SEEING)
@pytest.mark.parametrize(("channels", "size", "classes"), [(1, 28, 10), (3, 32, 100), (3, 28, 2), (1, 8, 3)])
def test_networks_map_images_to_logits(name, channels, size, classes):
    model = build(name, arguments_of(name, (channels, size, classes))).eval()
    x = torch.rand(3, channels, size, size, generator=torch.Generator().manual_seed(0), requires_grad=True)
    logits = model(x)
    assert logits.shape == (3, classes)
    logits[:, 0].sum().backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.abs().sum() > 0
    assert set(model.stages) <= {n for n, _ in model.named_modules()}


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_rows_do_not_see_each_other(name):
    model = build(name, arguments_of(name)).eval().double()
    x = inputs_of(name, 5).double()
    torch.testing.assert_close(model(x)[2:4], model(x[2:4]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_a_state_dict_goes_round(name):
    first, second = (build(name, arguments_of(name, noise=0.5)) for _ in "ab")
    x = inputs_of(name, 4)
    first.train()(x)
    second.load_state_dict(first.state_dict())
    first.eval(), second.eval()
    assert model_digest(first) == model_digest(second)
    with noise_context(0, range(4)):
        expected = first(x)
    with noise_context(0, range(4)):
        assert torch.equal(second(x), expected)


@pytest.mark.parametrize(
    ("name", "noisy"),
    [("cnn", ["conv1", "hidden"]), ("preact_resnet", ["stem", "stage1", "stage2", "stage3"])],
)
def test_noise_sits_at_the_stages_that_are_named(name, noisy):
    model = build(name, {"rho": 0.25, "noisy": noisy})
    layers = {n.split(".")[0]: m for n, m in model.named_modules() if isinstance(m, GaussianNoise)}
    assert list(layers) == noisy
    assert all(m.key == stage and m.rho == 0.25 for stage, m in layers.items())
    assert noise_ratio(model) == 0.25
    assert noise_ratio(build(name, {"rho": 0.0, "noisy": noisy})) == 0
    for rho, said in ((0.25, "stages for the noise"), (-1.0, "rho >= 0"), (math.nan, "rho >= 0")):
        with pytest.raises(InputError, match=said):
            build(name, {"rho": rho})


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("kind", NOISES)
def test_noise_of_every_kind_can_be_on_the_input(name, kind):
    noisy, plain = build(name, {"rho": 2.0, "noise": kind, "noisy": ["input"]}).eval(), build(name, {}).eval()
    (layer,) = noise_layers(noisy)
    assert type(layer) is NOISES[kind]
    x = torch.rand(50, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    calibrate(noisy, x)
    signal = plain.normalise(x)
    noise = torch.stack([layer(signal) - signal for _ in range(20)])
    assert (noise.square().mean() / signal.var(0).mean()).item() == pytest.approx(
        2.0, rel=0.05
    ) or kind == "poisson"
    plain.load_state_dict({k: v for k, v in noisy.state_dict().items() if not k.startswith("entry_noise")})
    with noise_off():
        assert torch.equal(noisy(x[:4]), plain(x[:4]))


@pytest.mark.parametrize("name", ["cnn", "preact_resnet"])
def test_an_unknown_kind_of_noise_is_refused(name):
    with pytest.raises(UnknownNameError, match="gaussian"):
        build(name, {"rho": 1.0, "noise": "gausian", "noisy": ["input"]})


@pytest.mark.parametrize("name", PLAIN)
def test_noise_at_a_stage_that_does_not_exist_is_refused(name):
    with pytest.raises(UnknownNameError, match="expected the name of a known stage"):
        build(name, {"rho": 1.0, "noisy": ["conv9"]})


def test_normalisation_is_inside_and_exact():
    layer = Normalise(0.25, 0.5)
    assert layer(torch.tensor([0.0, 0.25, 1.0])).tolist() == [-0.5, 0.0, 1.5]


def test_unknown_architectures_and_arguments_are_refused():
    with pytest.raises(UnknownNameError, match="known architecture, got 'cnnn'; try cnn"):
        build("cnnn", {})
    with pytest.raises(
        UnknownNameError, match=r"known argument of cnn, got 'depth'; try one of batch_norm, channels, "
    ):
        build("cnn", {"depth": 3})
    with pytest.raises(InputError, match="expected rho >= 0, got -1"):
        build("cnn", {"rho": -1.0, "noisy": ["conv1"]})


# --- the zoo --------------------------------------------------------------------------------------------------


def test_zoo_models_come_in_eval_mode_with_the_weights_of_their_card():
    model = load_model(NAME)
    assert not any(m.training for m in model.modules())
    weights = (content.find("model", NAME).parent / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == read_card(NAME).weights.sha256
    assert model_digest(model) == model_digest(load_model(NAME))
    with torch.no_grad():
        model.logits.bias[0] += 1e-6
    assert model_digest(model) != model_digest(load_model(NAME))


def test_an_unknown_model_gets_the_closest_names():
    with pytest.raises(UnknownNameError, match=f"known model, got 'fmnist-cnn-standrad'; try .*{NAME}"):
        load_model("fmnist-cnn-standrad")


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A copy of one zoo model that a test may damage."""
    (tmp_path / "attacks").mkdir()
    shutil.copytree(content.find("model", NAME).parent, tmp_path / "zoo" / NAME)
    monkeypatch.setenv("ROBUSTGEOM_CONTENT", str(tmp_path))
    load_model(NAME)
    return tmp_path / "zoo" / NAME


def edit(folder, change):
    card = tomllib.loads((folder / "card.toml").read_text())
    change(card)
    (folder / "card.toml").write_text(tomli_w.dumps(card))


def fails(error, message):
    with pytest.raises(error, match=message):
        load_model(NAME)


def test_damaged_weights_are_refused(zoo):
    file = zoo / "model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    fails(
        ContentError,
        r"expected weights with sha256 .*, got .*model.safetensors; try installing the zoo again, or training it again",
    )


def test_a_wrong_sha_on_the_card_is_refused(zoo):
    edit(zoo, lambda card: card["weights"].update(sha256="0" * 64))
    fails(ContentError, "expected weights with sha256 000000000000")


def test_missing_weights_are_refused(zoo):
    (zoo / "model.safetensors").unlink()
    fails(ContentError, f"expected weights of {NAME}, got ")


@pytest.mark.parametrize("raw", [b"", b"no safetensors at all", b"\x80\x04pickle"])
def test_a_weight_file_of_another_kind_is_refused_even_with_its_sha(zoo, raw):
    (zoo / "model.safetensors").write_bytes(raw)
    edit(zoo, lambda card: card["weights"].update(sha256=hashlib.sha256(raw).hexdigest()))
    fails(ContentError, "expected weights that fit cnn, got ")


def test_weights_of_another_shape_are_refused(zoo):
    edit(zoo, lambda card: card["architecture"].update(arguments={"classes": 3}))
    fails(ContentError, r"(?s)expected weights that fit cnn, got .*size mismatch")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.update(colour="red"), "the unknown field 'colour' in .*card.toml"),
        (lambda card: card["weights"].update(url="x"), "the unknown field 'weights.url' in .*; try "),
        (lambda card: card.pop("family"), "no 'family' in"),
        (lambda card: card.update(seed="first"), "with seed: a valid integer.*, got 'first' in"),
    ],
)
def test_a_card_that_does_not_fit_is_refused_with_the_field(zoo, change, message):
    edit(zoo, change)
    fails(ContentError, f"expected a valid card.*{message}")


@pytest.mark.parametrize("raw", [b"name = ", b"\xff\xfe"])
def test_a_card_that_cannot_be_read_is_refused(zoo, raw):
    (zoo / "card.toml").write_bytes(raw)
    fails(ContentError, "expected a readable card.toml, got ")


def test_a_card_in_a_folder_of_another_name_is_refused(zoo):
    zoo.rename(zoo.parent / "renamed")
    with pytest.raises(ContentError, match=f"expected the name 'renamed' in .*, got '{NAME}'"):
        load_model("renamed")


def test_a_card_with_unknown_architecture_or_arguments_is_refused(zoo):
    edit(zoo, lambda card: card["architecture"].update(name="cnnn"))
    fails(UnknownNameError, "known architecture, got 'cnnn'; try cnn")
    edit(zoo, lambda card: card["architecture"].update(name="cnn", arguments={"depth": 2}))
    fails(UnknownNameError, "known argument of cnn, got 'depth'")


# --- models of one's own --------------------------------------------------------------------------------------

MINE = """
from torch import nn

class Net(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)

ready = Net().eval()

def build():
    return Net()

def number():
    return 3

def broken():
    raise RuntimeError("no weights today")

def needy(width):
    return nn.Linear(width, 2)
"""


@pytest.fixture
def mine(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    return file


@pytest.mark.parametrize("name", ["Net", "ready", "build"])
def test_modules_classes_and_functions_lead_to_a_model(mine, name):
    model = load_model(f"{mine}:{name}")
    assert isinstance(model, nn.Linear)
    assert model.training is (name != "ready")


def test_importable_modules_lead_to_a_model():
    assert load_model("robustgeom.models.cnn:CNN").logits.out_features == 10


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("number", InputError, "expected a torch.nn.Module from .*mine.py:number, got int"),
        ("broken", ReferenceNotFoundError, "to return a model, got RuntimeError: no weights today"),
        ("needy", ReferenceNotFoundError, "to return a model, got TypeError: .*width"),
        ("biuld", ReferenceNotFoundError, "got 'biuld'; try build"),
    ],
)
def test_what_is_not_a_model_is_refused(mine, name, error, message):
    with pytest.raises(error, match=message):
        load_model(f"{mine}:{name}")


# --- variants -------------------------------------------------------------------------------------------------


class Declared(nn.Module):
    def __init__(self):
        super().__init__()
        self.noise = GaussianNoise(3, rho=1.0, key="a")
        self.variants = {"doubled": lambda x: 2 * x}

    def forward(self, x):
        return self.noise(x)


def test_noise_off_and_frozen_share_the_weights_and_repeat():
    model, x = Declared().eval(), torch.rand(4, 3)
    assert variant_names(model) == ["doubled", "noise-frozen:SEED", "noise-off"]
    assert torch.equal(variant(model, "noise-off")(x), x)
    assert torch.equal(variant(model, "doubled")(x), 2 * x)
    frozen = variant(model, "noise-frozen:3")
    offset = frozen(x) - x
    assert torch.equal(frozen(x), frozen(x))
    assert offset.abs().min() > 0
    torch.testing.assert_close(offset, offset[:1].expand(4, 3), rtol=0, atol=1e-6)
    assert not torch.equal(variant(model, "noise-frozen:4")(x), frozen(x))
    assert not torch.equal(model(x), model(x))


def test_gradients_pass_through_a_variant():
    model, x = Declared().eval(), torch.rand(4, 3, requires_grad=True)
    variant(model, "noise-off")(x).sum().backward()
    assert torch.equal(x.grad, torch.ones(4, 3))


@pytest.mark.parametrize("name", ["noise-frozen:", "noise-frozen:x", "noise-frozen:-1", "noise-frozen"])
def test_a_frozen_variant_needs_a_seed(name):
    with pytest.raises(
        InputError, match=r"expected noise-frozen:SEED with a whole number, got .*; try noise-frozen:0"
    ):
        variant(Declared(), name)


def test_unknown_variants_are_refused():
    with pytest.raises(UnknownNameError, match="known variant of this model, got 'noise-of'; try noise-off"):
        variant(Declared(), "noise-of")
    with pytest.raises(UnknownNameError, match="none: it declares no variants"):
        variant(nn.Linear(1, 1), "noise-off")
    with pytest.raises(UnknownNameError):
        variant(GaussianNoise(1, rho=0.0, key="a"), "noise-off")
