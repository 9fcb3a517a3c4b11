"""The V1 front end: parameters as published, filters against their formula, cells, and noise at the stated ratio."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from robustgeom.errors import InputError, UnknownNameError, UserError
from robustgeom.models.gabor import (
    FREQUENCY_COUNTS,
    FREQUENCY_EDGES,
    ORIENTATION_COUNTS,
    SIZE_COUNTS,
    SIZE_EDGES,
    gabor_bank,
    sample_gabors,
)
from robustgeom.models.noise import noise_context, noise_off
from robustgeom.models.vone import GAIN, VOneBlock, VOneNet, _filtered

MANY = 20_000


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def many():
    return sample_gabors(MANY, generator=seeded(), highest=8.0)


def in_bins(values, edges):
    return np.histogram(values.numpy(), edges)[0]


def agrees(found, counts):
    """Chi-square test of counts in bins against published ones; bins without any must stay empty."""
    counts = np.asarray(counts, float)
    assert found[counts == 0].sum() == 0
    kept = counts > 0
    expected = counts[kept] / counts.sum() * found.sum()
    return stats.chisquare(found[kept], expected).pvalue > 1e-3


# --- parameters ---------------------------------------------------------------------------------------------------


def test_orientations_fall_into_the_published_bins(many):
    degrees = torch.rad2deg(many.orientation)
    assert (degrees >= 0).all()
    assert (degrees < 180).all()
    wrapped = torch.where(degrees >= 157.5, degrees - 180, degrees)
    assert agrees(in_bins(wrapped, (-22.5, 22.5, 67.5, 112.5, 157.5)), ORIENTATION_COUNTS)
    inside = wrapped[(wrapped >= 22.5) & (wrapped < 67.5)].numpy()
    assert stats.kstest(inside, stats.uniform(22.5, 45).cdf).pvalue > 1e-3


def test_phases_are_uniform(many):
    assert stats.kstest(many.phase.numpy(), stats.uniform(0, 2 * math.pi).cdf).pvalue > 1e-3


@pytest.mark.parametrize("highest", [8.0, 5.6, 6.0])
def test_frequencies_fall_into_the_published_bins_up_to_the_highest(highest):
    found = sample_gabors(MANY, generator=seeded(1), highest=highest).frequency
    kept = [
        c if edge <= highest else 0 for c, edge in zip(FREQUENCY_COUNTS, FREQUENCY_EDGES[1:], strict=True)
    ]
    assert found.max() <= highest
    assert agrees(in_bins(found, FREQUENCY_EDGES), kept)
    octave = found[(found >= 2.8) & (found < 4)].log2().numpy()
    assert stats.kstest(octave, stats.uniform(math.log2(2.8), math.log2(4 / 2.8)).cdf).pvalue > 1e-3


def test_sizes_fall_into_the_published_joint_table(many):
    table = np.histogram2d(many.n_x.numpy(), many.n_y.numpy(), (SIZE_EDGES, SIZE_EDGES))[0]
    assert agrees(table.ravel(), np.ravel(SIZE_COUNTS))


def test_size_and_frequency_go_together_with_the_published_correlation(many):
    # A Gaussian copula of correlation r has the rank correlation 6/pi asin(r/2), whatever the marginals.
    expected = 6 / math.pi * math.asin(0.75 / 2)
    found = stats.spearmanr(many.n_x.numpy(), many.frequency.numpy()).statistic
    assert found == pytest.approx(expected, abs=0.02)
    assert abs(stats.spearmanr(many.orientation.numpy(), many.frequency.numpy()).statistic) < 0.03


@pytest.mark.parametrize(("colour", "share"), [("corrected", 1.0), ("faithful", 1 / 3)])
def test_partners_read_the_same_channel_unless_faithful(colour, share):
    found = sample_gabors(MANY, generator=seeded(2), channels=3, colour=colour)
    assert (found.colour == found.partner).double().mean().item() == pytest.approx(share, abs=0.02)
    assert agrees(np.bincount(found.colour.numpy()), [1, 1, 1])


def test_the_seed_decides_the_parameters():
    first, again, other = (sample_gabors(5, generator=seeded(s)) for s in (3, 3, 4))
    assert all(torch.equal(getattr(first, f), getattr(again, f)) for f in first.__dataclass_fields__)
    assert not torch.equal(first.phase, other.phase)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"highest": 0.5}, "expected a highest frequency of at least 0.7, got 0.5"),
        (
            {"colour": "grey"},
            "expected the name of a known colour, got 'grey'; try one of corrected, faithful",
        ),
    ],
)
def test_parameters_that_cannot_be_drawn_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        sample_gabors(3, generator=seeded(), **settings)


# --- filters ------------------------------------------------------------------------------------------------------


def test_filters_are_gabor_functions_pixel_by_pixel():
    gabors, density = sample_gabors(6, generator=seeded(5), channels=3, colour="faithful"), 14.0
    for shift, channel in ((0.0, gabors.colour), (math.pi / 2, gabors.partner)):
        bank = gabor_bank(gabors, size=7, density=density, channels=3, shift=shift)
        for i in range(6):
            f = gabors.frequency[i].item() / density
            sx, sy = gabors.n_x[i].item() / f, gabors.n_y[i].item() / f
            angle, phase = gabors.orientation[i].item(), gabors.phase[i].item() + shift
            for row in range(7):
                for column in range(7):
                    x, y = row - 3, column - 3
                    u = x * math.cos(angle) + y * math.sin(angle)
                    v = -x * math.sin(angle) + y * math.cos(angle)
                    value = math.exp(-(u * u) / (2 * sx * sx) - v * v / (2 * sy * sy)) / (
                        2 * math.pi * sx * sy
                    )
                    value *= math.cos(2 * math.pi * f * u + phase)
                    assert bank[i, channel[i], row, column].item() == pytest.approx(value, rel=1e-4, abs=1e-7)
            assert bank[i].count_nonzero() == bank[i, channel[i]].count_nonzero()


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"size": 10, "density": 14.0}, "odd kernel size"), ({"size": 9, "density": 3.5}, "two pixels a cycle")],
)
def test_filters_that_would_alias_or_have_no_middle_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        gabor_bank(sample_gabors(50, generator=seeded()), **settings)


# --- cells --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "kernel"), [(1, 11), (1, 17), (3, 11)])
def test_patches_times_a_bank_are_a_convolution(channels, kernel):
    x, bank = torch.rand(3, channels, 14, 13), torch.randn(5, channels, kernel, kernel)
    x.requires_grad_(True)
    expected = F.conv2d(x.double(), bank.double(), stride=2, padding=kernel // 2)
    found = _filtered(x, bank, 2)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    weights = torch.randn(expected.shape)
    ours, theirs = (torch.autograd.grad((y * weights).sum(), x)[0] for y in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_simple_and_complex_cells_follow_their_formulas():
    block, x = VOneBlock(3, 4).eval(), torch.rand(2, 1, 28, 28)
    q0 = F.conv2d(x, block.gabor.first, stride=2, padding=5)
    q1 = F.conv2d(x, block.gabor.second, stride=2, padding=5)
    simple, pairs = q0[:, :3].clamp(min=0), (q0[:, 3:] ** 2 + q1**2 + 1e-5).sqrt() / math.sqrt(2)
    torch.testing.assert_close(block(x), GAIN * torch.cat([simple, pairs], 1), rtol=1e-4, atol=1e-4)


def test_complex_cells_hardly_change_with_the_phase_of_a_grating():
    """The defining property of complex cells, which simple cells lack."""
    block = VOneBlock(64, 64, size=224).eval()
    position = torch.arange(224).float()
    phases = torch.arange(8) * math.pi / 4
    gratings = 0.5 + 0.5 * torch.cos(2 * math.pi * 0.07 * position + phases[:, None]).view(8, 1, 1, 224)
    middle = block(gratings.expand(8, 1, 224, 224))[:, :, 28, 28]
    change = middle.std(0) / middle.mean(0)
    driven = middle.mean(0) > middle.mean(0).median()
    assert change[64:][driven[64:]].median() < 0.5 * change[:64][driven[:64]].median()


@pytest.mark.parametrize(("size", "side"), [(28, 14), (32, 16), (224, 56)])
@pytest.mark.parametrize("channels", [1, 3])
def test_blocks_fit_their_images(size, side, channels):
    block = VOneBlock(2, 2, channels=channels, size=size).eval()
    assert block(torch.rand(1, channels, size, size)).shape == (1, 4, side, side)
    assert not list(block.parameters())


@pytest.mark.parametrize("noise", ["gaussian", "poisson", "multiplicative"])
def test_gradients_reach_black_images_through_every_noise(noise):
    net = VOneNet(front={"simple": 4, "complex": 4, "rho": 1.0, "noise": noise}).eval()
    x = torch.zeros(2, 1, 28, 28, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(x).sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


def test_blocks_that_cannot_be_are_refused():
    with pytest.raises(UnknownNameError, match="gaussian"):
        VOneBlock(noise="gausian")
    with pytest.raises(InputError, match="at least one cell"):
        VOneBlock(0, 0)
    with pytest.raises(InputError, match="two pixels a cycle"):
        VOneBlock(size=28, degrees=8.0)


def test_filters_come_from_their_seed_alone():
    torch.manual_seed(0)
    first = VOneNet()
    torch.manual_seed(1)
    second = VOneNet()
    assert torch.equal(first.front.gabor.first, second.front.gabor.first)
    assert not torch.equal(first.bottleneck.weight, second.bottleneck.weight)
    assert not torch.equal(VOneNet(front={"filter_seed": 1}).front.gabor.first, first.front.gabor.first)


def test_a_network_without_its_noise_is_its_twin_of_rho_0():
    noisy, twin = VOneNet(front={"rho": 3.0}).eval(), VOneNet(front={"rho": 0.0}).eval()
    twin.load_state_dict(noisy.state_dict())
    x = torch.rand(2, 1, 28, 28)
    with noise_off():
        assert torch.equal(noisy(x), twin(x))
    with noise_context(0, [1, 2]):
        assert not torch.equal(noisy(x), twin(x))
