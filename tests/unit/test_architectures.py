"""Architectures: counts in closed form and as published, forward passes written out, sizes, stems, noise."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robustgeom.errors import UnknownNameError, UserError
from robustgeom.geometry.capture import capture
from robustgeom.models.build import build
from robustgeom.models.cnn import CNN
from robustgeom.models.noise import GaussianNoise, noise_frozen
from robustgeom.models.parts import Normalise
from robustgeom.models.resnet import PreActResNet
from robustgeom.models.wide_resnet import WideResNet

SMALL = {
    "cnn": {},
    "pooled_cnn": {"widths": [4, 6, 8]},
    "preact_resnet": {"widths": [4, 6, 8], "blocks": 2},
    "wide_resnet": {"depth": 10, "widen": 1},
}


def images(n, channels, size, seed=0):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


def settled(model, seed=0):
    """Eval mode, with weights and running statistics that are none of the neutral ones."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight.data, module.running_var):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
            for value in (module.bias.data, module.running_mean):
                value.copy_(torch.randn(value.shape, generator=generator) / 3)
    return model.eval()


def parameters(model):
    return sum(p.numel() for p in model.parameters())


# --- how many parameters -----------------------------------------------------------------------------------------


def residual_count(stem, widths, blocks, *, channels, classes, kernel=3):
    """Convolutions without bias, two numbers a channel for each batch norm, a linear read-out."""
    total = channels * stem * kernel**2 if stem else 0
    for stage, (before, after) in enumerate(pairwise((stem or channels, *widths))):
        for block in range(blocks):
            first = before if block == 0 else after
            total += 2 * first + 9 * first * after + 2 * after + 9 * after * after
            total += first * after if block == 0 and (stage > 0 or first != after) else 0
    return total + 2 * widths[-1] + widths[-1] * classes + classes


@pytest.mark.parametrize(
    ("depth", "widen", "millions"),
    [(40, 1, 0.6), (40, 2, 2.2), (40, 4, 8.9), (28, 10, 36.5), (22, 8, 17.2), (16, 8, 11.0), (16, 10, 17.1)],
)
def test_wide_resnets_are_as_large_as_published(depth, widen, millions):
    """Zagoruyko & Komodakis 2016, arXiv:1605.07146, for CIFAR-10."""
    with torch.device("meta"):
        count = parameters(WideResNet(depth=depth, widen=widen, channels=3, size=32))
    widths = [16 * widen, 32 * widen, 64 * widen]
    assert count == residual_count(16, widths, (depth - 4) // 6, channels=3, classes=10)
    assert round(count / 1e6, 1) == millions


@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("widths", [(16, 32, 64), (24, 24, 40)])
@pytest.mark.parametrize(("size", "kernel"), [(28, 3), (63, 3), (64, 7), (224, 7)])
def test_residual_networks_count(blocks, widths, size, kernel):
    with torch.device("meta"):
        model = PreActResNet(widths=widths, blocks=blocks, channels=3, size=size, classes=7)
        back = PreActResNet(widths=widths, blocks=blocks, channels=20, size=size, classes=7, stem="none")
    assert parameters(model) == residual_count(
        widths[0], widths, blocks, channels=3, classes=7, kernel=kernel
    )
    assert parameters(back) == residual_count(0, widths, blocks, channels=20, classes=7)


@pytest.mark.parametrize(
    ("size", "side", "stem"), [(28, 7, 0), (32, 8, 0), (63, 16, 0), (64, 4, 32), (224, 14, 32)]
)
def test_the_cnn_counts(size, side, stem):
    with torch.device("meta"):
        count = parameters(CNN(channels=3, size=size, classes=5))
    convolutions = 49 * 3 * stem + (25 * (stem or 3) * 32 + 32) + (25 * 32 * 64 + 64)
    assert count == convolutions + (64 * side * side * 128 + 128) + (128 * 5 + 5)


# --- what is computed --------------------------------------------------------------------------------------------


def normalised(state, key, x):
    shape = (1, -1, 1, 1)
    scale = state[f"{key}.weight"] / (state[f"{key}.running_var"] + 1e-5).sqrt()
    return (x - state[f"{key}.running_mean"].view(shape)) * scale.view(shape) + state[f"{key}.bias"].view(
        shape
    )


def by_hand(model, x, blocks, *, mean=None, deviation=None):
    """The whole network from its state dict: every operation written out, in float64."""
    mean = torch.tensor(0.286).double() if mean is None else mean
    deviation = torch.tensor(0.353).double() if deviation is None else deviation
    state = {k: v.double() for k, v in model.state_dict().items()}
    x = F.conv2d((x.double() - mean) / deviation, state["stem.0.weight"], padding=1)
    for stage in (1, 2, 3):
        for block in range(blocks):
            key = f"stage{stage}" + (f".{block}" if blocks > 1 else "")
            stride = 2 if stage > 1 and block == 0 else 1
            ready = normalised(state, f"{key}.norm1", x).clamp(min=0)
            inner = F.conv2d(ready, state[f"{key}.conv1.weight"], stride=stride, padding=1)
            inner = normalised(state, f"{key}.norm2", inner).clamp(min=0)
            if f"{key}.shortcut.weight" in state:
                x = F.conv2d(ready, state[f"{key}.shortcut.weight"], stride=stride)
            x = x + F.conv2d(inner, state[f"{key}.conv2.weight"], padding=1)
    pooled = normalised(state, "norm", x).clamp(min=0).mean((2, 3))
    return pooled @ state["logits.weight"].T + state["logits.bias"]


@pytest.mark.parametrize(
    ("name", "arguments", "blocks"),
    [
        ("preact_resnet", {}, 1),
        ("preact_resnet", {"widths": [6, 6, 10], "blocks": 3, "stem_width": 4}, 3),
        ("wide_resnet", {"depth": 10, "widen": 1}, 1),
        ("wide_resnet", {"depth": 16, "widen": 2}, 2),
    ],
)
def test_residual_networks_are_what_the_papers_define(name, arguments, blocks):
    model = settled(build(name, {"channels": 3, **arguments}))
    x = images(2, 3, 20)
    torch.testing.assert_close(model.double()(x.double()), by_hand(model, x, blocks), rtol=1e-9, atol=1e-9)


def test_the_pooled_network_written_out():
    model = settled(build("pooled_cnn", {"channels": 3, "widths": [4, 6, 8], "classes": 5})).double()
    state, x = model.state_dict(), images(2, 3, 17).double()
    y = (x - state["normalise.mean"]) / state["normalise.deviation"]
    for stage in ("conv1", "conv2", "conv3"):
        y = F.conv2d(y, state[f"{stage}.0.weight"], stride=2, padding=2)
        y = normalised(state, f"{stage}.1", y).clamp(min=0)
    expected = y.mean((2, 3)) @ state["logits.weight"].T + state["logits.bias"]
    torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)
    convolutions = 25 * (3 * 4 + 4 * 6 + 6 * 8)
    assert parameters(model) == convolutions + 2 * (4 + 6 + 8) + 8 * 5 + 5


def test_one_number_a_channel_is_the_same_as_scaling_by_hand():
    mean, deviation = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
    model = settled(PreActResNet(channels=3, mean=mean, deviation=deviation)).double()
    x = images(2, 3, 12)
    scales = [torch.tensor(v, dtype=torch.float32).double().view(3, 1, 1) for v in (mean, deviation)]
    expected = by_hand(model, x, 1, mean=scales[0], deviation=scales[1])
    torch.testing.assert_close(model(x.double()), expected, rtol=1e-9, atol=1e-9)


def test_the_stem_of_large_images_is_a_strided_convolution_and_pooling():
    model = settled(PreActResNet(channels=3, size=64)).double()
    x = images(2, 3, 64).double()
    scaled = (x - model.normalise.mean.double()) / model.normalise.deviation.double()
    expected = F.max_pool2d(F.conv2d(scaled, model.stem[0].weight, stride=2, padding=3), 3, 2, 1)
    found = []
    model.stem.register_forward_hook(lambda m, i, o: found.append(o))
    model(x)
    torch.testing.assert_close(found[0], expected)
    assert found[0].shape == (2, 16, 16, 16)


# --- sizes and channels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [28, 32, 64, 224])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_size_and_channel_count_is_served(name, size, channels):
    model = settled(build(name, {"channels": channels, "size": size, "classes": 6, **SMALL[name]}))
    x = images(2, channels, size)
    with torch.no_grad():
        assert model(x).shape == (2, 6)
        assert torch.equal(model(x), model(x))
    found = capture(model, [x], features=20)
    assert list(found) == ["input", *model.stages, "logits"]
    assert all(len(rows) == 2 and torch.isfinite(rows).all() for rows in found.values())


@pytest.mark.parametrize(
    ("size", "sides"), [(28, (28, 28, 14, 7)), (32, (32, 32, 16, 8)), (224, (56, 56, 28, 14))]
)
@pytest.mark.parametrize("name", ["preact_resnet", "wide_resnet"])
def test_stages_halve_what_the_stem_leaves(name, size, sides):
    model, found = build(name, {"size": size, **SMALL[name]}).eval(), []
    for stage in model.stages:
        getattr(model, stage).register_forward_hook(lambda m, i, o: found.append(o.shape[2]))
    with torch.no_grad():
        model(images(1, 1, size))
    assert tuple(found) == sides


def multiply_adds(model, x):
    """Count those of convolutions and linear layers in one pass for one image."""
    total = []

    def count(module, _, output):
        total.append(output[0].numel() * module.weight[0].numel())

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        model.eval()(x)
    return sum(total)


@pytest.mark.parametrize(
    ("name", "arguments", "at_28", "at_224", "size_224"),
    [
        ("cnn", {}, 12e6, 0.1e9, 2e6),
        ("pooled_cnn", {}, 12e6, 0.5e9, 0.3e6),
        ("preact_resnet", {}, 12e6, 0.1e9, 0.1e6),
        ("wide_resnet", {}, 0.9e9, 1.4e9, 3e6),
    ],
)
def test_cost_is_bounded_at_every_size(name, arguments, at_28, at_224, size_224):
    """At 224 pixels the largest stays below a ResNet-18, which takes 1.8e9 multiply-adds and 11.7e6 parameters."""
    small, large = (build(name, {"channels": 3, "size": size, **arguments}) for size in (28, 224))
    assert 0 < multiply_adds(small, images(1, 3, 28)) <= at_28
    assert 0 < multiply_adds(large, images(1, 3, 224)) <= at_224
    assert parameters(large) <= size_224


@pytest.mark.parametrize("name", SMALL)
def test_memory_order_is_channels_last_and_does_not_matter(name):
    model = settled(build(name, {"channels": 3, **SMALL[name]}))
    x = images(2, 3, 28)
    for weight in (m.weight for m in model.modules() if isinstance(m, nn.Conv2d)):
        assert weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(model(x), model(x.contiguous(memory_format=torch.channels_last)))


# --- back ends ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("channels", "size"), [(16, 14), (16, 56), (5, 64)])
def test_a_back_end_takes_feature_maps_of_any_scale(name, channels, size):
    arguments = {"channels": channels, "size": size, "stem": "none", **SMALL[name]}
    model = settled(build(name, arguments))
    assert not any(isinstance(m, Normalise) for m in model.modules())
    assert "stem" not in model.stages
    assert not any(key.startswith(("stem", "normalise")) for key in model.state_dict())
    maps = 30 * images(2, channels, size) - 10
    assert list(capture(model, [maps], features=10)) == ["input", *model.stages, "logits"]


@pytest.mark.parametrize(("name", "width"), [("preact_resnet", 4), ("wide_resnet", 16)])
def test_a_network_is_its_stem_and_the_back_end(name, width):
    whole = settled(build(name, {"channels": 3, **SMALL[name]})).double()
    back = settled(build(name, {"channels": width, "stem": "none", **SMALL[name]}), seed=1).double()
    state = {k: v for k, v in whole.state_dict().items() if not k.startswith(("stem", "normalise"))}
    back.load_state_dict(state)
    x = images(2, 3, 16).double()
    torch.testing.assert_close(back(whole.stem(whole.normalise(x))), whole(x), rtol=1e-12, atol=1e-12)


# --- noise --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [28, 64])
def test_a_stage_has_one_noise_layer_and_each_its_own_key(name, size):
    stages = build(name, {"size": size, **SMALL[name]}).stages
    model = settled(build(name, {"size": size, "rho": 0.5, "noisy": stages, **SMALL[name]}))
    layers = {n: m for n, m in model.named_modules() if isinstance(m, GaussianNoise)}
    assert [m.key for m in layers.values()] == list(stages) == [n.split(".")[0] for n in layers]
    x = images(2, 1, size)
    for layer in layers.values():
        layer.rho = 0.0
    still = model(x)
    for layer in layers.values():
        layer.rho = 0.5
        with noise_frozen(0):
            assert not torch.equal(model(x), still)
        layer.rho = 0.0


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("wide_resnet", {"depth": 18}, r"expected depth 6 n \+ 4 .*, got depth 18 and widen 4"),
        ("wide_resnet", {"depth": 4}, "got depth 4"),
        ("wide_resnet", {"widen": 0}, "got depth 16 and widen 0"),
        ("pooled_cnn", {"widths": [8]}, r"expected three widths, got \(8,\)"),
        ("preact_resnet", {"widths": [8, 8]}, r"expected three widths .*, got widths \(8, 8\) and 1 blocks"),
        ("preact_resnet", {"blocks": 0}, "and 0 blocks"),
        ("preact_resnet", {"widths": [0, 8, 8]}, r"three widths >= 1 .*, got widths \(0, 8, 8\)"),
        ("cnn", {"widths": [8]}, "known argument of cnn, got 'widths'; try one of batch_norm, channels, "),
        ("cnn", {"rho": "a"}, "expected arguments that cnn can be built with, got {'rho': 'a'}"),
        ("vone", {"front": {"stride": 0}}, "can be built with, .* which end in ZeroDivisionError"),
        ("vone", {"deviation": 0.0}, "expected deviation > 0, got 0.0"),
        ("vone", {"channels": 3, "mean": [0.1, 0.2]}, "one mean, or one for each of 3 channels"),
        ("vone", {"back_end": "smoothed"}, "known back end, got 'smoothed'; try one of cnn, pooled_cnn, "),
        ("cochlear", {"back_end": "vone"}, "known back end, got 'vone'"),
        ("preact_resnet", {"mean": [0.1, 0.2]}, r"one mean, or one for each of 1 channels, got \[0.1, 0.2\]"),
        ("cnn", {"channels": 3, "deviation": [0.1]}, "one deviation, or one for each of 3 channels"),
        ("cnn", {"deviation": 0.0}, "expected deviation > 0, got 0.0"),
        ("wide_resnet", {"channels": 2, "deviation": [0.1, -1]}, "expected deviation > 0"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(name, arguments, message):
    with pytest.raises(UserError, match=message):
        build(name, arguments)


@pytest.mark.parametrize("name", SMALL)
def test_unknown_stems_and_the_noise_of_a_stem_that_is_not_there_are_refused(name):
    with pytest.raises(UnknownNameError, match="expected the name of a known stem, got 'images'; try image"):
        build(name, {"stem": "images"})
    with pytest.raises(UnknownNameError, match="expected the name of a known stage, got 'stem'"):
        build(name, {"stem": "none", "channels": 8, "rho": 1.0, "noisy": ["stem"]})
