"""The copy that runs: same logits, same gradients but for the last bits, and nothing of the caller's is touched."""

import pytest
import torch
from torch import nn

from robustgeom.harness.engine import engine
from robustgeom.harness.evaluate import evaluate
from robustgeom.harness.options import RunOptions
from robustgeom.harness.thin_conv import ThinConv2d, thinned
from robustgeom.models.load import load_model

SHAPES = [
    (1, 8, 5, 2, 2, 1, 28),
    (3, 4, 3, 1, 0, 1, 9),
    (2, 6, (3, 2), (2, 1), (1, 0), 2, 12),
    (1, 3, 4, 3, 0, 1, 11),
]


@pytest.mark.parametrize(("c_in", "c_out", "kernel", "stride", "padding", "dilation", "size"), SHAPES)
def test_a_thin_convolution_has_the_same_logits_and_the_gradient_of_autograd(
    c_in, c_out, kernel, stride, padding, dilation, size
):
    plain = nn.Conv2d(c_in, c_out, kernel, stride, padding, dilation).double().requires_grad_(False)
    thin = nn.Conv2d(c_in, c_out, kernel, stride, padding, dilation).double().requires_grad_(False)
    thin.load_state_dict(plain.state_dict())
    assert thinned(thin) == 1
    assert isinstance(thin, ThinConv2d)
    x = torch.rand(5, c_in, size, size + 3, dtype=torch.float64)
    slopes, results = [], []
    for conv in (plain, thin):
        leaf = x.clone().requires_grad_(True)
        out = conv(leaf)
        results.append(out.detach())
        slopes.append(torch.autograd.grad((out**3).sum(), leaf)[0])
    assert torch.equal(*results)
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-12, atol=1e-12)
    assert torch.equal(thin(x), plain(x))


def test_a_thin_convolution_can_be_differentiated_twice():
    conv = nn.Conv2d(1, 2, 3).double().requires_grad_(False)
    thinned(conv)
    x = torch.rand(2, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(conv, x)
    assert torch.autograd.gradgradcheck(lambda v: conv(v) ** 2, x)


def test_only_frozen_plain_convolutions_of_few_channels_are_thinned():
    kept = nn.Sequential(
        nn.Conv2d(1, 2, 3),  # wants a gradient
        nn.Conv2d(8, 2, 3).requires_grad_(False),
        nn.Conv2d(2, 2, 3, groups=2).requires_grad_(False),
        nn.Conv2d(1, 2, 3, padding_mode="reflect", padding=1).requires_grad_(False),
        nn.Conv2d(1, 2, 3, padding="same").requires_grad_(False),
    )
    assert thinned(kept) == 0


@pytest.mark.parametrize("name", ["fmnist-cnn-standard", "fmnist-resnet-standard"])
def test_the_engine_answers_like_the_network_and_leaves_it_alone(name):
    model = load_model(name)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    flags = [p.requires_grad for p in model.parameters()]
    strides = [p.stride() for p in model.parameters()]
    x = torch.rand(32, 1, 28, 28)
    stream = torch.get_rng_state()
    runs, _ = engine(model, x)
    assert runs is not model
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == flags
    assert [p.stride() for p in model.parameters()] == strides
    assert not any(p.requires_grad for p in runs.parameters())
    with torch.no_grad():
        torch.testing.assert_close(runs(x), model(x), rtol=1e-4, atol=1e-4)


class Viewed(nn.Module):
    """Reshapes in a way that only one memory format allows."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 2, 5), nn.Linear(2 * 24 * 24, 10)

    def forward(self, x):
        h = self.conv(x).relu()
        return self.head(h.view(h.size(0), -1))


def test_the_form_follows_from_the_network_alone():
    sample = torch.rand(1, 1, 28, 28)
    assert engine(load_model("fmnist-cnn-standard"), sample)[1] == "thin convolutions, channels last"
    assert engine(Viewed().eval(), sample)[1] == "thin convolutions"
    dense = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()
    assert engine(dense, sample)[1] == "as given"


class Uncopied(nn.Module):
    """Holds what cannot be copied."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        self.stream = (i for i in range(3))

    def forward(self, x):
        return self.inner(x)


def test_a_network_that_cannot_be_copied_runs_itself():
    model = Uncopied().eval()
    assert engine(model, torch.rand(1, 1, 28, 28))[0] is model
    record = evaluate(model, options=RunOptions(n=16, eps="8/255", analyze=False))
    assert record.header.status == "complete"
    assert all(p.grad is None for p in model.parameters())
    assert record.header.plan["engine"] == "as given"


def test_a_search_in_bf16_is_confirmed_in_float32():
    options = {"n": 64, "eps": 0.06, "analyze": False}
    full, half = (
        evaluate("fmnist-cnn-standard", options=RunOptions(**options, precision=p))
        for p in ("float32", "bf16")
    )
    assert half.header.resolved["precision"] == "bf16"
    model = load_model("fmnist-cnn-standard")
    examples = torch.from_numpy(half.arrays["examples.adversarial"])
    with torch.no_grad():
        found = model(examples).argmax(1)
    assert (found == torch.from_numpy(half.arrays["examples.predictions"])).all()
    assert abs(full.robust_accuracy.value - half.robust_accuracy.value) <= 0.03


def test_a_row_that_is_wrong_in_bf16_only_is_not_lost():
    """A search whose logits lie about every row: nothing leaves early, and nothing is fooled that is not."""
    from robustgeom.attacks.pgd import pgd
    from robustgeom.harness.target import Target
    from robustgeom.threat import ThreatModel

    weight = torch.tensor([[1.0] * 4, [-1.0] * 4])

    def honest(x):
        return x @ weight.T

    exact = Target(honest, range(6), "none", 0)
    liar = Target(lambda x: honest(x).flip(1), range(6), "none", 0, exact=exact)
    x, y = torch.full((6, 4), 0.5), torch.zeros(6, dtype=torch.int64)
    found = pgd(liar, x, y, threat=ThreatModel("linf", 0.1), steps=5)
    assert liar.backward_calls.tolist() == [5] * 6
    assert (honest(found).argmax(1) == y).all()


class Gated(nn.Module):
    """Its hook closes over the module itself: a copy's hook writes to the original, not to the copy."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features, self.head = nn.Conv2d(1, 4, 5), nn.Linear(4 * 24 * 24, 10)
        self.gate = torch.ones(1, 4, 1, 1)
        self.features.register_forward_hook(lambda _m, _i, out: self.set(out))

    def set(self, out):
        self.gate = out.mean((2, 3), keepdim=True).sigmoid() > 0.5

    def forward(self, x):
        return self.head((self.features(x) * self.gate).flatten(1))


@pytest.mark.parametrize("gate", [None, torch.zeros(1, 4, 1, 1)], ids=["none", "stale"])
def test_a_network_whose_copy_answers_otherwise_runs_itself(gate):
    with torch.random.fork_rng(devices=[]):
        model = Gated().eval()
    model.gate = gate
    assert engine(model, torch.rand(1, 1, 28, 28))[0] is model


def test_a_hook_that_keeps_activations_is_no_error():
    class Keeping(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(1, 2, 5), nn.Flatten(), nn.Linear(2 * 24 * 24, 10))
            self.net[0].register_forward_hook(lambda _m, _i, out: setattr(self, "kept", out))

        def forward(self, x):
            return self.net(x)

    model = Keeping().eval()
    assert engine(model, torch.rand(1, 1, 28, 28))[1]
    record = evaluate(model, options=RunOptions(n=16, eps="8/255", analyze=False))
    assert record.header.status == "complete"


def test_the_gradient_is_that_of_the_weight_that_went_forward():
    conv = nn.Conv2d(1, 2, 3).double().requires_grad_(False)
    thinned(conv)
    x = torch.rand(2, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    first = conv(x).sum()
    expected = torch.autograd.grad(nn.functional.conv2d(x, conv.weight, conv.bias).sum(), x)[0]
    conv.weight = nn.Parameter(torch.zeros_like(conv.weight), requires_grad=False)
    torch.testing.assert_close(torch.autograd.grad(first, x)[0], expected)


def test_bf16_asks_nothing_of_no_rows():
    record = evaluate(Viewed().eval(), options=RunOptions(n=16, eps="1/255", precision="bf16", analyze=False))
    assert record.header.status == "complete"
