"""Minimum-norm attacks on linear models, where the nearest point inside the box is known, and against references.

The nearest point of a half-space inside a box, for a gap g to close with slopes w and room r a coordinate: linf is
the level t with sum(|w| min(t, r)) = g; l2 the multiplier with sum(|w| min(t |w|, r)) = g; l1 a fractional knapsack,
steepest first; l0 the fewest coordinates whose |w| r sum to g. Over several classes the nearest counts.
"""

import numpy as np
import pytest
import torch

from robustgeom.attacks._kinds import kind_of
from robustgeom.attacks.ddn import ddn
from robustgeom.attacks.fmn import fmn
from robustgeom.attacks.pdpgd import pdpgd
from robustgeom.attacks.pgd import pgd
from robustgeom.attacks.sigma_zero import sigma_zero
from robustgeom.data.load import load_dataset
from robustgeom.errors import InputError
from robustgeom.models.load import load_model
from robustgeom.threat import ThreatModel, distance

DOUBLE = {"dtype": torch.float64}
ATTACKS = [
    (ddn, "l2"),
    (fmn, "linf"),
    (fmn, "l2"),
    (fmn, "l1"),
    (fmn, "l0"),
    (sigma_zero, "l0"),
    (pdpgd, "l1"),
]
every_attack = pytest.mark.parametrize(("attack", "norm"), ATTACKS)
every_domain = pytest.mark.parametrize("domain", [(0.0, 1.0), (-1.0, 1.0)], ids=str)


class Linear:
    def __init__(self, weight, bias):
        self.weight, self.bias = weight, bias

    def __call__(self, x):
        return x.flatten(1) @ self.weight.T + self.bias


def problem(classes, domain=(0.0, 1.0), n=100, d=30, seed=0, spread=1.0):
    """A random linear model and points in the domain, a part of them on its edges, labelled by what it says."""
    g = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, d, generator=g, **DOUBLE)
    low, high = domain
    x = (0.5 + spread * (torch.rand(n, d, generator=g, **DOUBLE) - 0.5) * 1.4).clamp(0, 1)
    x = low + (high - low) * x
    model = Linear(weight, -(x @ weight.T).mean(0))
    return model, x, model(x).argmax(1)


# --- the exact answer ---------------------------------------------------------------------------------------------


def nearest_distance(w, gap, room, norm):
    """Return the least norm with which moves of at most `room` along -sign(w) lower w . x by `gap`, or infinity."""
    w = np.abs(w)
    gains = w * room
    if gains.sum() < gap:
        return np.inf
    if norm == "l0":
        return 1 + np.searchsorted(np.cumsum(np.sort(gains)[::-1]), gap)
    if norm == "l1":
        order = np.argsort(-w)
        done = np.cumsum(gains[order])
        last = np.searchsorted(done, gap)
        before = done[last] - gains[order][last]
        return room[order][:last].sum() + (gap - before) / w[order][last]
    low, high = 0.0, 1e6
    for _ in range(100):
        level = (low + high) / 2
        move = np.minimum(level if norm == "linf" else level * w, room)
        low, high = (level, high) if (w * move).sum() < gap else (low, level)
    move = np.minimum(high if norm == "linf" else high * w, room)
    return move.max() if norm == "linf" else np.linalg.norm(move)


def exact_distance(model, x, y, norm, domain):
    weight, z, found = model.weight.numpy(), model(x).numpy(), []
    for row, (point, label) in enumerate(zip(x.numpy(), y.tolist(), strict=True)):
        options = []
        for other in set(range(len(weight))) - {label}:
            w = weight[label] - weight[other]
            room = np.where(w > 0, point - domain[0], domain[1] - point)
            options.append(nearest_distance(w, z[row, label] - z[row, other], room, norm))
        found.append(min(options))
    return torch.tensor(found, **DOUBLE)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_closed_form_is_what_a_general_solver_finds(norm):
    from scipy.optimize import linprog, minimize

    model, x, y = problem(2, n=6, d=8)
    exact = exact_distance(model, x, y, norm, (0.0, 1.0))
    for row in range(len(x)):
        w = (model.weight[y[row]] - model.weight[1 - y[row]]).numpy()
        point, z = x[row].numpy(), model(x)[row]
        gap, d = float(z[y[row]] - z[1 - y[row]]), 8
        bounds = [(-p, 1 - p) for p in point]
        if norm == "l2":
            start = np.where(w > 0, -point, 1 - point)
            met = {"type": "ineq", "fun": lambda m, w=w, gap=gap: -w @ m - gap}
            found = np.sqrt(minimize(lambda m: m @ m, start, bounds=bounds, constraints=met, tol=1e-12).fun)
        elif norm == "linf":
            rows = np.block([[np.eye(d), -np.ones((d, 1))], [-np.eye(d), -np.ones((d, 1))], [w, np.zeros(1)]])
            found = linprog([0] * d + [1], rows, [0] * 2 * d + [-gap], bounds=[*bounds, (0, None)]).fun
        else:
            up_down = [(0, b[1]) for b in bounds] + [(0, -b[0]) for b in bounds]
            found = linprog([1] * 2 * d, [[*w, *-w]], [-gap], bounds=up_down).fun
        assert found == pytest.approx(exact[row].item(), rel=1e-5)


# --- linear models ------------------------------------------------------------------------------------------------


def found_distance(attack, model, x, y, norm, domain=(0.0, 1.0), **settings):
    """Return distances of the points found, after all that must hold for them."""
    found = attack(model, x, y, threat=ThreatModel(norm, 0, domain), **settings)
    assert found.shape == x.shape
    assert found.dtype == x.dtype
    assert ((found >= domain[0]) & (found <= domain[1])).all()
    right, size = model(found).argmax(1) == y, distance(found, x, norm)
    assert (size[right] == 0).all()
    return torch.where(right, torch.inf, size)


@every_attack
@every_domain
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_nearest_point_is_found_in_the_box(attack, norm, domain, classes):
    model, x, y = problem(classes, domain, seed=classes)
    exact = exact_distance(model, x, y, norm, domain)
    found = found_distance(attack, model, x, y, norm, domain)
    assert exact.isfinite().all()
    ratio = found / exact
    print(
        attack.__name__,
        norm,
        domain,
        classes,
        ratio.max(),
        ratio.median(),
        (ratio > 1.05).sum(),
        (ratio > 1.001).sum(),
    )
    assert ratio.min() > 1 - 1e-9
    assert ratio.max() < 1.05
