"""Common corruptions: what each does, against scipy, PIL and closed forms, and what all of them keep."""

import colorsys
import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats
from torch.nn import functional

from robustgeom.attacks._start import RowGenerators
from robustgeom.data.corruptions import (
    CORRUPTIONS,
    _frame,
    _sampling,
    _textures,
    _warps,
    blur,
    corrupt,
    digital,
    weather,
)
from robustgeom.data.load import load_dataset
from robustgeom.errors import InputError, UnknownNameError
from robustgeom.models.load import load_model

DRAWN = ("gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow", "frost", "fog",
         "elastic_transform")  # fmt: skip
SEVERITIES = (1, 2, 3, 4, 5)
SIZES = ((28, 1), (32, 3), (64, 1), (224, 3))

every_name = pytest.mark.parametrize("name", list(CORRUPTIONS))
every_severity = pytest.mark.parametrize("severity", SEVERITIES)


@pytest.fixture(scope="module")
def shipped():
    return load_dataset("fashion-mnist", split="eval", limit=100)


@pytest.fixture
def photos(shipped):
    def make(n=4, side=28, channels=1):
        images = functional.interpolate(shipped.inputs[:n], (side, side), mode="bilinear")
        tints = torch.tensor([1.0, 0.8, 0.6])[:channels, None, None]
        return images * tints

    return make


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(n, start=0):
    return [seeded(start + i) for i in range(n)]


def flat(value, side=32, n=1, channels=1):
    return torch.full((n, channels, side, side), value)


def draws(images, seed=0):
    return _frame.Draws(images, seeded(seed))


def noise_image(side=32, channels=1, n=1):
    return torch.rand(n, channels, side, side, generator=seeded(9), dtype=torch.float64)


# --- what all of them keep -------------------------------------------------------------------------------------


def test_there_are_fifteen_and_each_file_has_one_public_function_a_corruption():
    assert len(CORRUPTIONS) == 15
    for name in CORRUPTIONS:
        function = CORRUPTIONS[name]
        assert function.__name__ == name
        assert "arXiv:1903.12261" in function.__doc__


@every_name
@pytest.mark.parametrize(("side", "channels"), SIZES)
def test_shape_dtype_range_and_repetition(photos, name, side, channels):
    images = photos(2, side, channels)
    kept = images.clone()
    result = corrupt(name, images, 3, seeded())
    assert result.shape == images.shape
    assert result.dtype == images.dtype
    assert result.min() >= 0
    assert result.max() <= 1
    assert not torch.equal(result, images)
    assert torch.equal(images, kept)
    assert torch.equal(corrupt(name, images, 3, seeded()), result)


@every_name
def test_other_seeds_give_other_images_where_something_is_drawn(photos, name):
    images = photos()
    first, second = corrupt(name, images, 3, seeded(0)), corrupt(name, images, 3, seeded(1))
    assert torch.equal(first, second) == (name not in DRAWN)
    assert torch.equal(corrupt(name, images, 3), first)  # none means one seeded with 0


@every_name
def test_a_row_with_its_own_generator_does_not_hang_on_the_others(photos, name, monkeypatch):
    images = photos(5).double()
    whole = corrupt(name, images, 4, RowGenerators(rows(5), seeded()))
    alone = torch.cat([corrupt(name, images[i : i + 1], 4, [seeded(i)]) for i in range(5)])
    torch.testing.assert_close(whole, alone, rtol=0, atol=1e-6)
    monkeypatch.setattr(_frame, "_PIECE", 2 * 28 * 28)
    torch.testing.assert_close(corrupt(name, images, 4, tuple(rows(5))), whole, rtol=0, atol=1e-6)


@every_name
def test_the_global_random_streams_are_neither_read_nor_moved(photos, name):
    images = photos(2)
    torch.manual_seed(0)
    np.random.seed(0)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = corrupt(name, images, 2, seeded())
    corrupt(name, images, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()
    torch.manual_seed(1)
    assert torch.equal(corrupt(name, images, 2, seeded()), first)


@every_name
def test_severity_zero_is_a_copy_and_empty_batches_stay_empty(photos, name):
    images = photos(2)
    same = corrupt(name, images, 0)
    assert torch.equal(same, images)
    assert same.data_ptr() != images.data_ptr()
    assert corrupt(name, images[:0], 5).shape == (0, 1, 28, 28)
    assert corrupt(name, images[:0], 5, []).shape == (0, 1, 28, 28)


@every_name
def test_a_seed_means_the_same_in_float64_and_half_precision(photos, name):
    images = (photos(2) * 255).round() / 255
    single = corrupt(name, images, 2, seeded())
    double = corrupt(name, (images.double() * 255).round() / 255, 2, seeded())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), single, rtol=0, atol=1e-4)
    half = corrupt(name, images.half(), 2, seeded())
    assert half.dtype == torch.float16
    assert half.isfinite().all()


@every_name
@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (40, 24), (70, 90)])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_any_height_width_and_number_of_channels(name, shape, channels):
    images = torch.rand(2, channels, *shape, generator=seeded())
    result = corrupt(name, images, 5, seeded())
    assert result.shape == images.shape
    assert result.isfinite().all()


@every_name
def test_no_gradient_flows_and_the_caller_may_have_gradients_off_or_on(photos, name):
    images = photos(2).requires_grad_()
    result = corrupt(name, images, 2)
    assert not result.requires_grad
    assert not corrupt(name, images, 0).requires_grad
    with torch.inference_mode():
        assert torch.equal(corrupt(name, images, 2), result)


# Published constants whose mean distance to the clean image does not grow: moves of the affine map shrink from
# severity to severity (elastic), the image's weight falls with the frost's (frost), reach and rounds take turns.
NOT_GROWING = {"elastic_transform", "frost", "glass_blur"}


@every_name
@pytest.mark.parametrize("side", [28, 32, 64])
def test_images_move_away_as_severity_grows(photos, name, side):
    images = photos(50, side)
    far = [(corrupt(name, images, s, rows(50)) - images).abs().mean().item() for s in SEVERITIES]
    if name in NOT_GROWING:
        assert min(far) > 0.02
        assert name == "elastic_transform" or far[4] > far[0]
        return
    steps = np.diff(far)
    if name == "motion_blur":  # from 3 to 4 only the line grows, whose far end weighs next to nothing
        assert abs(steps[2]) < 1e-4
        steps = steps[[0, 1, 3]]
    assert (steps > 0).all(), far


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - NOT_GROWING - {"snow", "fog", "jpeg_compression"}))
def test_large_images_move_away_too(photos, name):
    images = photos(2, 224)
    far = [(corrupt(name, images, s, rows(2)) - images).abs().mean().item() for s in SEVERITIES]
    assert (np.diff(far) > 0).all(), far


def test_the_table_and_the_lengths_follow_the_shorter_side():
    found = {
        (h, w): _frame.constants(torch.zeros(1, 1, h, w), 2, "abcde", "ABCDE")
        for h, w in ((28, 28), (32, 40), (64, 300), (65, 65), (224, 224), (448, 500))
    }
    assert found == {
        (28, 28): ("b", 0.875),
        (32, 40): ("b", 1.0),
        (64, 300): ("b", 2.0),
        (65, 65): ("B", 65 / 224),
        (224, 224): ("B", 1.0),
        (448, 500): ("B", 2.0),
    }


def test_constants_that_no_known_answer_below_pins_are_the_published_ones():
    assert blur._GLASS == ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
    assert blur._GLASS_LARGE == ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
    assert weather._FOG == ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))
    assert weather._FOG_LARGE == ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))
    assert weather._SNOW[2:] == (
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )
    assert weather._SNOW_LARGE == (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )
    small = [(0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96)]
    large = [
        (488, 170.8, 24.4),
        (488, 19.52, 48.8),
        (12.2, 2.44, 4.88),
        (17.08, 2.44, 4.88),
        (29.28, 2.44, 4.88),
    ]
    np.testing.assert_allclose(digital._ELASTIC, small)
    np.testing.assert_allclose(digital._ELASTIC_LARGE, large)


# --- noise -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "table"), [(32, (0.04, 0.06, 0.08, 0.09, 0.10)), (224, (0.08, 0.12, 0.18, 0.26, 0.38))]
)
@every_severity
def test_gaussian_noise_has_the_tabled_deviation(side, table, severity):
    images = flat(0.5, side, n=40 if side == 32 else 1)
    sigma = table[severity - 1]
    added = corrupt("gaussian_noise", images, severity) - images
    cut = 0.5 / sigma  # what lies beyond 0 and 1 is cut off, which keeps the probability inside
    inside = (added.abs() < 0.499).double().mean().item()
    assert inside == pytest.approx(1 - 2 * stats.norm.sf(cut), abs=0.01)
    uncut = added[added.abs() < 0.499].numpy()
    assert uncut.std() == pytest.approx(stats.truncnorm.std(-cut, cut, scale=sigma), rel=0.02)


@pytest.mark.parametrize(("side", "table"), [(32, (500, 250, 100, 75, 50)), (224, (60, 25, 12, 5, 3))])
@every_severity
def test_shot_noise_is_a_poisson_count_over_the_tabled_count_of_white(side, table, severity):
    photons = table[severity - 1]
    level = 0.3
    seen = corrupt("shot_noise", flat(level, side, n=50 if side == 32 else 1), severity).flatten().double()
    counts = np.arange(1000)
    values, chances = np.minimum(counts / photons, 1), stats.poisson.pmf(counts, level * photons)
    mean = (values * chances).sum()
    assert seen.mean().item() == pytest.approx(mean, rel=0.02)
    assert seen.var().item() == pytest.approx(((values - mean) ** 2 * chances).sum(), rel=0.04)
    if photons >= 50:  # nothing is cut off: variance over mean is one over the count
        assert (seen.var() / seen.mean()).item() == pytest.approx(1 / photons, rel=0.04)
    torch.testing.assert_close(seen * photons, (seen * photons).round(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("side", "table"), [(32, (0.01, 0.02, 0.03, 0.05, 0.07)), (224, (0.03, 0.06, 0.09, 0.17, 0.27))]
)
@every_severity
def test_impulse_noise_hits_the_tabled_share_half_black_half_white(side, table, severity):
    hit = corrupt("impulse_noise", flat(0.5, side, n=150 if side == 32 else 4), severity)
    half = table[severity - 1] / 2
    slack = 4 * math.sqrt(half / hit.numel())
    assert (hit == 0).double().mean().item() == pytest.approx(half, abs=slack)
    assert (hit == 1).double().mean().item() == pytest.approx(half, abs=slack)
    assert set(hit.unique().tolist()) == {0.0, 0.5, 1.0}


def test_impulses_hit_channels_apart():
    hit = corrupt("impulse_noise", flat(0.5, 64, channels=3), 5) != 0.5
    assert hit.any(1).double().mean() > 2.5 * hit[:, 0].double().mean()


# --- blur ------------------------------------------------------------------------------------------------------


def published_disk(radius, sigma):
    places = np.arange(-12, 13)
    disk = (places[:, None] ** 2 + places**2 <= radius**2).astype(float)
    reach = 1 if radius <= 8 else 2
    return ndimage.gaussian_filter(disk / disk.sum(), sigma, radius=reach, mode="constant")


@pytest.mark.parametrize(
    ("side", "table"),
    [
        (32, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
        (224, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    ],
)
@every_severity
def test_defocus_is_scipys_convolution_with_the_published_disk(side, table, severity):
    image = noise_image(side)
    expected = ndimage.convolve(image[0, 0].numpy(), published_disk(*table[severity - 1]), mode="mirror")
    found = corrupt("defocus_blur", image, severity)[0, 0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_a_kernel_in_pixels_three_times_as_fine_is_the_same_picture():
    kernel = blur._disk(1.5, 0.1)
    fine = np.kron(kernel.numpy(), np.ones((3, 3)) / 9)
    np.testing.assert_allclose(blur._rescaled(kernel, 3.0).numpy(), fine, atol=1e-12)
    for scale in (0.3, 0.875, 1.0, 1.7):
        assert blur._rescaled(kernel, scale).sum().item() == pytest.approx(1)


def test_glass_moves_pixels_one_after_another_as_a_plain_loop_does():
    height, width, reach = 9, 11, 2
    inside = np.zeros((height, width), bool)
    inside[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1] = True
    rng = np.random.default_rng(0)
    near = np.arange(height * width).reshape(height, width)
    for row, column in np.argwhere(inside):
        down, across = rng.integers(-reach, reach, 2)
        near[row, column] = (row + down) * width + column + across
    values = np.arange(height * width)
    for place in np.flatnonzero(inside)[::-1]:
        values[place] = values[near.flat[place]]
    found = blur._resolved(torch.from_numpy(near.reshape(1, -1)))
    assert found[0].tolist() == values.tolist()


def test_glass_at_severity_one_takes_one_of_four_neighbours_equally_often():
    places = torch.arange(32 * 32).view(1, 1, 32, 32) / 2000
    moved = (corrupt("glass_blur", places.expand(30, -1, -1, -1), 1) * 2000).round().long()
    shift = moved - torch.arange(32 * 32).view(32, 32)
    inner = shift[:, 0, 2:, 2:]
    assert set(inner.unique().tolist()) == {0, -1, -32, -33}
    for move in (0, -1, -32, -33):
        assert (inner == move).double().mean().item() == pytest.approx(0.25, abs=0.01)
    assert (shift[:, 0, :2] == 0).all()
    assert (shift[:, 0, :, :2] == 0).all()


@pytest.mark.parametrize(("degrees", "axis", "backwards"), [(0, 1, False), (90, 0, False), (180, 1, True)])
def test_smear_is_scipys_correlation_with_half_a_gaussian(degrees, axis, backwards):
    image = noise_image(32)
    weights = np.exp(-0.5 * (np.arange(-12, 13) / 2.5) ** 2) * (np.arange(-12, 13) >= 0)
    weights = weights[::-1] if backwards else weights
    expected = ndimage.correlate1d(image[0, 0].numpy(), weights / weights.sum(), axis=axis, mode="nearest")
    found = _sampling.smear(image, torch.tensor([degrees]), 6, 2.5)[0, 0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("side", "table"),
    [
        (32, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
        (64, ((12, 2), (12, 3), (12, 4), (16, 4), (18, 5))),
        (224, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    ],
)
@every_severity
def test_a_dot_in_motion_becomes_a_line_of_the_tabled_weights(side, table, severity):
    radius, sigma = table[severity - 1]
    images = torch.zeros(5, 1, side, side, dtype=torch.float64)
    middle = side // 2
    images[:, :, middle, middle] = 1
    blurred = corrupt("motion_blur", images, severity, rows(5))
    weights = np.exp(-0.5 * (np.arange(2 * radius + 1) / sigma) ** 2)
    for row, image in enumerate(blurred[:, 0]):
        angle = math.radians(90 * torch.rand([], generator=seeded(row)).item() - 45)
        expected = np.zeros((side, side))
        for step, weight in enumerate(weights / weights.sum()):
            down, across = (math.ceil(step * f(angle) - 0.5) for f in (math.sin, math.cos))
            if middle >= across:  # a pixel reads what lies ahead of it, so the dot is smeared back
                expected[middle - down, middle - across] += weight
        np.testing.assert_allclose(image.numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("factor", [1.0, 1.01, 1.17, 1.3, 2.5])
@pytest.mark.parametrize("side", [28, 32, 224])
def test_zoom_is_scipys_zoom_of_the_middle(factor, side):
    image = noise_image(side)
    cut = math.ceil(side / factor)
    top = (side - cut) // 2
    grown = ndimage.zoom(image[0, 0, top : top + cut, top : top + cut].numpy(), factor, order=1)
    trim = (len(grown) - side) // 2
    expected = grown[trim : trim + side, trim : trim + side]
    np.testing.assert_allclose(_sampling.zoom(image, factor)[0, 0].numpy(), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("side", "end", "step", "count"),
    [
        (32, (1.06, 1.11, 1.16, 1.21, 1.26), [0.01] * 5, (7, 12, 16, 21, 26)),
        (224, (1.11, 1.16, 1.21, 1.26, 1.31), (0.01, 0.01, 0.02, 0.02, 0.03), (12, 16, 11, 13, 11)),
    ],
)
@every_severity
def test_zoom_blur_averages_the_published_zooms_and_the_image(side, end, step, count, severity):
    image = noise_image(side)
    # Published as this call. Its last digits matter: 26 pixels times 1.25 or a hair more are 32 or 33.
    factors = np.arange(1, end[severity - 1], step[severity - 1])
    assert len(factors) == count[severity - 1]
    expected = (image + sum(_sampling.zoom(image, f) for f in factors)) / (len(factors) + 1)
    torch.testing.assert_close(corrupt("zoom_blur", image, severity), expected, rtol=0, atol=1e-9)
    constant = flat(0.3, side)
    torch.testing.assert_close(corrupt("zoom_blur", constant, severity), constant)


# --- weather ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("severity", "mean", "deviation", "threshold", "kept"),
    [(1, 0.1, 0.2, 0.6, 0.95), (2, 0.1, 0.2, 0.5, 0.9)],
)
def test_snow_on_black_has_the_brightness_of_its_flakes(severity, mean, deviation, threshold, kept):
    fallen = corrupt("snow", torch.zeros(400, 1, 32, 32, dtype=torch.float64), severity)
    torch.testing.assert_close(
        fallen, fallen.flip(2, 3)
    )  # a layer of flakes and the same turned by 180 degrees
    x = np.linspace(threshold, 3, 100_000)
    density = stats.norm.pdf(x, mean, deviation)
    flakes = 2 * np.trapezoid(np.minimum(x, 1) * density, x)
    assert fallen.mean().item() == pytest.approx(0.5 * (1 - kept) + flakes, rel=0.04)


def test_snow_falls_within_45_degrees_of_straight_down():
    fallen = corrupt("snow", torch.zeros(200, 1, 64, 64), 4)
    down, across = (fallen.diff(dim=axis).square().mean((1, 2, 3)) for axis in (2, 3))
    assert (across > 0.8 * down).all()
    assert (across > 4 * down).any()
    left, right = fallen[..., 1:, 1:] - fallen[..., :-1, :-1], fallen[..., 1:, :-1] - fallen[..., :-1, 1:]
    lean = (left.square().mean((1, 2, 3)) / right.square().mean((1, 2, 3))).log()
    assert lean.mean().abs() < 0.2
    assert lean.std() > 0.5


def test_snow_whitens_by_luma_and_leaves_white_alone():
    assert (corrupt("snow", flat(1.0), 4) == 1).all()
    colour = torch.tensor([0.6, 0.1, 0.2])[:, None, None].expand(1, 3, 32, 32)
    dark = corrupt("snow", colour, 1, seeded())
    luma = 0.299 * 0.6 + 0.587 * 0.1 + 0.114 * 0.2
    expected = 0.95 * colour + 0.05 * (luma * 1.5 + 0.5)
    torch.testing.assert_close(dark.amin((2, 3)), expected[:, :, 0, 0], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("side", "table"),
    [
        (32, ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))),
        (224, ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))),
    ],
)
@every_severity
def test_frost_is_the_tabled_sum_of_image_and_texture(side, table, severity):
    image_weight, frost_weight = table[severity - 1]
    n = 100 if side == 32 else 1
    black = torch.zeros(n, 1, side, side)
    texture = corrupt("frost", black, severity, seeded()) / frost_weight
    lifted = corrupt("frost", black + 0.1, severity, seeded()) - frost_weight * texture
    torch.testing.assert_close(lifted, torch.full_like(lifted, 0.1 * image_weight))
    assert texture.mean((1, 2, 3)).min() > 0.45
    assert texture.mean((1, 2, 3)).max() < 0.84
    if n == 100:
        assert texture.mean().item() == pytest.approx(0.645, abs=0.03)
        assert 0.07 < texture.std((1, 2, 3)).mean() < 0.11


@pytest.mark.parametrize(("side", "weights"), [(32, (0.2, 0.5, 0.75, 1, 1.5)), (256, (1.5, 2, 2.5, 2.5, 3))])
@every_severity
def test_fog_adds_a_cloud_from_0_to_1_and_keeps_the_brightest_value(side, weights, severity):
    level, weight = 0.4, weights[severity - 1]
    fogged = corrupt("fog", flat(level, side, n=3).double(), severity)
    cloud = (fogged * (level + weight) / level - level) / weight
    torch.testing.assert_close(cloud.amin((1, 2, 3)), torch.zeros(3).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(cloud.amax((1, 2, 3)), torch.ones(3).double(), rtol=0, atol=1e-6)
    assert (corrupt("fog", flat(0.0, side), severity) == 0).all()  # nothing is brighter than the brightest


def test_clouds_grow_as_a_plain_diamond_square_does():
    size = 4
    grid = torch.rand(1, size, size, generator=seeded(), dtype=torch.float64)
    noise = torch.rand(1, 3, size, size, generator=seeded(1), dtype=torch.float64)
    found = _textures._doubled(grid, noise)[0]
    g, z = grid[0].tolist(), noise[0].tolist()
    big = [[0.0] * (2 * size) for _ in range(2 * size)]
    for i in range(size):
        for j in range(size):
            below, right = (i + 1) % size, (j + 1) % size
            big[2 * i][2 * j] = g[i][j]
            big[2 * i + 1][2 * j + 1] = (g[i][j] + g[below][j] + g[i][right] + g[below][right]) / 4 + z[0][i][
                j
            ]
    for i in range(size):
        for j in range(size):
            row, column = 2 * i, 2 * j + 1
            ends = (
                big[row][column - 1]
                + big[row][(column + 1) % 8]
                + big[row - 1][column]
                + big[row + 1][column]
            )
            big[row][column] = ends / 4 + z[1][i][j]
            row, column = 2 * i + 1, 2 * j
            ends = (
                big[row - 1][column]
                + big[(row + 1) % 8][column]
                + big[row][column - 1]
                + big[row][column + 1]
            )
            big[row][column] = ends / 4 + z[2][i][j]
    np.testing.assert_allclose(found.numpy(), np.array(big), atol=1e-12)


@pytest.mark.parametrize("decay", [3.0, 2.0, 1.4])
def test_a_clouds_finer_parts_fade_by_the_square_of_decay(decay):
    images = torch.zeros(60, 1, 32, 32)
    cloud = _textures.plasma(images, draws(images), decay)

    def surprise(grid):  # what a square's centre adds to the mean of its corners
        corners = grid[..., ::2, ::2].unfold(2, 2, 1).unfold(3, 2, 1).mean((4, 5))
        return (grid[..., 1:-1:2, 1:-1:2] - corners).square().mean((1, 2, 3)).sqrt()

    ratio = (surprise(cloud[..., ::2, ::2]) / surprise(cloud)).mean().item()
    assert ratio == pytest.approx(decay**2, rel=0.05)


@pytest.mark.parametrize(
    ("side", "table"), [(32, (0.05, 0.1, 0.15, 0.2, 0.3)), (224, (0.1, 0.2, 0.3, 0.4, 0.5))]
)
@every_severity
def test_brightness_shifts_the_value_of_hsv(side, table, severity):
    images = torch.rand(1, 3, side, side, generator=seeded()).double()
    images[:, :, 0, 0] = 0  # black turns grey
    found = corrupt("brightness", images, severity)
    shift = table[severity - 1]
    for row in range(8):
        hue, saturation, value = colorsys.rgb_to_hsv(*images[0, :, row, row].tolist())
        expected = colorsys.hsv_to_rgb(hue, saturation, min(value + shift, 1))
        assert found[0, :, row, row].tolist() == pytest.approx(expected, abs=1e-6)
    grey = flat(0.25, side)
    torch.testing.assert_close(corrupt("brightness", grey, severity), grey + shift)


# --- digital ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "table"), [(32, (0.75, 0.5, 0.4, 0.3, 0.15)), (224, (0.4, 0.3, 0.2, 0.1, 0.05))]
)
@every_severity
def test_contrast_draws_values_to_the_mean_of_their_channel(side, table, severity):
    images = noise_image(side, 3, 2)
    found = corrupt("contrast", images, severity)
    torch.testing.assert_close(found.mean((2, 3)), images.mean((2, 3)))
    torch.testing.assert_close(found.std((2, 3)), table[severity - 1] * images.std((2, 3)))


@pytest.mark.parametrize("edge", ["mirror", "reflect", "nearest"])
def test_reading_at_fractional_places_is_scipys(edge):
    image = noise_image(12)
    places = 40 * torch.rand(2, 1, 12, 12, generator=seeded(), dtype=torch.float64) - 14
    expected = ndimage.map_coordinates(image[0, 0].numpy(), places[:, 0].numpy(), order=1, mode=edge)
    found = _sampling.bilinear(image, places[0], places[1], edge)[0, 0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("sigma", [0.0, 0.25, 1.0, 2.4, 30.0])
@pytest.mark.parametrize(("edge", "truncate"), [("nearest", 4), ("reflect", 3)])
def test_gaussian_is_scipys(sigma, edge, truncate):
    image = noise_image(20)
    expected = ndimage.gaussian_filter(image[0, 0].numpy(), sigma, mode=edge, truncate=truncate)
    found = _sampling.gaussian(image, sigma, truncate=truncate, edge=edge)[0, 0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)


def test_the_affine_map_takes_the_moved_points_back():
    images = torch.zeros(50, 1, 32, 48, dtype=torch.float64)
    down, across = _warps.affine_places(images, 2.5, draws(images))
    corners = torch.tensor([[26.0, 34.0], [26.0, 14.0], [6.0, 14.0]], dtype=torch.float64)
    moved = corners + draws(images).uniform(-2.5, 2.5, 3, 2)
    for axis, places in ((0, down), (1, across)):
        slope = places[:, 1, 0] - places[:, 0, 0], places[:, 0, 1] - places[:, 0, 0]
        at = places[:, :1, 0] + slope[0][:, None] * moved[..., 0] + slope[1][:, None] * moved[..., 1]
        torch.testing.assert_close(at, corners[:, axis].expand(50, 3))
        assert places.diff(n=2, dim=1).abs().max() < 1e-9
        assert places.diff(n=2, dim=2).abs().max() < 1e-9
    still = _warps.affine_places(images, 0.0, draws(images))
    grid = torch.meshgrid(torch.arange(32.0), torch.arange(48.0), indexing="ij")
    for found, expected in zip(still, grid, strict=True):
        torch.testing.assert_close(found[0], expected.double())


def test_waves_are_as_high_as_smoothed_uniform_noise():
    images = torch.zeros(40, 1, 64, 64, dtype=torch.float64)
    strength, sigma = 3.2, 0.96
    down, across = _warps.wavy_places(images, strength, sigma, draws(images))
    weights = np.exp(-0.5 * (np.arange(-3, 4) / sigma) ** 2)
    share = ((weights / weights.sum()) ** 2).sum()
    grid = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    for places, own in zip((down, across), grid, strict=True):
        inner = (places - own)[:, 8:-8, 8:-8]
        assert inner.std().item() == pytest.approx(strength * share / math.sqrt(3), rel=0.03)
        assert inner.mean().item() == pytest.approx(0, abs=0.05)


def test_waves_are_the_same_picture_at_twice_the_side():
    def curvature(side, severity):  # second differences, in pixels; they leave out the affine map
        ramp = torch.linspace(0.25, 0.75, side, dtype=torch.float64).expand(60, 1, side, side)
        return side * corrupt("elastic_transform", ramp, severity).diff(dim=2, n=2).std().item()

    assert curvature(64, 5) == pytest.approx(curvature(32, 5) / 2, rel=0.3)  # twice as high, twice as long
    assert curvature(32, 5) > curvature(32, 3) > curvature(32, 1)


@pytest.mark.parametrize(
    ("side", "severity", "strength", "sigma", "farthest"),
    [(32, 1, 0, 0, 2.56), (32, 2, 1.6, 6.4, 2.24), (64, 5, 12.8, 1.92, 1.92), (224, 2, 488, 19.52, 48.8)],
)
def test_elastic_reads_the_image_as_scipy_does_first_affinely_then_in_waves(
    side, severity, strength, sigma, farthest
):
    image = noise_image(side)
    drawn = draws(image)
    affine, waves = (
        _warps.affine_places(image, farthest, drawn),
        _warps.wavy_places(image, strength, sigma, drawn),
    )
    expected = image[0, 0].numpy()
    for places, mode in ((affine, "mirror"), (waves, "reflect")):
        expected = ndimage.map_coordinates(expected, [p[0].numpy() for p in places], order=1, mode=mode)
    found = corrupt("elastic_transform", image, severity, seeded())[0, 0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("side", "table"),
    [
        (9, (0.95, 0.9, 0.85, 0.75, 0.65)),
        (28, (0.95, 0.9, 0.85, 0.75, 0.65)),
        (224, (0.6, 0.5, 0.4, 0.3, 0.25)),
    ],
)
@every_severity
def test_pixelate_is_pillows_box_filter_there_and_back(side, table, severity):
    image = noise_image(side).float()
    small = int(side * table[severity - 1])
    picture = Image.fromarray(image[0, 0].numpy())
    expected = picture.resize((small, small), Image.Resampling.BOX).resize((side, side), Image.Resampling.BOX)
    found = corrupt("pixelate", image, severity)[0, 0]
    np.testing.assert_allclose(found.numpy(), np.asarray(expected), atol=1e-6)


@pytest.mark.parametrize(("side", "table"), [(28, (80, 65, 58, 50, 40)), (224, (25, 18, 15, 10, 7))])
@pytest.mark.parametrize("channels", [1, 2, 3])
@every_severity
def test_jpeg_is_pillows_round_trip_at_the_tabled_quality(side, table, channels, severity):
    raw = (noise_image(side, channels)[0] * 255).round().to(torch.uint8).numpy()
    pictures = [raw.transpose(1, 2, 0)] if channels == 3 else list(raw)
    read = []
    for picture in pictures:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=table[severity - 1])
        read.append(np.asarray(Image.open(file)))
    expected = read[0].transpose(2, 0, 1) if channels == 3 else np.stack(read)
    found = corrupt("jpeg_compression", torch.from_numpy(raw)[None].float() / 255, severity)[0]
    np.testing.assert_allclose(found.numpy(), expected / np.float32(255), atol=1e-6)


def test_jpeg_rounds_to_the_nearest_of_256_levels():
    whole = (noise_image(28) * 255).round() / 255
    for off in (-0.45, 0.45):
        near = (whole + off / 255).clamp(0, 1)
        assert torch.equal(corrupt("jpeg_compression", near, 1), corrupt("jpeg_compression", whole, 1))


# --- what is refused -------------------------------------------------------------------------------------------


def test_an_unknown_name_gets_the_closest_ones():
    with pytest.raises(UnknownNameError, match=r"known corruption, got 'gausian_noise'; try gaussian_noise"):
        corrupt("gausian_noise", flat(0.5), 1)


@pytest.mark.parametrize("severity", [-1, 6, 2.0, 1.5, "3", True, None])
def test_a_severity_is_a_whole_number_from_0_to_5(severity):
    with pytest.raises(InputError, match=r"expected a whole severity from 0 to 5, got .*; try"):
        corrupt("fog", flat(0.5), severity)


def test_a_severity_may_be_numpys():
    assert torch.equal(corrupt("contrast", flat(0.5), np.int64(3)), flat(0.5))


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "a float tensor"),
        (torch.full((1, 1, 8, 8), 255.0), "inputs in"),
        (torch.full((1, 1, 8, 8), -0.1), "inputs in"),
        (torch.full((1, 1, 8, 8), math.nan), "finite inputs"),
        (torch.zeros(1, 8, 8), "channels, height, width"),
        (np.zeros((1, 1, 8, 8)), "a float tensor"),
    ],
)
@every_name
def test_images_are_checked_by_every_corruption_itself(name, images, expected):
    with pytest.raises(InputError, match=expected):
        CORRUPTIONS[name](images, 1)


@pytest.mark.parametrize("generator", [3, [seeded()], [seeded()] * 3, [1, 2], "ab", np.random.default_rng(0)])
def test_generators_are_one_or_one_a_row(generator):
    with pytest.raises(InputError, match=r"generator"):
        corrupt("fog", flat(0.5, n=2), 1, generator)


# --- on a trained network --------------------------------------------------------------------------------------


def test_the_zoos_accuracy_falls_with_severity(shipped):
    model = load_model("fmnist-cnn-standard")

    def accuracy(images):
        with torch.no_grad():
            return (model(images).argmax(1) == shipped.labels).double().mean().item()

    def mean(severity):
        return np.mean([accuracy(corrupt(name, shipped.inputs, severity, rows(100))) for name in CORRUPTIONS])

    clean, mild, hard = accuracy(shipped.inputs), mean(1), mean(5)
    assert clean > mild + 0.005
    assert mild > hard + 0.08
