"""Models of torchvision, timm and the hub: the packages' own networks and transforms are the yardstick."""

import os
import re
from functools import partial

import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model, get_model_weights

from robustgeom import evaluate
from robustgeom.cli.evaluate import folder_names
from robustgeom.cli.peers import PEERS
from robustgeom.data.dataset import Dataset
from robustgeom.errors import ContentError, InputError, ReferenceNotFoundError, UnknownNameError, closest
from robustgeom.harness.door import at_the_door
from robustgeom.harness.options import RunOptions
from robustgeom.harness.spec import AttackSpec, Suite
from robustgeom.harness.subject import subject
from robustgeom.models.load import load_model, model_digest
from robustgeom.models.pretrained import Pretrained
from robustgeom.models.torchvision_models import _renamed
from robustgeom.models.weights import read_state

SMALL = ("shufflenet_v2_x0_5", "squeezenet1_1", "mobilenet_v3_small")


TIMM = ("test_vit", "tinynet_e")


SUITE = Suite(
    name="one-step",
    version=1,
    description="One attack of one step.",
    norm="linf",
    attacks=[AttackSpec(name="fgsm", attack="fgsm")],
)


def drawn(make, seed=0):
    """Return what `make` builds with weights of a seed, and statistics as after training, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = make().eval()
        for part in net.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.uniform_(-0.1, 0.1)
                part.running_var.uniform_(0.5, 1.5)
    return net


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Real architectures with random weights, saved as their packages' users save them."""
    folder = tmp_path_factory.mktemp("weights")
    for name in SMALL:
        torch.save(drawn(partial(get_model, name, weights=None)).state_dict(), folder / f"{name}.pth")
    return folder


@pytest.fixture(scope="module")
def timm_files(tmp_path_factory):
    timm = pytest.importorskip("timm")
    folder = tmp_path_factory.mktemp("timm")
    for name in TIMM:
        save_file(drawn(partial(timm.create_model, name)).state_dict(), folder / f"{name}.safetensors")
    return folder


def images(*shape, seed=1):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", SMALL)
def test_torchvision_logits_are_those_behind_torchvisions_transforms(name, checkpoints):
    weights = get_model_weights(name).DEFAULT
    net = get_model(name, weights=None).eval()
    net.load_state_dict(torch.load(checkpoints / f"{name}.pth", weights_only=True))
    picture = Image.fromarray((255 * images(300, 280, 3)).byte().numpy())
    model = load_model(f"torchvision:{name}@{checkpoints / f'{name}.pth'}")
    size = weights.transforms.keywords["crop_size"]
    resized = torchvision.transforms.Compose(
        [
            torchvision.transforms.Resize(256, antialias=True),
            torchvision.transforms.CenterCrop(size),
            torchvision.transforms.ToTensor(),
        ]
    )
    with torch.no_grad():
        expected = net(weights.transforms()(picture)[None])
        found = model(resized(picture)[None])
    assert model.input_shape == (3, size, size)
    assert model.classes == tuple(weights.meta["categories"])
    assert not any(part.training for part in model.modules())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TIMM)
def test_timm_logits_are_those_behind_timms_transforms(name, timm_files):
    timm = pytest.importorskip("timm")
    net = timm.create_model(name, checkpoint_path=str(timm_files / f"{name}.safetensors")).eval()
    config = timm.data.resolve_model_data_config(net)
    transform = timm.data.create_transform(**config, is_training=False)
    picture = Image.fromarray((255 * images(*config["input_size"][:0:-1], 3)).byte().numpy())
    model = load_model(f"timm:{name}@{timm_files / f'{name}.safetensors'}")
    unscaled = torchvision.transforms.Compose(transform.transforms[:-1])
    with torch.no_grad():
        expected, found = net(transform(picture)[None]), model(unscaled(picture)[None])
    assert model.input_shape == config["input_size"]
    assert not any(part.training for part in model.modules())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_loading_leaves_the_callers_random_stream_alone(checkpoints):
    before = torch.get_rng_state()
    load_model(f"torchvision:squeezenet1_1@{checkpoints / 'squeezenet1_1.pth'}")
    assert torch.equal(before, torch.get_rng_state())


def test_an_evaluation_accepts_such_a_model_and_its_record_names_it(checkpoints):
    reference = f"torchvision:shufflenet_v2_x0_5@{checkpoints / 'shufflenet_v2_x0_5.pth'}"
    model = load_model(reference)
    x = images(4, 3, 64, 64)
    with torch.no_grad():
        y = model(x).argmax(1)
    options = RunOptions(n=4, eps="1/255", analyze=False, budget="200passes")
    record = evaluate(reference, (x, y), SUITE, options=options)
    assert record.accuracy.value == 1
    assert record.header.model.name == "torchvision.shufflenet_v2_x0_5@shufflenet_v2_x0_5.pth"
    assert record.header.model.reference == "torchvision:shufflenet_v2_x0_5@shufflenet_v2_x0_5.pth"
    assert record.header.model.digest == model_digest(model)
    assert record.header.model.stages[0] == "net.conv1"
    assert record.header.data.classes[0] == "tench"
    door = {check.name: check.status for check in record.checks}
    assert (door["batch independence"], door["repeatable"], door["gradients"]) == ("pass", "pass", "pass")
    assert door["input size"] == "warn"


def toy(classes=("cat", "dog"), side=8):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, len(classes)))
    half = [0.5] * 3
    return Pretrained(net, mean=half, deviation=half, input_shape=(3, side, side), classes=classes).eval()


def named(classes, *shape):
    labels = torch.arange(shape[0]) % len(classes)
    return Dataset("toy", "test", images(*shape), labels, tuple(range(shape[0])), tuple(classes))


def test_another_size_is_a_warning_where_the_network_takes_it():
    data = named(["cat", "dog"], 4, 3, 6, 6)
    check = next(c for c in at_the_door(*subject(toy(), data)) if c.name == "input size")
    assert check.status == "warn"
    assert not [c for c in at_the_door(*subject(toy(side=6), data)) if c.name == "input size"]
    assert check.message == "inputs are 3 x 6 x 6, the weights were made for 3 x 8 x 8"


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((4, 1, 8, 8), r"expected images \(3, 8, 8\), got \(1, 8, 8\); try images of 3 channels"),
        ((4, 3, 2, 2), r"expected images \(3, 8, 8\), got \(3, 2, 2\); try resizing the data"),
        ((4, 64), r"expected images \(3, 8, 8\), got \(64,\)"),
    ],
)
def test_images_that_the_network_cannot_take_are_refused(shape, said):
    with pytest.raises(InputError, match=said):
        subject(toy(), named(["cat", "dog"], *shape))


def test_classes_get_the_models_names_and_another_order_is_refused():
    counted = named("01", 4, 3, 8, 8)
    assert subject(toy(), counted)[1].classes == ("cat", "dog")
    with pytest.raises(InputError, match="with 'cat' as class 0, got 'dog'; try labels in that order"):
        subject(toy(), named(["dog", "cat"], 4, 3, 8, 8))
    assert subject(toy(), named(["hound", "cat"], 4, 3, 8, 8))[1].classes == ("hound", "cat")
    with pytest.raises(InputError, match="3 logits, one a class, got 2"):
        subject(toy(), named("abc", 4, 3, 8, 8))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("features.0.weight"), "got no features.0.weight in w.pth"),
        (
            lambda s: s.update({"classifier.1.weight": s["classifier.1.weight"][:10]}),
            r"got classifier.1.weight of shape \(10, 512, 1, 1\), not \(1000, 512, 1, 1\) in w.pth",
        ),
        (lambda s: s.update(more=torch.zeros(1)), "got more, which it does not have, in w.pth"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_the_first_mismatch(change, said, checkpoints, tmp_path):
    state = torch.load(checkpoints / "squeezenet1_1.pth", weights_only=True)
    change(state)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ContentError, match=f"expected weights that fit SqueezeNet, {said}"):
        load_model(f"torchvision:squeezenet1_1@{tmp_path / 'w.pth'}")


def test_old_names_of_densenets_are_brought_up_to_date():
    with torch.device("meta"):
        new = list(get_model("densenet121", weights=None).state_dict())
    # As in the files that torchvision offers: norm.1 for norm1, and so on, inside the dense layers alone.
    old = [re.sub("(?<=[0-9][.])(norm|conv)([12])", r"\1.\2", n) if "denselayer" in n else n for n in new]
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    assert list(_renamed(dict.fromkeys(old))) == new


def test_heads_for_training_are_dropped_and_inputs_rescaled_as_torchvision_does(tmp_path):
    net = drawn(partial(get_model, "googlenet", weights=None, init_weights=False))
    net.transform_input = True  # what torchvision sets where it loads its own weights
    torch.save(net.state_dict(), tmp_path / "g.pth")
    model = load_model(f"torchvision:googlenet@{tmp_path / 'g.pth'}")
    x = images(1, 3, 64, 64)
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    with torch.no_grad():
        expected = net(torchvision.transforms.functional.normalize(x, mean, deviation))
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    assert not any("aux" in name for name in model.state_dict())


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("torchvision:shufflenet_v2_05", "try shufflenet_v2_x0_5"),
        ("torchvision:resnet18@IMAGENET1K_V2", "set of weights of resnet18, or a file, .* try IMAGENET1K_V1"),
        ("torchvision:vgg16@IMAGENET1K_FEATURES", "try IMAGENET1K_V1"),
        ("timm:resnt18.a1_in1k", "try resnet18.a1_in1k"),
    ],
)
def test_unknown_names_are_answered_with_the_closest(reference, said):
    pytest.importorskip("timm")
    with pytest.raises(UnknownNameError, match=said):
        load_model(reference)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("torchvision:", "expected torchvision:NAME or torchvision:NAME@FILE"),
        ("timm:tinynet_e@", "expected timm:NAME or timm:NAME@FILE"),
        ("timm:convnext_base.clip_laion2b", "expected a classifier"),
        ("hf:resnet18", "expected hf:OWNER/NAME"),
    ],
)
def test_references_that_name_no_classifier_are_refused(reference, said):
    pytest.importorskip("timm")
    with pytest.raises(InputError, match=said):
        load_model(reference)


def test_missing_files_packages_and_weights_say_what_to_do(monkeypatch):
    with pytest.raises(ContentError, match=r"expected a weight file, got no file no\.pth"):
        load_model("torchvision:resnet18@no.pth")
    pytest.importorskip("timm")
    with pytest.raises(ContentError, match="for which timm has none; try a local file: timm:lcnet_035@FILE"):
        load_model("timm:lcnet_035")
    monkeypatch.setitem(os.sys.modules, "timm", None)
    with pytest.raises(
        ReferenceNotFoundError, match=r"the package timm, .* pip install 'robustgeom\[timm\]'"
    ):
        load_model("timm:resnet18")


def test_timms_conversion_serves_other_layouts_but_never_leaves_random_weights(timm_files, tmp_path):
    state = read_state(timm_files / "test_vit.safetensors")
    torch.save(state | {"decoder.x": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(ContentError, match=r"got decoder\.x, which it does not have"):
        load_model(f"timm:test_vit@{tmp_path / 'more.pth'}")
    # timm itself loads dla without asking for every key.
    torch.save({"base_layer.0.weight": torch.zeros(16, 3, 7, 7)}, tmp_path / "part.pth")
    with pytest.raises(ContentError, match=r"got no base_layer\.1\.weight in part\.pth"):
        load_model(f"timm:dla46_c@{tmp_path / 'part.pth'}")
    flat = state["patch_embed.proj.weight"].flatten(1)  # as of when patches were embedded by a linear layer
    torch.save(state | {"patch_embed.proj.weight": flat}, tmp_path / "old.pth")
    model = load_model(f"timm:test_vit@{tmp_path / 'old.pth'}")
    assert all(torch.equal(value, state[name]) for name, value in model.net.state_dict().items())
    assert "state_dict" not in model.net.pretrained_cfg


def test_folders_of_runs_are_one_name_each():
    models = [
        "torchvision:resnet18",
        "timm:resnet18.a1_in1k@/a/b.pth",
        "hf:timm/resnet18.a1_in1k",
        "/elsewhere/zoo/mine",
        "defenses/mine.py:build",
        "robustbench:Wong2020Fast@cifar10/Linf",
    ]
    assert folder_names(models) == [
        "torchvision.resnet18",
        "timm.resnet18.a1_in1k-b.pth",
        "hf.timm-resnet18.a1_in1k",
        "mine-4",
        "mine-5",
        "robustbench.Wong2020Fast-cifar10-Linf",
    ]


def test_long_lists_of_names_are_cut():
    assert closest("x", [f"{i:03}" for i in range(100)]).endswith("038, 039 and 60 more")


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_doctor_counts_what_is_there(name):
    pytest.importorskip(name)
    assert ", works, " in dict(PEERS)[name]()
