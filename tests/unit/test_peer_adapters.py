"""Attacks of torchattacks and models of robustbench, through the real packages."""

import os
import pickle
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robustgeom import evaluate
from robustgeom.attacks._torchattacks import _SERVED, _corrected, torchattack, torchattacks_names
from robustgeom.attacks._wrapped import Wrapped
from robustgeom.cli.peers import PEERS
from robustgeom.data.load import load_dataset
from robustgeom.errors import ContentError, InputError, ReferenceNotFoundError, UnknownNameError
from robustgeom.harness.options import RunOptions
from robustgeom.harness.spec import AttackSpec, Suite
from robustgeom.harness.target import Target
from robustgeom.models import robustbench
from robustgeom.models.leaderboard import figures_table
from robustgeom.models.load import load_model
from robustgeom.models.robustbench import (
    load_robustbench,
    robustbench_corruptions,
    robustbench_entries,
    robustbench_figures,
)
from robustgeom.threat import ThreatModel, distance

torchattacks = pytest.importorskip("torchattacks")
pytest.importorskip("timm")

RADII = {"linf": 0.05, "l2": 0.5, "l1": 2.0, "l0": 5.0}
SHORT = {
    "EADEN": {"max_iterations": 10, "binary_search_steps": 2},
    "EADL1": {"max_iterations": 10, "binary_search_steps": 2},
    "OnePixel": {"steps": 1},
    "Pixle": {"restarts": 1, "max_iterations": 1},
    "SPSA": {"nb_sample": 8},
    "Square": {"n_queries": 10},
}
SHORT_NAMES = sorted(set(_SERVED) - {"AutoAttack"})  # which has a test of its own: it takes seconds


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


def problem(name="PGD", dtype=torch.float32, classes=10):
    """A small network, one part of which is in training mode without effect, and images that it gets right."""
    channels = _SERVED[name].channels or 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = nn.Sequential(
            nn.Linear(channels * 64, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, classes)
        )
        model = nn.Sequential(nn.Flatten(), body).to(dtype).eval()
        x = torch.rand(4, channels, 8, 8, dtype=dtype)
    model[0].train()
    with torch.no_grad():
        return model, x, model(x).argmax(1)


def state(model):
    """Everything that an attack must leave alone."""
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": [str(part) for part in np.random.get_state()],
        "python": random.getstate(),
        "trace": sys.gettrace(),
        "gradients on": torch.is_grad_enabled(),
        "modes": [m.training for m in model.modules()],
        "values": [v.tolist() for v in model.state_dict().values()],
        "grads": [None if p.grad is None else p.grad.tolist() for p in model.parameters()],
        "requires grad": [p.requires_grad for p in model.parameters()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
    }


# --- torchattacks: promises of every attack ------------------------------------------------------------------------


def test_all_attacks_of_the_library_are_wrapped_but_for_those_that_are_none():
    unserved = {"VANILA", "GN", "MultiAttack", "LGV"}
    assert set(torchattacks_names()) == set(torchattacks.__all__) - unserved


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_results_stay_in_the_threat_and_nothing_else_moves(name):
    model, x, y = problem(name)
    model[1][0].weight.grad = torch.ones_like(model[1][0].weight)
    model[1][3].bias.requires_grad_(False)
    kept, before = (x.clone(), y.clone()), state(model)
    for norm in _SERVED[name].norms:
        threat = ThreatModel(norm, RADII[norm])
        found, again = (
            torchattack(name)(model, x, y, threat=threat, generator=seeded(), **SHORT.get(name, {}))
            for _ in range(2)
        )
        assert found.shape == x.shape
        assert torch.equal(found, again)
        assert not found.requires_grad
        assert (distance(found, x, norm) <= RADII[norm] * (1 + 1e-5)).all()
        assert found.min() >= 0
        assert found.max() <= 1
    assert state(model) == before
    assert torch.equal(x, kept[0])
    assert torch.equal(y, kept[1])


@pytest.mark.parametrize("name", ["PGD", "APGD", "FAB", "CW", "Square", "Pixle"])
def test_an_error_in_the_model_leaves_everything_as_it_was(name):
    model, x, y = problem(name)
    before = state(model)
    calls = []

    def fails_later(z):
        calls.append(len(z))
        if len(calls) > 5:
            raise MemoryError("for a test")
        return model(z)

    with pytest.raises(MemoryError):
        torchattack(name)(fails_later, x, y, threat=ThreatModel(_SERVED[name].norms[0], 1e-3))
    assert state(model) == before


def test_the_callers_trace_function_stays():
    def tracer(*arguments):
        return None

    model, x, y = problem()
    old = sys.gettrace()
    sys.settrace(tracer)
    try:
        torchattack("PGD")(model, x, y, threat=ThreatModel("linf", 0.1))
        found = sys.gettrace()
    finally:
        sys.settrace(old)
    assert found is tracer


def test_it_works_where_gradients_are_off_and_on_empty_batches():
    model, x, y = problem()
    threat = ThreatModel("linf", 0.1)
    expected = torchattack("PGD")(model, x, y, threat=threat)
    with torch.no_grad():
        assert torch.equal(torchattack("PGD")(model, x, y, threat=threat), expected)
        assert not torch.is_grad_enabled()
    assert torchattack("PGD")(model, x[:0], y[:0], threat=threat).shape == (0, 1, 8, 8)
    assert torchattack("PGD")(model, x[:1], y[:1], threat=threat).shape == (1, 1, 8, 8)


@pytest.mark.parametrize("name", ["PGD", "FAB", "JSMA"])
def test_models_and_inputs_in_double_precision_are_served(name):
    model, x, y = problem(name, dtype=torch.float64)
    norm = _SERVED[name].norms[0]
    found = torchattack(name)(model, x, y, threat=ThreatModel(norm, RADII[norm]))
    assert found.dtype == torch.float64
    assert (distance(found, x, norm) <= RADII[norm] * (1 + 1e-12)).all()


# --- torchattacks: right answers ----------------------------------------------------------------------------------


def test_fgsm_on_a_linear_model_is_the_closed_form():
    weight = torch.randn(6, 2, generator=seeded())
    x, y = 0.3 + 0.4 * torch.rand(5, 6, generator=seeded()), torch.tensor([0, 1, 0, 1, 0])
    found = torchattack("FGSM")(lambda z: z @ weight, x, y, threat=ThreatModel("linf", 0.1))
    rise = (weight[:, 1] - weight[:, 0]).sign() * torch.where(y == 0, 1.0, -1.0)[:, None]
    torch.testing.assert_close(found, x + 0.1 * rise)


@pytest.mark.parametrize("name", ["PGD", "DIFGSM", "APGD"])
def test_it_is_the_library_that_answers(name):
    model, x, y = problem(name)
    seed = int(torch.randint(2**31, (), generator=seeded()))
    extra = {"seed": seed} if name == "APGD" else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        expected = getattr(torchattacks, name)(model.eval(), eps=0.1, **extra)(x, y)
    found = torchattack(name)(model, x, y, threat=ThreatModel("linf", 0.1), generator=seeded())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_autoattack_runs_with_the_originals_settings():
    model, _, _ = problem()
    attacks = _corrected(
        torchattacks.AutoAttack(Wrapped(model, torch.zeros(1)), n_classes=10)
    )._autoattack.attacks
    assert [type(a).__name__ for a in attacks] == ["APGD", "APGDT", "FAB", "Square"]
    assert [getattr(a, "steps", None) for a in attacks] == [100, 100, 100, None]
    assert [getattr(a, "n_target_classes", None) for a in attacks] == [None, 9, 9, None]
    assert attacks[3].rescale_schedule is False


@pytest.mark.slow
def test_autoattack_costs_what_the_original_costs():
    """On samples that nothing fools, rows asked are steps times targets: shipped, it is a third less."""
    pyautoattack = pytest.importorskip("pyautoattack")
    weight = torch.randn(16, 10, generator=seeded(0))
    x = 0.3 + 0.4 * torch.rand(2, 1, 4, 4, generator=seeded(0))

    class Counted(nn.Module):
        rows = 0

        def forward(self, z):
            self.rows += len(z)
            return z.flatten(1) @ weight

    model = Counted().eval()
    y, asked = model(x).argmax(1), {}
    for name, attack in (
        ("ours", lambda: torchattack("AutoAttack")(model, x, y, threat=ThreatModel("linf", 0.005))),
        (
            "original",
            lambda: pyautoattack.AutoAttack(model, norm="Linf", eps=0.005, seed=0).run_standard_evaluation(
                x, y
            ),
        ),
    ):
        model.rows = 0
        with torch.random.fork_rng(devices=[]):
            attack()
        asked[name] = model.rows
    assert asked["ours"] == pytest.approx(asked["original"], rel=0.005)


@pytest.mark.slow
def test_autoattack_gives_the_originals_verdicts():
    pyautoattack = pytest.importorskip("pyautoattack")
    data = load_dataset("fashion-mnist", split="eval").balanced(32)
    x, y, model = data.inputs, data.labels, load_model("fmnist-cnn-standard")
    ours = torchattack("AutoAttack")(model, x, y, threat=ThreatModel("linf", 0.05), generator=seeded(0))
    with torch.random.fork_rng(devices=[]):
        original = pyautoattack.AutoAttack(model, norm="Linf", eps=0.05, seed=0)
        theirs = original.run_standard_evaluation(x, y, batch_size=32)[0]
    stands = [model(z).argmax(1) == y for z in (x, ours, theirs)]
    assert [int(s.sum()) for s in stands] == [30, 5, 5]
    assert torch.equal(stands[1], stands[2])


def suite():
    spec = AttackSpec(name="PGD", attack="torchattacks:PGD", settings={"steps": 7})
    return Suite(name="peers", version=1, description="for a test", norm="linf", attacks=[spec])


def test_it_is_judged_like_any_other_attack():
    options = RunOptions(n=32, eps=0.05, analyze=False)
    record = evaluate("fmnist-cnn-standard", "fashion-mnist", suite(), options=options)
    rows = [r for r in record.samples.to_pylist() if r["attack"] == "PGD"]
    at = [r for r in rows if r["radius"] == 0.05]
    assert max(r["linf"] for r in at) == pytest.approx(0.05)
    assert 0 < record.robust_accuracy.value < 0.5 < record.accuracy.value
    # What a row costs at every radius: 7 steps, the judge, and its share of two questions about two rows.
    for radius in {r["radius"] for r in rows}:
        here = [r for r in rows if r["radius"] == radius]
        assert sum(r["forward_calls"] for r in here) == 8 * len(here) + 2 * min(2, len(here))
        assert sum(r["backward_calls"] for r in here) == 7 * len(here)


def test_a_noisy_model_is_refused_with_advice():
    options = RunOptions(n=32, eps=0.05, analyze=False)
    with pytest.raises(InputError, match="a network without noise for torchattacks:PGD"):
        evaluate("fmnist-cnn-gaussian", "fashion-mnist", suite(), options=options)


# --- torchattacks: refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "PGD",
            {"threat": ThreatModel("l2", 1)},
            "expected a threat in linf, which this attack serves, got l2",
        ),
        ("CW", {"threat": ThreatModel("linf", 0.1)}, "expected a threat in l2"),
        (
            "PGD",
            {"threat": ThreatModel("linf", torch.full((4,), 0.1))},
            "one radius for all samples, got 4 radii",
        ),
        ("PGD", {"threat": ThreatModel("linf", 0.1, (-1, 1))}, r"expected the domain \(0, 1\)"),
        ("PGD", {"inputs": torch.full((4, 64), 1.5)}, r"expected inputs in \[0, 1\]"),
        (
            "APGD",
            {"inputs": torch.rand(4, 64)},
            r"images \(n, channels, height, width\) for torchattacks:APGD",
        ),
        ("TIFGSM", {"inputs": torch.rand(4, 1, 8, 8)}, r"images \(n, 3, height, width\)"),
        ("PGD", {"stpes": 3}, "expected a setting of torchattacks:PGD, got 'stpes'; try steps"),
        ("AutoAttack", {"version": "rand"}, "version standard or plus, got rand"),
        ("PGD", {"labels": torch.full((4,), 10)}, "expected labels >= 0 and < 10"),
    ],
)
def test_what_the_library_would_get_wrong_is_refused(name, change, message):
    model, x, y = problem()
    given = {"inputs": x, "labels": y, "threat": ThreatModel("linf", 0.1)} | change
    with pytest.raises(InputError, match=message):
        torchattack(name)(model, given.pop("inputs"), given.pop("labels"), **given)


def test_autoattack_wants_four_classes():
    model, x, y = problem(classes=3)
    with pytest.raises(
        InputError, match="expected 4 classes or more for this attack, got 3; try an attack of"
    ):
        torchattack("AutoAttack")(model, x, y, threat=ThreatModel("linf", 0.1))


@pytest.mark.parametrize("noise", ["keyed", "batch"])
def test_noisy_models_are_refused_before_the_attack(noise):
    model, x, y = problem()
    threat = ThreatModel("linf", 0.1)
    target = Target(model, range(4), noise, seed=0)
    with pytest.raises(
        InputError, match=r"expected a deterministic model for torchattacks.*try an attack of"
    ):
        torchattack("PGD")(target, x, y, threat=threat)
    assert int(target.forward_calls.sum()) == 0
    before = torch.get_rng_state()
    with pytest.raises(InputError, match="one whose answers differ"):
        torchattack("PGD")(lambda z: model(z) + torch.randn(len(z), 10), x, y, threat=threat)
    assert torch.equal(torch.get_rng_state(), before)


def test_logits_without_a_gradient_are_refused():
    model, x, y = problem()
    for blind in (lambda z: model(z.detach()), lambda z: model(z).detach()):
        with pytest.raises(InputError, match="logits that depend on the inputs differentiably"):
            torchattack("PGD")(blind, x, y, threat=ThreatModel("linf", 0.1))


def test_unknown_names_get_the_closest_and_a_missing_package_its_command(monkeypatch):
    with pytest.raises(
        UnknownNameError, match="known attack of torchattacks, got 'AutoAtack'; try AutoAttack"
    ):
        torchattack("AutoAtack")
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    with pytest.raises(
        ReferenceNotFoundError, match=r"torchattacks, got .*; try pip install 'robustgeom\[torch"
    ):
        torchattack("PGD")


# --- robustbench: models ------------------------------------------------------------------------------------------

WRAPPINGS = {
    "Hendrycks2020AugMix_WRN@cifar10/corruptions": lambda s: {
        "state_dict": {f"module.{k}": v for k, v in s.items()}
    },
    "Ding2020MMA@cifar10/Linf": lambda s: s,
    "Andriushchenko2020Understanding@cifar10/Linf": lambda s: {"last": s},
}


def fresh(name, dataset, threat):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return robustbench._entries(dataset, threat)[name]["model"]().eval()


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder as robustbench keeps it, with random weights."""
    folder = tmp_path_factory.mktemp("models")
    for reference, wrap in WRAPPINGS.items():
        name, dataset, threat = robustbench._parts(reference)
        path = folder / dataset / threat / f"{name}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(wrap(fresh(name, dataset, threat).state_dict()), path)
    return folder


@pytest.mark.parametrize("reference", WRAPPINGS)
def test_weights_where_robustbench_keeps_them_become_the_model(stored, reference):
    before = torch.get_rng_state()
    model = load_robustbench(f"robustbench:{reference}", stored)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(m.training for m in model.modules())
    x = torch.rand(2, 3, 32, 32, generator=seeded())
    with torch.no_grad():
        torch.testing.assert_close(model(x), fresh(*robustbench._parts(reference))(x))


def test_load_model_knows_the_reference_and_the_folder_robustbench_uses(stored, monkeypatch, tmp_path):
    (tmp_path / "models").symlink_to(stored)
    monkeypatch.chdir(tmp_path)
    model = load_model("robustbench:Ding2020MMA@cifar10/Linf")
    assert type(model).__name__ == "Ding2020MMANet"


def test_a_file_that_changed_is_refused(stored, tmp_path):
    place = tmp_path / "cifar10" / "Linf"
    place.mkdir(parents=True)
    weights = place / "Ding2020MMA.pt"
    weights.write_bytes((stored / "cifar10" / "Linf" / "Ding2020MMA.pt").read_bytes())
    load_robustbench("robustbench:Ding2020MMA@cifar10/Linf", tmp_path)
    digest, name = (place / "Ding2020MMA.pt.sha256").read_text().split()
    assert (len(digest), name) == (64, "Ding2020MMA.pt")
    torch.save(fresh("Ding2020MMA", "cifar10", "Linf").state_dict() | {"more": torch.ones(1)}, weights)
    with pytest.raises(ContentError, match=f"expected weights with sha256 {digest[:12]}..., got "):
        load_robustbench("robustbench:Ding2020MMA@cifar10/Linf", tmp_path)
    (place / "Ding2020MMA.pt.sha256").unlink()
    with pytest.raises(ContentError, match=r"weights that fit robustbench:Ding2020MMA.*Unexpected key"):
        load_robustbench("robustbench:Ding2020MMA@cifar10/Linf", tmp_path)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_a_file_that_would_run_code_is_refused(tmp_path, monkeypatch):
    place = tmp_path / "cifar10" / "Linf"
    place.mkdir(parents=True)
    (place / "Ding2020MMA.pt").write_bytes(pickle.dumps(Bomb()))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ContentError, match="weights that fit robustbench:Ding2020MMA"):
        load_robustbench("robustbench:Ding2020MMA@cifar10/Linf", tmp_path)
    assert not Path("exploded").exists()


def test_a_failed_download_says_where_to_put_the_file_and_leaves_nothing(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(
        ContentError, match=r"to download Wong2020Fast.pt, got .*; try saving https://drive.*by hand"
    ):
        load_robustbench("robustbench:Wong2020Fast@cifar10/Linf", tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            "Wong2020Fats@cifar10/Linf",
            "known robustbench model of cifar10/Linf, got 'Wong2020Fats'; try Wong2020Fast",
        ),
        ("Wong2020Fast@cifar10/linf", "known threat of robustbench for cifar10, got 'linf'; try Linf"),
        ("Wong2020Fast@cifar/Linf", "known data set of robustbench, got 'cifar'; try cifar10"),
    ],
)
def test_unknown_models_get_the_closest(reference, message):
    with pytest.raises(UnknownNameError, match=message):
        load_model(f"robustbench:{reference}")


def test_half_a_reference_is_answered_with_a_whole_one():
    with pytest.raises(InputError, match="try robustbench:Wong2020Fast@cifar10/Linf"):
        load_model("robustbench:Wong2020Fast")


def test_importing_the_zoo_leaves_no_module_of_the_package_and_disturbs_none(monkeypatch):
    own = type(sys)("robustbench")
    own.__path__ = robustbench._folders()
    monkeypatch.setitem(sys.modules, "robustbench", own)
    before = set(sys.modules)
    zoo = robustbench._zoo.__wrapped__()
    assert sum(len(t) for tables in zoo.all_models.values() for t in tables.values()) in (206, 141)
    assert sys.modules["robustbench"] is own
    added = {n.partition(".")[0] for n in set(sys.modules) - before}
    assert not added & {"robustbench", "autoattack", "pyautoattack", "pkg_resources"}


def test_no_package_is_answered_with_the_command(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    with pytest.raises(
        ReferenceNotFoundError, match=r"got none installed; try pip install 'robustgeom\[robustbench"
    ):
        robustbench._zoo.__wrapped__()


# --- robustbench: figures -----------------------------------------------------------------------------------------


def test_figures_are_the_leaderboards():
    carmon = robustbench_figures("Carmon2019Unlabeled")
    assert (carmon.eps, carmon.clean, carmon.autoattack) == ("8/255", 0.8969, 0.5953)
    assert (carmon.external, carmon.unreliable, carmon.best) == (None, False, 0.5953)
    gauss = robustbench_figures("Hendrycks2020AugMix_WRN", "cifar10", "corruptions")
    assert gauss.autoattack is None
    assert 0.5 < gauss.corruptions < 1


@pytest.mark.parametrize(
    ("dataset", "threat", "first", "corrected", "true_first"),
    [
        ("cifar10", "Linf", 0.7528, 0.7310, 0.7371),
        ("cifar10", "L2", 0.8728, 0.8433, 0.8497),
        ("cifar100", "Linf", 0.4478, 0.4225, 0.4266),
        ("imagenet", "Linf", 0.6212, 0.5892, 0.5968),
    ],
)
def test_autoattack_alone_puts_the_wrong_model_first(dataset, threat, first, corrected, true_first):
    names = figures_table()[f"{dataset}/{threat}"]
    figures = [robustbench_figures(name, dataset, threat) for name in names]
    by_autoattack = max(figures, key=lambda f: f.autoattack)
    assert (by_autoattack.autoattack, by_autoattack.best) == (first, corrected)
    assert max(f.best for f in figures) == true_first


def test_every_model_that_can_be_built_has_figures():
    for place, known in figures_table().items():
        assert set(robustbench_entries(*place.split("/"))) <= set(known)


def test_unknown_figures_get_the_closest():
    with pytest.raises(UnknownNameError, match="try Carmon2019Unlabeled"):
        robustbench_figures("Carmon2019Unlabelled")
    with pytest.raises(UnknownNameError, match="try cifar10/Linf"):
        robustbench_figures("Carmon2019Unlabeled", "cifar10", "linf")


def test_corruptions_are_reported_not_fetched(tmp_path):
    assert robustbench_corruptions("cifar10", tmp_path) == dict.fromkeys(robustbench.CORRUPTIONS, False)
    assert len(robustbench.CORRUPTIONS) == 15
    (tmp_path / "CIFAR-10-C").mkdir()
    (tmp_path / "CIFAR-10-C" / "fog.npy").touch()
    assert [n for n, there in robustbench_corruptions("cifar10", tmp_path).items() if there] == ["fog"]
    with pytest.raises(UnknownNameError, match="try cifar10"):
        robustbench_corruptions("cifar", tmp_path)


# --- doctor -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["torchattacks", "robustbench", "foolbox", "pyautoattack"])
def test_doctor_tries_what_is_installed(name):
    answer = dict(PEERS)[name]()
    assert ", works, " in answer


def test_doctor_says_what_does_not_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    with pytest.raises(ImportError, match=r"3\.5\.1 does not work: ReferenceNotFoundError"):
        dict(PEERS)["torchattacks"]()
