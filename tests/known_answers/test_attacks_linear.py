"""Attacks on linear models, where the worst case is known in closed form.

Over a box, each coordinate of a linear score moves on its own; over a ball and a box together, the minimiser is
clip(-w / 2 lambda) with one multiplier lambda, found by bisection.
"""

from functools import cache

import numpy as np
import pytest
import torch

from robustgeom.attacks.apgd import apgd
from robustgeom.attacks.pgd import pgd
from robustgeom.errors import InputError
from robustgeom.threat import ThreatModel, distance

DOUBLE = {"dtype": torch.float64}


class Linear:
    """Logits x W' + b, as a plain callable."""

    def __init__(self, weight, bias):
        self.weight, self.bias = weight, bias

    def __call__(self, x):
        return x.flatten(1) @ self.weight.T + self.bias


def problem(classes, n=200, d=30, seed=0, low=0.0, high=1.0):
    """A random linear model and points in [low, high], labelled by what it says."""
    g = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, d, generator=g, **DOUBLE)
    x = low + (high - low) * torch.rand(n, d, generator=g, **DOUBLE)
    model = Linear(weight, -(x @ weight.T).mean(0))
    return model, x, model(x).argmax(1)


def margins(model, x, y):
    z = model(x)
    true = z.gather(1, y[:, None]).squeeze(1)
    return true - z.scatter(1, y[:, None], -torch.inf).amax(1)


def least_slope(w, x, threat):
    """Return min over allowed d of w.d for each row of w, x (n, d), exactly."""
    low, high = threat.domain
    down, up = (low - x).numpy(), (high - x).numpy()
    w = w.numpy()
    if threat.norm == "linf":
        down, up = np.maximum(down, -threat.eps), np.minimum(up, threat.eps)
        return torch.from_numpy(np.minimum(w * down, w * up).sum(1))
    steepest = np.where(w > 0, down, up)
    lower, upper = np.full(len(w), 1e-9), np.full(len(w), 1e9)
    for _ in range(70):
        middle = np.sqrt(lower * upper)
        step = np.clip(-w / (2 * middle[:, None]), down, up)
        long = np.linalg.norm(step, axis=1) > threat.eps
        lower, upper = np.where(long, middle, lower), np.where(long, upper, middle)
    reachable = np.linalg.norm(steepest, axis=1) <= threat.eps  # the box alone decides
    step = np.where(reachable[:, None], steepest, np.clip(-w / (2 * upper[:, None]), down, up))
    return torch.from_numpy((w * step).sum(1))


def exact_margin(model, x, y, threat):
    """The smallest margin that any allowed point has: the least over the other classes."""
    found = torch.full((len(x),), torch.inf, **DOUBLE)
    for other in range(len(model.weight)):
        w = model.weight[y] - model.weight[other]
        gap = (w * x).sum(1) + model.bias[y] - model.bias[other] + least_slope(w, x, threat)
        found = torch.where(y == other, found, torch.minimum(found, gap))
    return found


def generators(n, seed=0):
    return [torch.Generator().manual_seed(seed * 10_000 + i) for i in range(n)]


def full_pgd(model, x, y, threat, **settings):
    """PGD that pushes every row all the way, fooled or not."""
    chosen = {"loss": "margin", "stop_when_fooled": False, "steps": 60} | settings
    return pgd(model, x, y, threat=threat, generator=generators(len(x)), **chosen)


# --- the reference itself ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_random_allowed_point_beats_the_closed_form(norm):
    model, x, y = problem(3, n=5)
    threat = ThreatModel(norm, {"linf": 0.2, "l2": 0.8}[norm])
    exact = exact_margin(model, x, y, threat)
    g = torch.Generator().manual_seed(1)
    for _ in range(300):
        d = torch.randn(x.shape, generator=g, **DOUBLE)
        d = threat.eps * (d.sign() if norm == "linf" else d / d.norm(dim=1, keepdim=True))
        assert (margins(model, (x + d).clamp(0, 1), y) >= exact - 1e-9).all()


# --- two classes: the optimum is found exactly -------------------------------------------------------------------


@pytest.mark.parametrize("eps", [8 / 255, 0.1, 0.4, 1.0])
@pytest.mark.parametrize("domain", [(0.0, 1.0), (-1.0, 1.0)])
def test_pgd_finds_the_exact_worst_case_in_linf_where_the_box_binds(eps, domain):
    model, x, y = problem(2, low=domain[0], high=domain[1])
    threat = ThreatModel("linf", eps, domain)
    found = full_pgd(model, x, y, threat)
    torch.testing.assert_close(margins(model, found, y), exact_margin(model, x, y, threat), rtol=0, atol=1e-9)
    w = (model.weight[y] - model.weight[1 - y]).sign()
    torch.testing.assert_close(found, (x - eps * w).clamp(*domain), rtol=0, atol=1e-9)
    assert ((found == domain[0]) | (found == domain[1])).double().mean() > 0.5 * eps / (domain[1] - domain[0])


@pytest.mark.parametrize("loss", ["margin", "ce"])
def test_pgd_finds_the_exact_worst_case_in_l2_away_from_the_box(loss):
    model, x, y = problem(2, low=0.4, high=0.6)
    threat = ThreatModel("l2", 0.3)
    found = full_pgd(model, x, y, threat, loss=loss, step_size=0.3)
    w = model.weight[y] - model.weight[1 - y]
    # At the optimum the margin is flat in the direction, so that is known to half as many digits.
    torch.testing.assert_close(found, x - 0.3 * w / w.norm(dim=1, keepdim=True), rtol=0, atol=1e-7)
    torch.testing.assert_close(margins(model, found, y), exact_margin(model, x, y, threat), rtol=0, atol=1e-9)


def certain(model, y, by=1e3):
    """The same slopes with a bias so large for class `y` that no row is ever fooled and none stops early."""
    bias = model.bias.clone()
    bias[y] += by
    return Linear(model.weight, bias)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("linf", 0.4), ("l2", 0.3)])
@pytest.mark.parametrize("label", [0, 1])
def test_apgd_finds_the_exact_worst_case_of_rows_that_stand(norm, eps, label):
    inner = (0.0, 1.0) if norm == "linf" else (0.4, 0.6)
    base, x, _ = problem(2, low=inner[0], high=inner[1])
    model, y, threat = certain(base, label), torch.full((len(x),), label), ThreatModel(norm, eps)
    found = apgd(model, x, y, threat=threat, steps=60, loss="margin", generator=generators(len(x)))
    excess = margins(model, found, y) - exact_margin(model, x, y, threat)
    assert excess.min() > -1e-9
    # In l2 the step halves to nothing, so the last digits of the direction stay.
    assert excess.max() < (1e-9 if norm == "linf" else 1e-4)


@pytest.mark.parametrize("attack", [pgd, apgd])
def test_ball_and_box_together_come_close_to_the_exact_worst_case(attack):
    """Projection onto the ball, then the box, is not the nearest point of both; still, most of the fall is found."""
    base, x, _ = problem(2)
    model, y, threat = certain(base, 0), torch.zeros(len(x), dtype=torch.long), ThreatModel("l2", 1.5)
    found = attack(model, x, y, threat=threat, steps=100, loss="margin", generator=generators(len(x)))
    clean, exact = margins(model, x, y), exact_margin(model, x, y, threat)
    reached = (clean - margins(model, found, y)) / (clean - exact)
    assert reached.max() < 1 + 1e-9
    assert reached.mean() > 0.96
    assert reached.min() > 0.85


# --- many classes: never below the optimum, and the right verdict -------------------------------------------------


@cache
def contested(share, norm, classes):
    """Return a problem and the radius at which this share of its points is robust, by bisection."""
    model, x, y = problem(classes, n=300, seed=classes)
    low, high = 0.0, 3.0
    for _ in range(15):
        middle = (low + high) / 2
        robust = (exact_margin(model, x, y, ThreatModel(norm, middle)) > 0).double().mean()
        low, high = (middle, high) if robust > share else (low, middle)
    return model, x, y, ThreatModel(norm, low)


# How many of 300 points an attack may miss: an ascent settles on one class, and ball then box is not the nearest
# point of both. Measured: 0 or 1 in linf, up to 1 (Auto-PGD) and 4 (PGD, whose steps stay long) in l2.
MISSES = {(pgd, "linf"): 2, (apgd, "linf"): 2, (pgd, "l2"): 5, (apgd, "l2"): 2}


@pytest.mark.parametrize("attack", [pgd, apgd])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("share", [0.75, 0.5, 0.2])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_margin_attacks_decide_as_the_closed_form_does(attack, norm, share, classes):
    model, x, y, threat = contested(share, norm, classes)
    settings = {"steps": 40, "restarts": 3, "loss": "margin", "generator": generators(len(x))}
    found = attack(model, x, y, threat=threat, **settings)
    exact, reached = exact_margin(model, x, y, threat), margins(model, found, y)
    assert (distance(found, x, norm) <= threat.eps * (1 + 1e-9)).all()
    assert (reached >= exact - 1e-9).all()
    missed = (reached > 0) & (exact <= 0)
    assert not ((reached <= 0) & (exact > 0)).any()
    assert missed.sum() <= (0 if (norm, classes) == ("linf", 2) else MISSES[attack, norm])


@pytest.mark.parametrize("loss", ["ce", "margin"])
@pytest.mark.parametrize("attack", [pgd, apgd])
def test_the_scale_of_the_logits_does_not_change_two_class_verdicts(attack, loss):
    model, x, y = problem(2)
    threat, verdicts = ThreatModel("linf", 0.06), []
    for scale in (1e-3, 1.0, 1e6 if loss == "margin" else 10.0):  # cross-entropy saturates soon after
        scaled = Linear(scale * model.weight, scale * model.bias)
        found = attack(scaled, x, y, threat=threat, steps=40, loss=loss, generator=generators(len(x)))
        verdicts.append(model(found).argmax(1) != y)
    assert torch.equal(verdicts[0], verdicts[1])
    assert torch.equal(verdicts[2], verdicts[1])
    assert torch.equal(verdicts[1], exact_margin(model, x, y, threat) <= 0)


@pytest.mark.parametrize("scale", [0.01, 0.3, 5.0])
def test_a_logit_scale_is_that_of_the_loss_alone(scale):
    model, x, y = problem(10)
    threat = ThreatModel("linf", 0.06)
    settings = {"threat": threat, "steps": 10, "loss": "ce", "stop_when_fooled": False}
    found = pgd(model, x, y, logit_scale=scale, generator=generators(len(x)), **settings)
    scaled = Linear(scale * model.weight, scale * model.bias)
    assert torch.equal(found, pgd(scaled, x, y, generator=generators(len(x)), **settings))
    with pytest.raises(InputError, match="logit_scale > 0"):
        pgd(model, x, y, logit_scale=0.0, **settings)


def test_a_logit_scale_reveals_what_saturation_hides():
    """Cross-entropy of huge logits has no slope in single precision; scaled down it finds what the margin finds."""
    model, x, y = problem(10)
    x, threat = x.float(), ThreatModel("linf", 0.06)
    huge = Linear(1e5 * model.weight.float(), 1e5 * model.bias.float())
    fooled = {}
    for scale in (1.0, 1e-5):
        found = pgd(huge, x, y, threat=threat, logit_scale=scale, generator=generators(len(x)))
        fooled[scale] = (huge(found).argmax(1) != y).sum()
    best = pgd(huge, x, y, threat=threat, loss="margin", generator=generators(len(x)))
    assert fooled[1e-5] >= 0.95 * (huge(best).argmax(1) != y).sum()
    assert fooled[1.0] < 0.7 * fooled[1e-5]


def test_float32_decides_as_float64():
    model, x, y = problem(10, n=300)
    single = Linear(model.weight.float(), model.bias.float())
    threat = ThreatModel("linf", 0.06)
    exact = exact_margin(model, x, y, threat)
    found = full_pgd(single, x.float(), y, threat)
    assert found.dtype == torch.float32
    wrong = single(found).argmax(1) != y
    clear = exact.abs() > 1e-4
    assert (wrong != (exact <= 0))[clear].sum() <= 3


# --- noise: expectation over draws ------------------------------------------------------------------------------


class NoisyLogits(Linear):
    """Logits plus Gaussian noise from a generator of its own."""

    def __init__(self, weight, bias, sigma):
        super().__init__(weight, bias)
        self.sigma, self.generator = sigma, torch.Generator().manual_seed(9)

    def __call__(self, x):
        clean = super().__call__(x)
        return clean + self.sigma * torch.randn(clean.shape, generator=self.generator, dtype=clean.dtype)


@pytest.mark.parametrize("loss", ["margin", "ce"])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.3)])
def test_eot_under_logit_noise_finds_the_noise_free_worst_case(norm, eps, loss):
    """With two classes every draw has the gradient of the noise-free model, up to a positive factor."""
    model, x, y = problem(2, low=0.4, high=0.6)
    noisy = NoisyLogits(model.weight, model.bias, sigma=1.0)
    threat = ThreatModel(norm, eps)
    found = full_pgd(noisy, x, y, threat, loss=loss, eot=8, step_size=eps)
    # The best point kept may be one of the first, by luck of its draws: it then lies short of the optimum.
    clean, exact = margins(model, x, y), exact_margin(model, x, y, threat)
    reached = (clean - margins(model, found, y)) / (clean - exact)
    assert reached.mean() > 0.97
    best = full_pgd(model, x, y, threat, loss=loss, step_size=eps)
    cosine = torch.nn.functional.cosine_similarity(found - x, best - x)
    assert cosine.mean() > 0.99


def test_more_draws_bring_the_direction_closer_with_many_classes():
    model, x, y = problem(5, n=100, low=0.4, high=0.6)
    threat = ThreatModel("l2", 0.3)
    best = full_pgd(model, x, y, threat, loss="ce", step_size=0.3, steps=20)
    cosines = []
    for eot in (1, 32):
        noisy = NoisyLogits(model.weight, model.bias, sigma=3.0)
        found = full_pgd(noisy, x, y, threat, loss="ce", eot=eot, step_size=0.3, steps=20)
        cosines.append(torch.nn.functional.cosine_similarity(found - x, best - x).mean().item())
    assert cosines[1] > 0.9
    assert cosines[1] > cosines[0] + 0.05


# --- blocked gradients: BPDA --------------------------------------------------------------------------------------


class Rounded(Linear):
    """Inputs rounded to sixteenths ahead of the linear map: the gradient is zero everywhere."""

    def __call__(self, x):
        return super().__call__((x * 16).round() / 16)


@pytest.mark.parametrize("attack", [pgd, apgd])
def test_a_source_of_gradients_breaks_a_rounding_front_end(attack):
    model, x, y = problem(2, n=100)
    rounded = Rounded(model.weight, model.bias)
    y = rounded(x).argmax(1)
    threat = ThreatModel("linf", 0.1)
    settings = {"threat": threat, "steps": 40, "loss": "margin"}
    worst = (x - 0.1 * (model.weight[y] - model.weight[1 - y]).sign()).clamp(0, 1)
    exact = margins(rounded, worst, y) <= 0  # rounding is monotone, so the same corner is the worst
    assert 0.2 < exact.double().mean() < 1
    blind = attack(rounded, x, y, generator=generators(100), **settings)
    aided = attack(rounded, x, y, generator=generators(100), source=model, **settings)
    assert (rounded(blind).argmax(1) != y).sum() < 0.5 * exact.sum()
    assert torch.equal(rounded(aided).argmax(1) != y, exact)


class Detached(Linear):
    def __call__(self, x):
        return super().__call__(x.detach())


@pytest.mark.parametrize("attack", [pgd, apgd])
def test_a_model_without_gradients_is_refused_with_advice_unless_a_source_is_given(attack):
    model, x, y = problem(2, n=20)
    detached = Detached(model.weight, model.bias)
    with pytest.raises(InputError, match="logits without a gradient; try source= a differentiable surrogate"):
        attack(detached, x, y, threat=ThreatModel("linf", 0.05), steps=5)
    found = attack(detached, x, y, threat=ThreatModel("linf", 0.05), steps=40, loss="margin", source=model)
    threat = ThreatModel("linf", 0.05)
    assert torch.equal(model(found).argmax(1) != y, exact_margin(model, x, y, threat) <= 0)


def test_success_is_judged_on_the_model_not_on_the_source():
    """A source with opposite slopes leads away: nothing that stood falls, and points that fool are kept."""
    model, x, y = problem(2, n=100)
    reversed_slopes = Linear(-model.weight, model.bias)
    found = pgd(
        model,
        x,
        y,
        threat=ThreatModel("linf", 0.1),
        source=reversed_slopes,
        loss="margin",
        generator=generators(100),
    )
    helped = full_pgd(model, x, y, ThreatModel("linf", 0.1))
    assert (margins(model, found, y) >= margins(model, helped, y) - 1e-9).all()
    assert (model(found).argmax(1) == y).sum() > (model(helped).argmax(1) == y).sum()


# --- restarts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", [pgd, apgd])
def test_restarts_keep_the_worst_point_of_all(attack):
    """A ring of safety around each point: only starts that happen to fall outside lead anywhere."""
    x = torch.full((60, 1), 0.5, **DOUBLE)
    y = torch.zeros(60, dtype=torch.long)

    def ring(points):
        score = (points[:, 0] - 0.5) ** 2 * (1 + 3 * (points[:, 0] > 0.5)) - 0.02
        return torch.stack([-score, score], 1)

    threat = ThreatModel("linf", 0.1)
    counts = []
    for restarts in (1, 8):
        found = attack(
            ring, x, y, threat=threat, steps=20, restarts=restarts, generator=generators(60, seed=1)
        )
        counts.append(int((ring(found).argmax(1) != y).sum()))
    assert 0 < counts[0] < 60
    assert counts[1] == 60
