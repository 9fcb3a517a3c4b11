"""Distillation objectives against the papers' formulas in numpy, and where their attacks look."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special
from torch import nn

from robustgeom.threat import distance
from robustgeom.training.objectives import objective_settings

spec = importlib.util.spec_from_file_location("objective_toys", Path(__file__).with_name("objective_toys.py"))
toys = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toys)

ATTACKING = ["adaad", "ard", "iad", "rslad"]
NAMES = sorted([*ATTACKING, "kd_clean"])


def log_p(z):
    return special.log_softmax(np.asarray(z, dtype=float), axis=1)


def kl(p, q):
    """From logits p to logits q, a row each."""
    return (np.exp(log_p(p)) * (log_p(p) - log_p(q))).sum(1)


def ce(z, y):
    return -log_p(z)[np.arange(len(y)), y]


def setting(name, **changes):
    """A linear student and its batch, the loss, and what was passed in train mode: (logits of clean and attacked)."""
    model, (x, y) = toys.linear(), toys.batch(9, (6,), dtype=torch.float64)
    model.train()
    loss = toys.loss_of(name, model, (x, y), **changes)
    points = model.points(True)
    model.eval()

    def student(at):
        return model(at).detach().numpy()

    def teacher(at):
        return toys.taught(at).numpy()

    return x, y.numpy(), loss.item(), points, student, teacher


@pytest.mark.parametrize(("temperature", "hard"), [(1.0, 0.0), (4.0, 0.0), (2.5, 0.3), (1.0, 1.0)])
def test_clean_distillation_by_hand(temperature, hard):
    x, y, loss, (seen,), student, teacher = setting("kd_clean", temperature=temperature, hard=hard)
    assert torch.equal(seen, x)
    soft = temperature**2 * kl(teacher(x) / temperature, student(x) / temperature)
    assert loss == pytest.approx(((1 - hard) * soft + hard * ce(student(x), y)).mean(), rel=1e-10)


@pytest.mark.parametrize(("temperature", "hard"), [(30.0, 0.0), (2.0, 0.4)])
def test_ard_by_hand(temperature, hard):
    x, y, loss, (worst, *clean), student, teacher = setting("ard", temperature=temperature, hard=hard)
    assert len(clean) == (hard > 0)
    soft = temperature**2 * kl(teacher(x) / temperature, student(worst) / temperature)
    assert loss == pytest.approx(((1 - hard) * soft + hard * ce(student(x), y)).mean(), rel=1e-10)


@pytest.mark.parametrize("weight", [5 / 6, 0.0, 1.0])
def test_rslad_by_hand(weight):
    x, _, loss, (clean, worst), student, teacher = setting("rslad", weight=weight)
    assert torch.equal(clean, x)
    wanted = weight * kl(teacher(x), student(worst)) + (1 - weight) * kl(teacher(x), student(x))
    assert loss == pytest.approx(wanted.mean(), rel=1e-10)


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_adaad_by_hand(weight):
    x, _, loss, (worst, *clean), student, teacher = setting("adaad", weight=weight)
    assert len(clean) == (weight < 1)
    wanted = weight * kl(teacher(worst), student(worst)) + (1 - weight) * kl(teacher(x), student(x))
    assert loss == pytest.approx(wanted.mean(), rel=1e-10)


@pytest.mark.parametrize(("power", "gated"), [(0.1, False), (0.7, True), (0.0, False)])
def test_iad_by_hand(power, gated):
    x, y, loss, (clean, worst), student, teacher = setting("iad", power=power, gated=gated)
    assert torch.equal(clean, x)
    trust = np.exp(log_p(teacher(worst)))[np.arange(len(y)), y] ** power
    taught = kl(teacher(x), student(worst)) * (trust if gated else 1)
    assert loss == pytest.approx((taught + (1 - trust) * kl(student(x), student(worst))).mean(), rel=1e-10)


@pytest.mark.parametrize("name", ["adaad", "ard", "rslad"])
def test_matching_of_input_gradients_by_hand(name):
    x, _, plain, points, student, teacher = setting(name)
    _, _, loss, more, _, _ = setting(name, igdm=2.0)
    worst, behind = points[-1], more[-1]
    torch.testing.assert_close(behind, 2 * x - worst)
    told, said = (f(worst) - f(behind) for f in (teacher, student))
    assert loss == pytest.approx(plain + 2.0 * kl(told, said).mean(), rel=1e-9)


@pytest.mark.parametrize("name", ATTACKING)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_attack_uses_the_ball_and_stays_in_it(name, norm):
    """A step size and a radius that are mixed up would show here."""
    x, _, _, points, _, _ = setting(name, norm=norm, eps=0.05, steps=10)
    worst = max(points, key=lambda p: float((p - x).abs().max()))
    away = distance(worst, x, norm)
    assert away.max().item() <= 0.05 * (1 + 1e-9)
    assert away.median().item() > 0.049
    assert worst.min() >= 0
    assert worst.max() <= 1


def test_each_attack_climbs_what_its_paper_says():
    """Of the points found by the objectives, each objective's own is where its divergence is largest."""
    found = {name: setting(name, steps=20) for name in ("adaad", "ard", "rslad")}
    x, y, _, _, student, teacher = found["ard"]
    worst = {name: points[0 if name != "rslad" else 1] for name, (_, _, _, points, _, _) in found.items()}
    climbed = {
        "ard": lambda at: ce(student(at), y),
        "rslad": lambda at: kl(teacher(x), student(at)),
        "adaad": lambda at: kl(teacher(at), student(at)),
    }
    for name, loss in climbed.items():
        reached = {other: loss(at).mean() for other, at in worst.items()}
        assert reached[name] >= max(reached.values()) - 1e-9, name
        assert reached[name] > loss(x).mean()


@pytest.mark.parametrize("name", NAMES)
def test_no_gradient_reaches_the_teacher(name):
    teacher, student, data = nn.Linear(64, 3), toys.network(), toys.batch()

    def told(x):
        return teacher(x.flatten(1))

    igdm = {"igdm": 1.0} if "igdm" in objective_settings(name) else {}
    toys.loss_of(name, student, data, teacher=told, **igdm).backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in student.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_clean_inputs(name):
    model, data = toys.linear(), toys.batch(9, (6,), dtype=torch.float64)
    model.train()
    radius = {} if name == "kd_clean" else {"eps": 0.0}
    loss = toys.loss_of(name, model, data, teacher=lambda x: model(x).detach(), **radius)
    assert loss.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ATTACKING)
def test_another_domain_is_respected(name):
    model, (x, y) = toys.linear(), toys.batch(9, (6,), dtype=torch.float64)
    model.train()
    toys.loss_of(name, model, (2 * x - 1, y), eps=0.3, domain=(-1.0, 1.0))
    assert min(p.min().item() for p in model.points(True)) < -0.5
    assert all(p.abs().max() <= 1 for p in model.points(True))
