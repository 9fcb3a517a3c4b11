"""AutoAttack's parts against the reference implementation, pyautoattack, fed the same noise: verdict by verdict."""

import logging

import pytest
import torch

from robustgeom.attacks import ATTACKS
from robustgeom.data.load import load_dataset
from robustgeom.harness.engine import engine
from robustgeom.harness.suite import load_suite
from robustgeom.harness.target import Target
from robustgeom.models.load import load_model
from robustgeom.threat import ThreatModel, distance

reference = pytest.importorskip("pyautoattack")
logging.getLogger("auto-attack").setLevel(logging.ERROR)
SEED = 3
NAMES = {"linf": "Linf", "l2": "L2", "l1": "L1"}


def standing(model, n):
    data = load_dataset("fashion-mnist", split="eval", limit=n)
    with torch.no_grad():
        right = model(data.inputs).argmax(1) == data.labels
    return data.take(right.nonzero().squeeze(1))


def their_attack(model, attack, norm, eps):
    """The reference's attack with the settings of its version `standard`."""
    whole = reference.AutoAttack(model, eps=eps, norm=NAMES[norm], seed=SEED, version="standard")
    found = {"apgd": whole.apgd, "apgd_t": whole.apgd_targeted, "fab_t": whole.fab, "square": whole.square}[
        attack
    ]
    found.seed = SEED
    if attack == "apgd":
        found.loss = "ce"
    if attack == "fab_t":
        found.targeted = True
    return found


def settings(attack, norm):
    if norm == "l1":
        return {"apgd": {"restarts": 5}, "apgd_t": {"targets": 5}, "fab_t": {}}[attack] | (
            {"box": "clip"} if attack != "fab_t" else {}
        )
    specs = {spec.attack: spec.settings for spec in load_suite(f"autoattack-{norm}").attacks}
    return specs[attack]


def both(name, attack, norm, eps, n, **change):
    """Verdicts, theirs and ours: our generator is seeded alike and draws in the same order."""
    model = load_model(name)
    data = standing(model, n)
    peer = their_attack(model, attack, norm, eps)
    mine = settings(attack, norm) | change
    if "queries" in change:
        peer.n_queries = change["queries"]
    with torch.random.fork_rng(devices=[]):
        theirs = peer.perturb(data.inputs.clone(), data.labels.clone())
    frozen, _ = engine(model, data.inputs)
    target = Target(frozen, data.ids, "none", 0, 10)
    drawn = {} if attack == "fab_t" else {"generator": torch.Generator().manual_seed(SEED)}
    ours = ATTACKS[attack](target, data.inputs, data.labels, threat=ThreatModel(norm, eps), **mine, **drawn)
    assert (distance(ours, data.inputs, norm) <= eps * (1 + 1e-5)).all()
    with torch.no_grad():
        return tuple(model(x).argmax(1) != data.labels for x in (theirs, ours)), target


CASES = [
    pytest.param("fmnist-cnn-standard", "apgd", "linf", 0.03, 96, marks=pytest.mark.slow),
    ("fmnist-cnn-pgd-at", "apgd", "linf", 0.1, 48),
    pytest.param("fmnist-cnn-standard", "apgd", "l2", 0.6, 96, marks=pytest.mark.slow),
    ("fmnist-cnn-standard", "apgd_t", "linf", 0.02, 8),
    pytest.param("fmnist-cnn-standard", "apgd_t", "l2", 0.6, 8, marks=pytest.mark.slow),
    ("fmnist-cnn-standard", "fab_t", "linf", 0.02, 8),
    pytest.param("fmnist-cnn-standard", "fab_t", "l2", 0.6, 8, marks=pytest.mark.slow),
    pytest.param("fmnist-cnn-standard", "fab_t", "l1", 4.0, 6, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "attack", "norm", "eps", "n"), CASES)
def test_verdicts_are_the_references(name, attack, norm, eps, n):
    (theirs, ours), _ = both(name, attack, norm, eps, n)
    assert 0 < theirs.sum() < len(theirs)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), pytest.param("l2", 1.0, marks=pytest.mark.slow)])
def test_square_decides_as_the_reference(norm, eps):
    (theirs, ours), target = both("fmnist-cnn-standard", "square", norm, eps, 48, queries=500)
    assert 5 < theirs.sum() < len(theirs)
    assert torch.equal(ours, theirs)
    assert target.forward_calls.max() <= 1.6 * 501


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["apgd", "apgd_t"])
def test_in_l1_single_rows_may_differ_as_zero_is_rounded_there(attack):
    """The reference counts changed components with rounding errors among them, so its sparse steps differ."""
    (theirs, ours), _ = both("fmnist-cnn-standard", attack, "l1", 5.0, 24 if attack == "apgd" else 6)
    assert (ours != theirs).sum() <= 1


def test_fooled_rows_cost_nothing_more():
    (theirs, _), target = both("fmnist-cnn-standard", "apgd", "linf", 0.1, 64)
    assert theirs.float().mean() > 0.9
    assert target.forward_calls[theirs].float().mean() < 10  # the reference makes 102 for each
