"""Noise layers: where draws come from, how large they are, and that no network can train its way out of them."""

import copy

import pytest
import torch
from torch import nn

from robustgeom.data.load import load_dataset
from robustgeom.errors import InputError
from robustgeom.models.calibrate import calibrate
from robustgeom.models.card import read_card
from robustgeom.models.load import load_model
from robustgeom.models.noise import (
    NOISES,
    FixedNoise,
    GaussianNoise,
    has_noise,
    noise_context,
    noise_frozen,
    noise_off,
    noise_ratio,
    reseed_noise,
)


def layer(channels=3, rho=1.0, key="a", **settings):
    return GaussianNoise(channels, rho=rho, key=key, **settings).eval()


def offsets(module, x):
    return module(x) - x


def zeros(*shape):
    """Inputs on which the output is the noise itself, without rounding."""
    return torch.zeros(*shape)


# --- where draws come from -------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_every_forward_pass_draws_afresh_in_training_and_in_inference(training):
    module, x = layer().train(training), torch.rand(4, 3)
    first, second = offsets(module, x), offsets(module, x)
    assert first.abs().min() > 0
    assert (first != second).all()
    assert len(first.unique()) == first.numel()


def test_reseeding_repeats_and_other_seeds_differ():
    module, x = layer(seed=5), zeros(4, 3)
    first = [module(x), module(x)]
    module.reseed(5)
    assert torch.equal(module(x), first[0])
    assert torch.equal(module(x), first[1])
    module.reseed(6)
    assert not torch.equal(module(x), first[0])
    assert torch.equal(layer(seed=5)(x), first[0])
    assert not torch.equal(layer(seed=5, key="b")(x), first[0])


def test_the_global_random_stream_is_neither_read_nor_moved():
    module, x = layer(), zeros(4, 3)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = module(x)
    with noise_context(0, range(4)):
        module(x)
    with noise_frozen(0):
        module(x)
    assert torch.equal(torch.get_rng_state(), before)
    module.reseed(0)
    torch.manual_seed(1)
    assert torch.equal(module(x), first)


def test_keyed_noise_of_a_row_is_the_same_in_any_batch_and_order():
    module, x = layer(), torch.rand(6, 3, 4, 4)
    ids = [11, 3, 7, 0, 99, 5]
    with noise_context(2, ids, draw=4):
        whole = module(x)
    for rows in ([0], [5, 1], [3, 4, 0, 2], [5, 4, 3, 2, 1, 0]):
        with noise_context(2, [ids[r] for r in rows], draw=4):
            assert torch.equal(module(x[rows]), whole[rows])


def test_keyed_noise_repeats_between_contexts_and_is_new_where_a_pass_meets_a_layer_again():
    module, x = layer(), zeros(2, 3)
    passes = []
    for draw in (0, [0, 0]):
        with noise_context(0, [1, 2], draw=draw):
            passes.append([module(x), module(x), module(x)])
    for first, second in zip(*passes, strict=True):
        assert torch.equal(first, second)
    one, two, three = passes[0]
    assert not torch.equal(one, two)
    assert not torch.equal(two, three)


def test_a_network_that_averages_its_own_draws_is_as_quiet_in_the_harness_as_in_use():
    class Averaging(nn.Module):
        def __init__(self):
            super().__init__()
            self.noise = FixedNoise(1.0, key="a")

        def forward(self, x):
            return torch.stack([self.noise(x) for _ in range(64)]).mean(0)

    model, x = Averaging(), zeros(500, 3)
    with noise_context(0, range(500)):
        keyed = model(x)
    assert float(keyed.std()) == pytest.approx(1 / 8, rel=0.1)
    assert float(model(x).std()) == pytest.approx(1 / 8, rel=0.1)


def test_keyed_noise_differs_by_seed_id_draw_and_layer():
    x = zeros(1, 50)

    def noise(seed=0, ids=(4,), draw=0, key="a"):
        with noise_context(seed, ids, draw):
            return layer(50, key=key)(x)

    base = noise()
    others = [noise(seed=1), noise(ids=(5,)), noise(draw=1), noise(draw=[2]), noise(key="b")]
    for i, other in enumerate(others):
        assert (other != base).all()
        assert all((other != another).all() for another in others[:i])


def test_rows_may_carry_draws_of_their_own():
    module, x = layer(), zeros(3, 3)
    with noise_context(0, [8, 8, 8], draw=[0, 1, 0]):
        rows = module(x)
    assert torch.equal(rows[0], rows[2])
    assert (rows[0] != rows[1]).all()
    with noise_context(0, [8], draw=1):
        assert torch.equal(module(x[:1]), rows[1:2])


@pytest.mark.parametrize(("ids", "draws"), [([1, 2], 0), ([1, 2, 3, 4], 0), ([1, 2, 3], [0, 1])])
def test_ids_and_draws_that_do_not_fit_the_batch_are_refused(ids, draws):
    with pytest.raises(InputError, match=r"expected .*, got .*; try "), noise_context(0, ids, draws):
        layer()(zeros(3, 3))


def test_frozen_noise_is_one_draw_for_all_rows_and_passes():
    module, x = layer(), zeros(4, 3)
    with noise_frozen(7):
        first, second = module(x), module(x[:2])
    assert torch.equal(first, first[:1].expand(4, 3))
    assert torch.equal(second, first[:2])
    assert first.abs().min() > 0
    with noise_frozen(8):
        assert (module(x) != first).all()


def test_noise_off_is_the_identity_and_contexts_nest_and_end():
    module, x = layer(), torch.rand(4, 3)
    with noise_frozen(7):
        with noise_off():
            assert torch.equal(module(x), x)
        assert not torch.equal(module(x), x)
    with pytest.raises(RuntimeError, match="stop"), noise_off():
        raise RuntimeError("stop")
    assert not torch.equal(module(x), module(x))


def test_a_copy_draws_on_its_own_and_keeps_everything():
    module, x = layer(rho=0.3, shared=True), zeros(4, 3)
    module.train()(torch.rand(50, 3))
    module.eval()
    twin = copy.deepcopy(module)
    assert torch.equal(twin.variance, module.variance)
    expected = module(x)
    assert torch.equal(twin(x), expected)
    twin(x)
    assert not torch.equal(module(x), twin(x))
    assert (twin.rho, twin.key, twin.shared) == (0.3, "a", True)


# --- how large they are ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("keyed", [True, False])
def test_noise_has_mean_zero_and_variance_rho_times_the_tracked_one(rho, keyed):
    module = layer(3, rho=rho)
    module.variance.copy_(torch.tensor([0.25, 1.0, 9.0]))
    x, n = zeros(2000, 3, 5, 5), 2000 * 25
    with noise_context(0, range(2000)) if keyed else noise_context_free():
        noise = module(x).double().transpose(0, 1).reshape(3, -1)
    expected = rho * module.variance.double()
    # Five standard errors of a Gaussian's mean and variance.
    assert (noise.mean(1).abs() < 5 * (expected / n).sqrt()).all()
    assert ((noise.var(1) / expected - 1).abs() < 5 * (2 / n) ** 0.5).all()
    kurtosis = (noise**4).mean(1) / (noise**2).mean(1) ** 2
    assert ((kurtosis - 3).abs() < 5 * (96 / n) ** 0.5).all()
    correlation = torch.corrcoef(noise).fill_diagonal_(0).abs().max()
    assert correlation < 5 / n**0.5


class noise_context_free:  # noqa: N801
    """No context: the module's own generator."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_the_tracked_variance_is_over_images_not_over_units():
    module = GaussianNoise(2, rho=1.0, key="a").train()
    g = torch.Generator().manual_seed(0)
    pattern = 100 * torch.randn(1, 2, 8, 8, generator=g)
    x = pattern + torch.tensor([0.5, 2.0]).view(1, 2, 1, 1) * torch.randn(4000, 2, 8, 8, generator=g)
    module(x)
    torch.testing.assert_close(module.variance, torch.tensor([0.25, 4.0]), rtol=0.02, atol=0)
    torch.testing.assert_close(module.variance, x.var(0).mean((1, 2)), rtol=1e-4, atol=0)


def test_one_sigma_serves_all_channels_where_it_is_shared():
    module = GaussianNoise(2, rho=1.0, key="a", shared=True).train()
    x = torch.tensor([1.0, 3.0]) * torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
    module(x)
    assert module.variance[0] == module.variance[1]
    assert module.variance[0].item() == pytest.approx(5.0, rel=0.05)


def test_tracking_follows_in_training_only_and_starts_at_the_first_batch():
    module = GaussianNoise(1, rho=1.0, key="a")
    g = torch.Generator().manual_seed(0)
    first, second = 3 * torch.randn(5000, 1, generator=g), torch.randn(5000, 1, generator=g)
    module.eval()(first)
    assert module.variance.item() == 1.0
    module.train()(first)
    assert module.variance.item() == pytest.approx(first.var().item(), rel=1e-5)
    module(second)
    expected = 0.95 * first.var().item() + 0.05 * second.var().item()
    assert module.variance.item() == pytest.approx(expected, rel=1e-5)
    module(second[:1])  # one image has no variance
    assert module.variance.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("rho", [-1.0, float("nan")])
def test_impossible_ratios_are_refused(rho):
    with pytest.raises(InputError, match=r"expected rho >= 0, got .*; try rho=1.0"):
        GaussianNoise(1, rho=rho, key="a")


def test_the_ratio_of_a_model_is_its_largest():
    assert noise_ratio(nn.Sequential(layer(rho=0.5), nn.ReLU(), layer(rho=2.0))) == 2.0
    assert noise_ratio(nn.Linear(1, 1)) == 0.0


# --- gradients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_gradients_pass_and_none_flows_through_sigma(training):
    module = layer(3, rho=4.0).train(training)
    x = torch.rand(8, 3, 2, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weight = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    (module(x) * weight).sum().backward()
    assert torch.equal(x.grad, weight)  # exactly the identity: sigma is a constant
    assert not module.variance.requires_grad
    assert list(module.parameters()) == []


# --- a trained network cannot escape ---------------------------------------------------------------------------


def train_noisy(rho, steps=300):
    """A convolution, noise and a read-out on 700 images: cross-entropy rewards activations that drown the noise."""
    data = load_dataset("fashion-mnist", split="eval")
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    train, held = data.take(order[:700]), data.take(order[700:])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 8, 5, stride=3),
            GaussianNoise(8, rho=rho, key="a"),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, 10),
        )
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    g = torch.Generator().manual_seed(1)
    for step in range(steps):
        # The rate falls to zero, as in our recipes: while weights grow fast, the tracked variance is behind.
        optimiser.param_groups[0]["lr"] = 0.05 * (1 - step / steps)
        rows = torch.randint(700, (128,), generator=g)
        loss = nn.functional.cross_entropy(net(train.inputs[rows]), train.labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net, train, held


def ratios(net, data):
    """Variance over images, mean over units, of each channel: over sigma^2, and as it is."""
    with torch.no_grad():
        variance = net[0](data.inputs).var(0).flatten(1).mean(1)
    return variance / (net[1].rho * net[1].variance), variance


@pytest.mark.parametrize("rho", [0.25, 4.0])
def test_training_cannot_change_the_signal_to_noise_ratio(rho):
    net, train, held = train_noisy(rho)
    start = GaussianNoise(8, rho=rho, key="a").variance
    found, variance = ratios(net, held)
    assert (variance > 1e-4).all()  # every channel is live
    assert (net[1].variance / start - 1).abs().max() > 0.1  # and training did move the scale
    # 20 %: the 300 held-out images vary more or less than the 700 tracked ones, which agree within 6 %.
    torch.testing.assert_close(found, torch.full((8,), 1 / rho), rtol=0.2, atol=0)
    torch.testing.assert_close(ratios(net, train)[0], torch.full((8,), 1 / rho), rtol=0.06, atol=0)

    sigma = net[1].variance.sqrt()
    with torch.no_grad():
        net[0].weight *= 10
        net[0].bias *= 10
        escaped, _ = ratios(net, held)
        torch.testing.assert_close(escaped, 100 * found, rtol=1e-3, atol=0)  # for one moment
        g = torch.Generator().manual_seed(2)
        for _ in range(150):
            net(train.inputs[torch.randint(700, (128,), generator=g)])
    caught, _ = ratios(net, held)
    torch.testing.assert_close(net[1].variance.sqrt(), 10 * sigma, rtol=0.1, atol=0)
    torch.testing.assert_close(caught, found, rtol=0.15, atol=0)


def test_the_shipped_stochastic_network_has_the_ratio_its_card_states():
    model, data = load_model("fmnist-cnn-gaussian"), load_dataset("fashion-mnist", split="eval")
    convolution, noise = model.conv1[0], model.conv1[1][0]
    with torch.no_grad():
        variance = convolution(model.normalise(data.inputs)).var(0).flatten(1).mean(1)
    found = variance / (noise.rho * noise.variance)
    # 6 %: it was tracked on training images, which are shifted at random.
    torch.testing.assert_close(
        found, torch.full((32,), 1 / read_card("fmnist-cnn-gaussian").rho), rtol=0.06, atol=0
    )


# --- kinds of noise, and calibration ------------------------------------------------------------------------------


def rates(n=400, seed=0):
    """Activations as rates are: not negative, of differing means and variances."""
    g = torch.Generator().manual_seed(seed)
    scale = torch.tensor([0.2, 1.0, 5.0]).view(1, 3, 1, 1)
    return scale * torch.randn(n, 3, 4, 4, generator=g).abs()


def measured_ratio(module, x, draws=200):
    """Noise variance over variance over images, a channel: both averaged over units, from many draws."""
    noise = torch.stack([(module(x) - x).square().mean((0, 2, 3)) for _ in range(draws)]).mean(0)
    return noise / x.var(0).mean((1, 2))


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("rho", [0.3, 3.0])
def test_every_kind_has_the_stated_ratio_in_every_channel(kind, rho):
    x = rates()
    module = NOISES[kind](3, rho=rho, key="a").eval()
    calibrate(module, x)
    torch.testing.assert_close(measured_ratio(module, x), torch.full((3,), rho), rtol=0.02, atol=0)


@pytest.mark.parametrize("kind", NOISES)
def test_shared_statistics_have_the_ratio_over_all_units(kind):
    x = rates()
    module = NOISES[kind](3, rho=2.0, key="a", shared=True).eval()
    calibrate(module, x)
    noise = torch.stack([(module(x) - x).square().mean() for _ in range(200)]).mean()
    assert (noise / x.var(0).mean()).item() == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("kind", NOISES)
def test_training_follows_the_statistics_that_calibration_finds(kind):
    x = rates(4000)
    trained, set_at_once = (NOISES[kind](3, rho=1.0, key="a") for _ in range(2))
    trained.train()
    for batch in x.split(100):
        trained(batch)
    calibrate(set_at_once, x)
    for name in trained.statistics:
        torch.testing.assert_close(getattr(trained, name), getattr(set_at_once, name), rtol=0.05, atol=0)


@pytest.mark.parametrize("kind", NOISES)
def test_growing_weights_grow_the_noise_of_every_kind(kind):
    x = rates()
    small, large = (NOISES[kind](3, rho=1.0, key="a").eval() for _ in range(2))
    calibrate(small, x)
    calibrate(large, 1000 * x)
    noisy = []
    for module, scale in ((large, 1000), (small, 1)):
        with noise_context(0, range(len(x))):
            noisy.append(module(scale * x) / scale)
    torch.testing.assert_close(*noisy, rtol=1e-3, atol=1e-5)


def test_poisson_variance_is_a_line_in_the_activation_and_multiplicative_a_parabola():
    x = rates(2000)
    poisson, product = (NOISES[k](3, rho=1.0, key="a").eval() for k in ("poisson", "multiplicative"))
    for module in (poisson, product):
        calibrate(module, x)
    level = torch.tensor([0.0, 1.0, 2.0, 4.0]).view(4, 1, 1, 1).expand(4, 3, 1, 1)
    variance = poisson.deviation(level).square()
    least = variance[0]
    assert (least > 0).all()
    torch.testing.assert_close(variance[2] - least, 2 * (variance[1] - least))
    torch.testing.assert_close(variance[3] - least, 4 * (variance[1] - least))
    # VOneNet's constants: k (x + 0.2) at a mean activation of 1.1.
    torch.testing.assert_close(least / (variance[1] - least), 0.18 * x.mean((0, 2, 3)).view(3, 1, 1))
    torch.testing.assert_close(product.deviation(2 * level), 2 * product.deviation(level))


def test_fixed_noise_has_its_sigma_whatever_comes_in():
    module = FixedNoise(0.25, key="a").eval()
    for scale in (1, 1000):
        x = scale * torch.rand(200, 3, 8, 8)
        assert offsets(module, x).std().item() == pytest.approx(0.25, rel=0.02)
    assert has_noise(module)
    assert noise_ratio(module) == 0
    assert not has_noise(FixedNoise(0.0, key="a"))
    with pytest.raises(InputError, match="sigma >= 0"):
        FixedNoise(-1.0, key="a")


def test_calibration_counts_the_noise_ahead_at_its_final_level_as_training_does():
    model = nn.Sequential(layer(rho=5.0, key="a"), nn.Linear(3, 3), layer(rho=2.0, key="b"))
    x = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0))
    calibrate(model, x, batch=64)
    torch.testing.assert_close(model[0].variance, x.var(0))
    weight = model[1].weight.detach()
    expected = ((1 + 5) * x.var(0) * weight.square()).sum(
        1
    )  # independent inputs, noise of 5 times their variance
    torch.testing.assert_close(model[2].variance, expected, rtol=0.08, atol=0)
    model.train()
    for _ in range(200):
        model(x)
    torch.testing.assert_close(model[2].variance, expected, rtol=0.08, atol=0)
    with pytest.raises(InputError, match="at least two inputs"):
        calibrate(model, x[:1])


def test_calibration_leaves_mode_weights_and_the_global_stream():
    model = nn.Sequential(nn.BatchNorm1d(3), layer(key="a")).train()
    before, state = copy.deepcopy(model[0].state_dict()), torch.get_rng_state()
    calibrate(model, torch.rand(20, 3, generator=torch.Generator().manual_seed(0)))
    assert model.training
    assert model[0].training
    assert all(torch.equal(v, before[k]) for k, v in model[0].state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_reseeding_a_model_reseeds_every_layer():
    model = nn.Sequential(layer(key="a"), FixedNoise(1.0, key="b"))
    reseed_noise(model, 4)
    first = model(zeros(2, 3))
    reseed_noise(model, 4)
    assert torch.equal(model(zeros(2, 3)), first)
    reseed_noise(model, 5)
    assert not torch.equal(model(zeros(2, 3)), first)
