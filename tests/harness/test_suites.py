"""The suites beyond plain gradients: what minimum-norm, corruption, transfer and other libraries' attacks become."""

import numpy as np
import pytest
import torch
from torch import nn

from robustgeom.attacks.ddn import ddn
from robustgeom.data.load import load_dataset
from robustgeom.errors import ContentError, InputError, UnknownNameError
from robustgeom.harness.evaluate import evaluate
from robustgeom.harness.options import RunOptions
from robustgeom.harness.spec import AttackSpec
from robustgeom.harness.suite import load_suite
from robustgeom.harness.target import Target
from robustgeom.models.bpda import bpda
from robustgeom.models.load import load_model
from robustgeom.models.noise import GaussianNoise
from robustgeom.threat import ThreatModel, distance

QUIET = {"analyze": False}


def only(suite, *names, **change):
    found = load_suite(suite)
    return found.model_copy(update={"attacks": [s for s in found.attacks if s.name in names], **change})


def rows(record, **wanted):
    table = record.samples.to_pylist()
    return [r for r in table if all(r[k] == v for k, v in wanted.items())]


# --- minimum norm -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nearest():
    return evaluate(
        "fmnist-cnn-standard",
        "fashion-mnist",
        only("minimum-norm-l2", "ddn"),
        options=RunOptions(n=32, **QUIET),
    )


def test_one_pass_gives_the_whole_curve(nearest):
    grid = [r for r in nearest.header.threat.grid if r > 0]
    spent = [sum(r["backward_calls"] for r in rows(nearest, attack="ddn", radius=radius)) for radius in grid]
    assert spent[0] > 0
    assert spent[1:] == [0] * (len(grid) - 1)
    judged = rows(nearest, attack="ddn", radius=grid[-1])
    assert all(r["forward_calls"] == 1 for r in judged)


def test_the_curve_is_the_distribution_of_distances(nearest):
    data, model = load_dataset("fashion-mnist", split="eval").balanced(32), load_model("fmnist-cnn-standard")
    target = Target(model, data.ids, "none", 0, 10)
    found = ddn(target, data.inputs, data.labels, threat=ThreatModel("l2", 1), steps=100)
    reach = distance(found, data.inputs, "l2").numpy()
    with torch.no_grad():
        right = (model(data.inputs).argmax(1) == data.labels).numpy()
    for radius in nearest.header.threat.grid[1:]:
        # Points scaled back to the radius may fool as well, and near ties may go either way.
        expected = right & (reach > radius * 1.02)
        assert (nearest.robust_mask(radius) & ~expected & (np.abs(reach / radius - 1) > 0.02)).sum() == 0
        assert (expected & ~nearest.robust_mask(radius)).sum() <= 1


def test_no_reported_point_is_outside_its_radius(nearest):
    for row in nearest.samples.to_pylist():
        assert row["l2"] <= row["radius"] * (1 + 1e-5) or row["attack"] == "clean"
    assert next(c for c in nearest.checks if c.name == "attack bounds").status == "pass"


def test_components_are_counted_in_l0():
    suite = only("minimum-norm-l0", "sigma-zero")
    record = evaluate("fmnist-cnn-standard", "fashion-mnist", suite, options=RunOptions(n=24, **QUIET))
    curve = [record.robust_accuracy_at(r).value for r in record.header.threat.grid]
    assert curve == sorted(curve, reverse=True)
    assert curve[0] > 0.8
    assert curve[-1] < 0.3


# --- corruptions and rotations ------------------------------------------------------------------------------------


def test_every_sample_meets_every_corruption_and_accuracies_are_their_own():
    suite = only("corruptions", "fog", "contrast", "jpeg-compression")
    record = evaluate("fmnist-cnn-standard", "fashion-mnist", suite, options=RunOptions(n=40, **QUIET))
    assert record.header.threat.grid == [0, 1, 2, 3, 4, 5]
    for spec in suite.attacks:
        for severity in range(1, 6):
            met = rows(record, attack=spec.name, radius=float(severity))
            assert len(met) == 40
            share = np.mean([r["prediction"] == r["label"] for r in met])
            assert record.accuracy_under(spec.name, severity).value == pytest.approx(share)
    fog = [record.accuracy_under("fog", s).value for s in (1, 5)]
    assert fog[1] < fog[0]
    worst = record.robust_accuracy.value
    assert worst <= min(record.accuracy_under(s.name, 5).value for s in suite.attacks)
    assert sum(r["backward_calls"] for r in record.samples.to_pylist()) == 0


def test_accuracy_under_an_attack_that_spares_the_fallen_is_refused(nearest):
    with pytest.raises(InputError, match="expected an attack that met every sample"):
        nearest.accuracy_under("ddn", nearest.header.threat.grid[-1])
    with pytest.raises(
        UnknownNameError, match="expected the name of a known attack of this record, got 'dnd'"
    ):
        nearest.accuracy_under("dnd", 1.5)


def test_corruptions_are_the_same_whatever_the_batch():
    suite = only("corruptions", "gaussian-noise", "glass-blur")
    both = [
        evaluate(
            "fmnist-cnn-standard",
            "fashion-mnist",
            suite,
            options=RunOptions(n=40, batch_size=b, eps=3, **QUIET),
        )
        for b in (32, 64)
    ]
    moved = [[r["l2"] for r in record.samples.to_pylist()] for record in both]
    assert moved[0] == moved[1]


@pytest.mark.parametrize("norm", ["corruptions", "spatial"])
def test_no_attack_of_your_own_where_nothing_can_check_it(norm):
    with pytest.raises(InputError, match="the suite's own attacks"):
        evaluate("fmnist-cnn-standard", suite=norm, options=RunOptions(n=8, attacks=("torchattacks:PGD",)))


def test_severities_are_whole():
    with pytest.raises(InputError, match=r"expected a severity from 1 to 5, got 2\.5"):
        evaluate("fmnist-cnn-standard", suite="corruptions", options=RunOptions(n=8, eps=2.5))


def test_rotations_and_shifts_are_one_suite():
    record = evaluate("fmnist-cnn-standard", suite=only("spatial", "grid"), options=RunOptions(n=16, **QUIET))
    curve = [record.robust_accuracy_at(r).value for r in (0, 0.25, 1)]
    assert curve == sorted(curve, reverse=True)
    assert curve[-1] < curve[0]


# --- transfer, BPDA, other libraries ------------------------------------------------------------------------------


def test_gradients_transfer_from_a_surrogate_and_success_is_the_models():
    suite = only("black-box-linf", "transfer")
    options = {"n": 48, "eps": 0.1, **QUIET}
    there = evaluate("fmnist-cnn-standard", suite=suite, options=RunOptions(**options))
    white = evaluate("fmnist-cnn-standard", suite="quick-linf", options=RunOptions(**options))
    assert white.robust_accuracy.value < there.robust_accuracy.value < there.accuracy.value
    spent = rows(there, attack="transfer")
    assert sum(r["backward_calls"] for r in spent) > 0
    own = evaluate(
        "fmnist-cnn-standard", suite=suite, options=RunOptions(**options, surrogate="fmnist-cnn-gaussian")
    )
    assert own.header.resolved["surrogate"] == "fmnist-cnn-gaussian"
    assert own.robust_accuracy.value != there.robust_accuracy.value


def test_a_model_is_not_its_own_surrogate():
    suite = only("black-box-linf", "transfer", "random-search")
    record = evaluate("fmnist-resnet-standard", suite=suite, options=RunOptions(n=8, eps="4/255", **QUIET))
    assert record.header.resolved["attacks_left_out"] == ["transfer"]
    assert (
        "transfer (source model:fmnist-resnet-standard)"
        in next(c for c in record.checks if c.name == "attacks left out").message
    )


def test_a_surrogate_that_you_name_must_fit():
    suite = only("black-box-linf", "transfer")
    with pytest.raises(UnknownNameError, match="fmnist"):
        evaluate("fmnist-cnn-standard", suite=suite, options=RunOptions(n=8, surrogate="fmnist-cnn-standrd"))


class Rounded(nn.Module):
    """Rounds its inputs to eighths ahead of a zoo network: no gradient comes through."""

    def __init__(self):
        super().__init__()
        self.inner = load_model("fmnist-cnn-standard")
        self.variants = {"bpda": lambda x: self.inner(bpda(self.step)(x))}

    @staticmethod
    def step(x):
        return (x * 8).round() / 8

    def forward(self, x):
        return self.inner(self.step(x))


def test_bpda_breaks_what_rounding_hides():
    model = Rounded().eval()
    options = RunOptions(n=40, eps=0.1, **QUIET)
    blind = load_suite("quick-linf")
    aided = blind.model_copy(
        update={"attacks": [s.model_copy(update={"source": "bpda"}) for s in blind.attacks]}
    )
    hidden, found = (evaluate(model, suite=s, options=options).robust_accuracy.value for s in (blind, aided))
    assert found < hidden - 0.3


def test_bpda_takes_the_gradient_of_the_stand_in():
    x = torch.tensor([0.3, 0.9], requires_grad=True)
    bpda(torch.round, lambda v: v**2)(x).sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach())


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Flatten(), GaussianNoise(784, rho=1.0, key="in"), nn.Linear(784, 10))

    def forward(self, x):
        return self.inner(x)


def test_other_libraries_attacks_are_refused_on_noise_before_anything_runs():
    with pytest.raises(InputError, match="expected a network without noise for torchattacks:PGD"):
        evaluate(Noisy().eval(), options=RunOptions(n=8, attacks=("torchattacks:PGD",)))


def test_a_source_for_an_attack_that_takes_none_is_refused(tmp_path):
    head = 'name = "x"\nversion = 1\ndescription = "x"\nnorm = "linf"\n'
    text = f'{head}[[attacks]]\nname = "a"\nattack = "square"\nsource = "noise-off"\n'
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(ContentError, match="expected no source for square, which takes none"):
        load_suite(str(tmp_path / "x.toml"))


def test_a_norm_that_the_suites_attacks_do_not_serve_is_refused_before_anything_runs():
    with pytest.raises(InputError, match="expected a threat in linf or l2, which this attack serves, got l1"):
        evaluate("fmnist-cnn-standard", suite="autoattack-linf", options=RunOptions(n=8, norm="l1"))


def test_the_headline_suites_meet_the_headlines_only():
    for name in ("autoattack-linf", "fast-l2", "black-box-l2", "stochastic-linf"):
        assert load_suite(name).radii == "headlines"
    record = evaluate(
        "fmnist-cnn-standard", suite=only("fast-linf", "apgd-ce"), options=RunOptions(n=8, **QUIET)
    )
    assert record.header.threat.grid == [0, 8 / 255, 0.1]


def test_autoattack_keeps_the_settings_of_the_reference():
    for norm in ("linf", "l2"):
        found = {s.name: (s.attack, s.settings) for s in load_suite(f"autoattack-{norm}").attacks}
        assert found == {
            "apgd-ce": ("apgd", {"steps": 100, "loss": "ce", "box": "clip"}),
            "apgd-t": ("apgd_t", {"steps": 100, "targets": 9, "box": "clip"}),
            "fab-t": ("fab_t", {"steps": 100, "targets": 9}),
            "square": ("square", {"queries": 5000}),
        }


def test_a_spec_may_name_another_librarys_attack():
    suite = load_suite("quick-linf").model_copy(
        update={"attacks": [AttackSpec(name="theirs", attack="torchattacks:PGD", settings={"steps": 5})]}
    )
    pytest.importorskip("torchattacks")
    record = evaluate("fmnist-cnn-standard", suite=suite, options=RunOptions(n=16, eps=0.1, **QUIET))
    assert record.robust_accuracy.value < record.accuracy.value


# --- noise and ties -----------------------------------------------------------------------------------------------


class Sometimes(nn.Module):
    """Flips its input in half of the passes: two passes may well agree."""

    def __init__(self):
        super().__init__()
        self.inner = load_model("fmnist-cnn-standard")

    def forward(self, x):
        return self.inner(x.flip(3) if torch.rand(()) < 0.5 else x)


def test_noise_that_acts_now_and_then_is_found():
    record = evaluate(Sometimes().eval(), options=RunOptions(n=16, eps="8/255", **QUIET))
    assert record.header.model.noise == "batch"


def test_a_surrogate_of_other_classes_is_left_out_or_refused(tmp_path, monkeypatch):
    (tmp_path / "wide.py").write_text(
        "from torch import nn\n\n\ndef build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()\n"
    )
    monkeypatch.chdir(tmp_path)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 4)).eval()
    data = torch.rand(12, 1, 28, 28), torch.arange(12) % 4
    suite = only("black-box-linf", "transfer", "random-search")
    record = evaluate(model, data, suite, options=RunOptions(eps=0.1, **QUIET))
    assert record.header.resolved["attacks_left_out"] == ["transfer"]
    with pytest.raises(InputError, match="expected a surrogate of 4 classes, got 10"):
        evaluate(model, data, suite, options=RunOptions(eps=0.1, surrogate="wide.py:build", **QUIET))
