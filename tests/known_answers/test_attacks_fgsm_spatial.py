"""FGSM and MI-FGSM where the worst case is known, and against other libraries; rotations and shifts as planned."""

from functools import cache

import numpy as np
import pytest
import scipy.ndimage
import torch

from robustgeom.attacks.fgsm import fgsm
from robustgeom.attacks.mifgsm import mifgsm
from robustgeom.attacks.spatial import spatial
from robustgeom.data.load import load_dataset
from robustgeom.errors import InputError, UnknownNameError
from robustgeom.models.load import load_model
from robustgeom.threat import ThreatModel, distance

DOUBLE = {"dtype": torch.float64}
RADII = {"linf": (0.03, 0.1, 0.4), "l2": (0.1, 0.5, 1.5), "l1": (0.4, 2.0, 6.0)}
CASES = [(norm, eps) for norm, radii in RADII.items() for eps in radii]


class Linear:
    """Logits x W' + b of two classes, with what was asked."""

    def __init__(self, weight, bias):
        self.weight, self.bias, self.asked = weight, bias, []

    def __call__(self, x):
        self.asked.append((x.detach().clone(), x.requires_grad))
        return x.flatten(1) @ self.weight.T + self.bias


def problem(n=100, d=30, low=0.0, high=1.0, dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(2, d, generator=g, **DOUBLE)
    x = low + (high - low) * torch.rand(n, d, generator=g, **DOUBLE)
    model = Linear(weight.to(dtype), -(x @ weight.T).mean(0).to(dtype))
    x = x.to(dtype)
    return model, x, model(x).argmax(1)


def margins(model, x, y):
    z = x.double() @ model.weight.double().T + model.bias.double()
    return (z.gather(1, y[:, None]) - z.gather(1, 1 - y[:, None])).squeeze(1)


def least_slope(w, x, threat):
    """Return the least w.d over allowed d for each row, by a method of its own for each norm."""
    low, high = threat.domain
    room = np.where(w > 0, x - low, high - x)  # how far a coordinate can go in its useful direction
    size, eps = np.abs(w), threat.eps
    if threat.norm == "linf":
        return -(size * np.minimum(room, eps)).sum(1)
    if threat.norm == "l1":  # a knapsack: the steepest coordinates first, the last one in part
        order = np.argsort(-size, axis=1)
        width = np.take_along_axis(room, order, 1)
        before = np.cumsum(width, axis=1) - width
        used = np.clip(eps - before, 0, width)
        return -(np.take_along_axis(size, order, 1) * used).sum(1)
    lower, upper = np.full(len(w), 1e-9), np.full(len(w), 1e9)
    for _ in range(90):  # the multiplier at which the cut step is as long as the radius
        middle = np.sqrt(lower * upper)
        long = np.linalg.norm(np.minimum(size / middle[:, None], room), axis=1) > eps
        lower, upper = np.where(long, middle, lower), np.where(long, upper, middle)
    return -(size * np.minimum(size / upper[:, None], room)).sum(1)


def exact_margin(model, x, y, threat):
    w = (model.weight[y] - model.weight[1 - y]).double().numpy()
    return margins(model, x, y) + torch.from_numpy(least_slope(w, x.double().numpy(), threat))


# --- FGSM ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "eps"), CASES)
@pytest.mark.parametrize("loss", ["margin", "scaled-ce"])
@pytest.mark.parametrize("low", [0.0, -1.0])
def test_fgsm_is_the_exact_worst_case_of_a_linear_model(norm, eps, loss, low):
    model, x, y = problem(low=low)
    threat = ThreatModel(norm, eps, (low, 1.0))
    found = fgsm(model, x, y, threat=threat, loss=loss)
    exact = exact_margin(model, x, y, threat)
    torch.testing.assert_close(margins(model, found, y), exact, rtol=0, atol=2e-6)
    assert (distance(found, x, norm) <= eps * (1 + 1e-9)).all()


@pytest.mark.parametrize(("norm", "eps"), CASES)
def test_fgsm_in_float32_is_the_worst_case_to_five_digits(norm, eps):
    model, x, y = problem(dtype=torch.float32)
    threat = ThreatModel(norm, eps)
    found = fgsm(model, x, y, threat=threat, loss="margin")
    assert found.dtype == torch.float32
    fall = margins(model, x, y) - exact_margin(model, x, y, threat)
    reached = margins(model, x, y) - margins(model, found, y)
    assert (reached / fall > 1 - 2e-5).all()
    assert (distance(found, x, norm) <= eps * (1 + 1e-5)).all()


def test_fgsm_asks_once_and_leaves_what_is_wrong_already():
    model, x, y = problem()
    y[::3] = 1 - y[::3]
    model.asked.clear()
    seen = []
    found = fgsm(model, x, y, threat=ThreatModel("linf", 0.1), watch=seen.append)
    assert [(len(points), wants) for points, wants in model.asked] == [(100, True)]
    assert torch.equal(found[::3], x[::3])
    assert (found != x).any(1).sum() == 100 - 34
    assert seen[0].fooled.nonzero().flatten().tolist() == list(range(0, 100, 3))


def test_fgsm_takes_its_gradient_from_the_source_and_one_radius_a_row():
    model, x, y = problem()
    radii = torch.linspace(0, 0.3, len(x), **DOUBLE)

    def blocked(points):
        return model(points.detach())

    found = fgsm(blocked, x, y, threat=ThreatModel("linf", radii), source=model, loss="margin")
    for i in (0, 7, 50, 99):
        alone = fgsm(model, x[[i]], y[[i]], threat=ThreatModel("linf", float(radii[i])), loss="margin")
        assert torch.equal(found[[i]], alone)


# --- MI-FGSM ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "eps"), CASES)
@pytest.mark.parametrize("loss", ["margin", "ce"])
def test_mifgsm_decides_as_the_closed_form_does(norm, eps, loss):
    model, x, y = problem()
    threat = ThreatModel(norm, eps)
    found = mifgsm(model, x, y, threat=threat, loss=loss)
    exact = exact_margin(model, x, y, threat)
    assert (distance(found, x, norm) <= eps * (1 + 1e-9)).all()
    assert torch.equal(margins(model, found, y) <= 0, exact <= 0)


def test_mifgsm_follows_the_recursion_of_the_paper():
    """A curved loss: each query is checked against the recursion, written out in numpy."""
    g = torch.Generator().manual_seed(1)
    x = 0.3 + 0.4 * torch.rand(5, 6, generator=g, **DOUBLE)
    goal = torch.rand(6, generator=g, **DOUBLE)
    asked = []

    def bowl(points):
        asked.append(points.detach().clone())
        score = 5 - ((points - goal) ** 2 * torch.arange(1, 7)).sum(1)
        return torch.stack([score, torch.zeros_like(score)], 1)

    size, decay, eps = 0.03, 0.7, 0.1
    settings = {"steps": 8, "step_size": size, "decay": decay, "loss": "margin"}
    mifgsm(bowl, x, torch.zeros(5, dtype=torch.long), threat=ThreatModel("linf", eps), **settings)
    point, velocity = x.numpy(), 0.0
    for query in asked:
        np.testing.assert_allclose(query, point, rtol=0, atol=1e-12)
        slope = 2 * (point - goal.numpy()) * np.arange(1, 7)
        velocity = decay * velocity + slope / np.abs(slope).sum(1, keepdims=True)
        point = np.clip(point + size * np.sign(velocity), x.numpy() - eps, x.numpy() + eps).clip(0, 1)
    assert len(asked) == 9


def test_mifgsm_starts_from_the_input_and_then_from_random_points():
    model, x, _ = problem(n=4)
    y = torch.zeros(4, dtype=torch.long)
    safe = Linear(model.weight, torch.tensor([1e3, 0.0], **DOUBLE))
    mifgsm(safe, x, y, threat=ThreatModel("l2", 0.3), steps=3, restarts=3)
    starts = [safe.asked[i][0] for i in (0, 4, 8)]
    assert torch.equal(starts[0], x)
    for start in starts[1:]:
        assert (distance(start, x, "l2") > 0.1).all()
    assert not torch.equal(starts[1], starts[2])
    assert len(safe.asked) == 12


@pytest.mark.parametrize("change", [{"step_size": 0.0}, {"step_size": float("nan")}, {"decay": -0.1}])
def test_mifgsm_refuses_steps_and_memories_that_make_no_sense(change):
    model, x, y = problem(n=4)
    with pytest.raises(InputError, match=r"expected a finite (step_size > 0|decay >= 0), got .*; try "):
        mifgsm(model, x, y, threat=ThreatModel("linf", 0.1), **change)


# --- against other libraries, on the zoo --------------------------------------------------------------------------


@cache
def zoo(name="fmnist-cnn-pgd-at", count=64):
    data = load_dataset("fashion-mnist", split="eval", limit=count)
    return load_model(name), data.inputs, data.labels


def standing(model, x, y):
    with torch.no_grad():
        return model(x).argmax(1) == y


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["fmnist-cnn-pgd-at", "fmnist-cnn-standard"])
def test_fgsm_and_mifgsm_fool_as_many_as_torchattacks(name):
    torchattacks = pytest.importorskip("torchattacks")
    model, x, y = zoo(name)
    eps = {"fmnist-cnn-pgd-at": 0.1, "fmnist-cnn-standard": 0.02}[name]
    threat, clean = ThreatModel("linf", eps), standing(model, x, y)
    theirs, ours = torchattacks.FGSM(model, eps=eps)(x, y), fgsm(model, x, y, threat=threat)
    torch.testing.assert_close(ours[clean], theirs[clean], rtol=0, atol=1e-6)
    assert standing(model, ours, y).sum() <= standing(model, theirs, y).sum() < clean.sum()
    reference = torchattacks.MIFGSM(model, eps=eps, alpha=eps / 4, steps=10, decay=1.0)(x, y)
    found = mifgsm(model, x, y, threat=threat, steps=10)
    assert standing(model, found, y).sum() <= standing(model, reference, y).sum()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("norm", "eps"), [("l2", 1.5), ("l1", 12.0)])
def test_fgsm_and_mifgsm_fool_as_many_as_foolbox(norm, eps):
    foolbox = pytest.importorskip("foolbox")
    model, x, y = zoo()
    one, many = {
        "l2": (foolbox.attacks.L2FastGradientAttack(), foolbox.attacks.L2BasicIterativeAttack),
        "l1": (foolbox.attacks.L1FastGradientAttack(), foolbox.attacks.SparseL1DescentAttack),
    }[norm]
    wrapped, threat = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu"), ThreatModel(norm, eps)
    many = many(steps=10, rel_stepsize=0.25, random_start=False)
    for attack, reference in ((fgsm, one), (mifgsm, many)):
        fooled = reference(wrapped, x, y, epsilons=eps)[2]
        assert standing(model, attack(model, x, y, threat=threat), y).sum() <= (~fooled).sum()


# --- rotations and shifts -----------------------------------------------------------------------------------------

FULL = ThreatModel("spatial", 1)
SEARCHES = pytest.mark.parametrize("settings", [{}, {"search": "gradient"}], ids=str)


def rows(n, seed=0):
    return [torch.Generator().manual_seed(1000 * seed + i) for i in range(n)]


def resampled(image, degrees, right, down):
    """Rotate about the centre, then shift by pixels, with scipy: linear blends, the edge repeated."""
    angle, centre = np.deg2rad(degrees), (np.array(image.shape) - 1) / 2
    back = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])  # rows, then columns
    offset = centre - back @ (centre + np.array([down, right]))
    return scipy.ndimage.affine_transform(image, back, offset, order=1, mode="nearest")


@pytest.mark.parametrize("shape", [(9, 9), (8, 12), (13, 6)])
def test_every_candidate_is_what_scipy_makes_of_the_image(shape):
    x = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(0), **DOUBLE)
    asked = []

    def firm(points):
        asked.append(points.detach().clone())
        return torch.tensor([[1.0, 0.0]], **DOUBLE).expand(len(points), 2)

    half = ThreatModel("spatial", 0.5)
    settings = {"max_rotation": 40, "max_shift": 0.2, "angles": 3, "shifts": 3}
    spatial(firm, x, torch.zeros(2, dtype=torch.long), threat=half, **settings)
    assert torch.equal(asked[0], x)
    candidates = torch.cat(asked[1:]).view(2, 26, *shape).numpy()
    for image, ours in zip(x[:, 0].numpy(), candidates, strict=True):
        wanted = [
            resampled(image, degrees, right, down)
            for degrees in (-20, 0, 20)
            for right in (-0.1 * shape[1], 0, 0.1 * shape[1])
            for down in (-0.1 * shape[0], 0, 0.1 * shape[0])
        ]
        gaps = np.array([np.abs(ours - w).max(axis=(1, 2)).min() for w in wanted])
        # One of them is the image itself, which was the first query.
        assert (np.delete(gaps, 13) < 1e-9).all()


def dot_images(n, side=21):
    x = torch.zeros(n, 1, side, side, **DOUBLE)
    x[:, :, side // 2, side // 2] = 0.8
    return x


def column_of(points):
    """Return the mean column (n,) of the brightness, from the centre, in pixels."""
    side = points.shape[-1]
    columns = torch.arange(side, dtype=points.dtype) - (side - 1) / 2
    return (points.sum((1, 2)) * columns).sum(1) / points.sum((1, 2, 3))


@SEARCHES
@pytest.mark.parametrize("side", [-1, 1])
def test_a_model_that_looks_at_the_place_falls_exactly_where_the_shift_suffices(settings, side):
    """The label holds up to 3 pixels to one side; a shift of max_shift * 21 * eps pixels is allowed."""
    radii = torch.tensor([0.0, 0.3, 0.7, 0.74, 0.76, 0.9, 1.0], **DOUBLE)
    x, y = dot_images(len(radii)), torch.zeros(len(radii), dtype=torch.long)

    def model(points):
        return torch.stack([torch.full((len(points),), 3.0, **DOUBLE), side * column_of(points)], 1)

    limits = {"max_shift": 4 / 21, "max_rotation": 0.0}
    found = spatial(model, x, y, threat=ThreatModel("spatial", radii), **limits, **settings)
    assert (model(found).argmax(1) == 1).tolist() == (4 * radii > 3).tolist()
    reached = side * column_of(found)
    torch.testing.assert_close(reached[:4], 4 * radii[:4], rtol=0, atol=1e-6)  # the worst, where none fools
    assert torch.equal(found[0], x[0])


def direction_of(points):
    """Return the direction (n,) of the longest axis of each image, in degrees from the horizontal."""
    side = points.shape[-1]
    place = torch.arange(side, dtype=points.dtype) - (side - 1) / 2
    weight = points[:, 0]
    across, along = place[None, :], place[:, None]
    xx, yy, xy = ((weight * m).sum((1, 2)) for m in (across**2, along**2, across * along))
    return torch.rad2deg(torch.atan2(2 * xy, xx - yy)) / 2


@SEARCHES
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_model_that_looks_at_the_angle_falls_where_the_rotation_suffices(settings, sign):
    """A bar may turn by 12 degrees; resampling moves what is measured by less than one."""
    x = torch.zeros(8, 1, 33, 33, **DOUBLE)
    x[:, :, 14:19, 4:29] = 1.0
    radii = torch.tensor([0.0, 0.2, 0.36, 0.44, 0.5, 0.7, 0.9, 1.0], **DOUBLE)

    def model(points):
        return torch.stack([torch.full((len(points),), 12.0, **DOUBLE), sign * direction_of(points)], 1)

    y, threat = torch.zeros(8, dtype=torch.long), ThreatModel("spatial", radii)
    found = spatial(model, x, y, threat=threat, max_rotation=30, max_shift=0.0, **settings)
    assert (model(found).argmax(1) == 1).tolist() == (30 * radii > 12).tolist()


@SEARCHES
def test_no_pixel_leaves_the_range_of_its_image_nor_the_domain(settings):
    """Fill with zero would: here the domain does not hold it."""
    x = 0.2 + 0.7 * torch.rand(6, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    x[0] = 0.9
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(189, 3)).requires_grad_(False)
    threat = ThreatModel("spatial", 1, (0.2, 0.9))
    found = spatial(model, x, model(x).argmax(1), threat=threat, **settings)
    assert found.dtype == x.dtype
    assert found.shape == x.shape
    assert (found != x).any()
    assert (found.amin((2, 3)) >= x.amin((2, 3)) - 1e-6).all()
    assert (found.amax((2, 3)) <= x.amax((2, 3)) + 1e-6).all()
    assert found.min() >= 0.2
    assert found.max() <= x.max()


@SEARCHES
def test_radius_zero_returns_the_images_themselves(settings):
    model, x, y = zoo()
    threat = ThreatModel("spatial", 0)
    found = spatial(model, x[:8], y[:8], threat=threat, angles=5, shifts=3, **settings)
    assert torch.equal(found, x[:8])


def test_the_grid_costs_what_it_says_and_counts_nothing_twice():
    x, y = dot_images(3), torch.zeros(3, dtype=torch.long)
    for limits, expected in (({}, 45), ({"max_shift": 0.0}, 5), ({"max_rotation": 0}, 9)):
        calls = torch.zeros(3)

        class Counting:
            def at(self, chosen, draws, calls=calls):
                calls.index_add_(0, chosen, torch.ones(len(chosen)))
                return lambda points: torch.tensor([[1.0, 0.0]], **DOUBLE).expand(len(points), 2)

        spatial(Counting(), x, y, threat=FULL, angles=5, shifts=3, **limits)
        assert calls.tolist() == 3 * [expected]


@SEARCHES
@pytest.mark.parametrize("eot", [1, 2])
def test_a_row_with_its_own_generator_does_not_see_the_other_rows(settings, eot):
    _, x, y = zoo()
    model, x, eps = load_model("fmnist-cnn-pgd-at").double(), x.double()[:8], torch.linspace(0.05, 0.4, 8)
    settings = {"angles": 3, "shifts": 3, "steps": 3, "restarts": 2, "eot": eot} | settings

    def attack(chosen):
        mine = [rows(8)[i] for i in chosen]
        threat = ThreatModel("spatial", eps[chosen])
        return spatial(model, x[chosen], y[chosen], threat=threat, generator=mine, **settings)

    whole = attack(list(range(8)))
    for chosen in ([7], [5, 2, 0]):
        torch.testing.assert_close(attack(chosen), whole[chosen], rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", [0, 1])
@SEARCHES
def test_empty_batches_and_single_images_are_served(settings, n):
    model, x, y = zoo()
    assert spatial(model, x[:n], y[:n], threat=FULL, angles=3, shifts=3, **settings).shape == (n, 1, 28, 28)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": torch.zeros(2, 28)}, r"expected images \(n, channels, height, width\), got"),
        ({"inputs": torch.zeros(2, 1, 28)}, r"expected images \(n, channels, height, width\), got"),
        (
            {"threat": ThreatModel("spatial", 1.5)},
            r"expected a spatial eps in \[0, 1\], .* got 1.5; try eps=1",
        ),
        ({"threat": ThreatModel("linf", 0.1)}, "expected a threat in spatial, which this attack serves"),
        ({"max_rotation": -1.0}, "expected max_rotation from 0 to 180, got -1.0"),
        ({"max_shift": 1.2}, "expected max_shift from 0 to 1, got 1.2"),
        ({"max_shift": float("nan")}, "expected max_shift from 0 to 1, got nan"),
        ({"angles": 0}, "expected angles >= 1"),
    ],
)
def test_bad_settings_are_refused(change, message):
    arguments = {"inputs": torch.zeros(2, 1, 28, 28), "threat": FULL} | change
    with pytest.raises(InputError, match=message):
        spatial(None, arguments.pop("inputs"), torch.zeros(2, dtype=torch.long), **arguments)


def test_an_unknown_search_is_refused_with_the_closest():
    with pytest.raises(UnknownNameError, match="known search, got 'gird'; try grid"):
        spatial(None, torch.zeros(2, 1, 8, 8), torch.zeros(2).long(), threat=FULL, search="gird")


@pytest.mark.filterwarnings("ignore")
def test_the_grid_fools_as_many_as_the_same_grid_of_art():
    """ART takes one move for its whole batch, cubic blends and black corners; here one image at a time."""
    evasion = pytest.importorskip("art.attacks.evasion")
    estimators = pytest.importorskip("art.estimators.classification")
    model, x, y = zoo(count=20)
    wrapped = estimators.PyTorchClassifier(
        model, torch.nn.CrossEntropyLoss(), (1, 28, 28), 10, clip_values=(0, 1), device_type="cpu"
    )
    share = {"max_translation": 100 * 1 / 28, "num_translations": 3, "max_rotation": 10, "num_rotations": 3}
    theirs = torch.cat(
        [
            torch.from_numpy(
                evasion.SpatialTransformation(wrapped, **share, verbose=False).generate(image[None].numpy())
            )
            for image in x
        ]
    )
    limits = {"max_rotation": 10, "max_shift": 1 / 28, "angles": 3, "shifts": 3}
    ours = spatial(model, x, y, threat=FULL, **limits)
    # An image that is wrong from the start is not attacked by ART: it turns it till its prediction changes.
    clean = standing(model, x, y)
    assert (
        (standing(model, ours, y) & clean).sum() <= (standing(model, theirs, y) & clean).sum() < clean.sum()
    )
