"""Failure checks that need more than a defense to show: attacks that lose what they find, inner loops, read-outs."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

import robustgeom as rg
from robustgeom import content
from robustgeom.harness.attacking import Battle
from robustgeom.harness.diagnosis import _doubted
from robustgeom.harness.failures._case import Case
from robustgeom.harness.failures._stand_ins import _plain, blocked
from robustgeom.harness.failures.black_box import black_box
from robustgeom.harness.failures.dynamic_forward import dynamic_forward
from robustgeom.harness.failures.planted_example import _plant
from robustgeom.harness.remedies import remedies
from robustgeom.harness.spec import AttackSpec
from robustgeom.harness.subject import subject
from robustgeom.harness.suite import load_suite
from robustgeom.models.card import read_card
from robustgeom.threat import distance, project

OPTIONS = rg.RunOptions(n=64, eps="8/255", analyze=False)


def check(record, name):
    return next(c for c in record.checks if c.name == name)


@pytest.fixture
def own(tmp_path):
    """Return a function that turns the source of `attack` into a suite of it alone."""

    def suite(source):
        file = tmp_path / "mine.py"
        file.write_text("import torch\nfrom robustgeom.attacks import ATTACKS\n" + source)
        spec = AttackSpec(name="mine", attack=f"{file}:attack")
        return load_suite("quick-linf").model_copy(update={"attacks": [spec]})

    return suite


def a_case(model, n=32, radius=0.05, attacks=None):
    """Return a case on which no attack has run yet."""
    data = rg.load_dataset("fashion-mnist", split="eval").balanced(n)
    suite = load_suite("quick-linf")
    under_test, data = subject(model, data)
    from robustgeom.data.threats import ThreatTable

    battle = Battle(under_test, data, suite, ThreatTable("linf", (0.0, radius), (radius,)), 0, 128)
    battle.look()
    stands = battle.standing
    rows = stands.nonzero().squeeze(1)
    return Case(battle, attacks or suite.attacks, radius, stands, rows, rows[:0], allowance=10**9)


def test_an_attack_that_returns_something_else_than_it_found_is_caught(own):
    suite = own(
        "def attack(model, inputs, labels, *, threat, generator):\n"
        "    found = ATTACKS['pgd'](model, inputs, labels, threat=threat, generator=generator)\n"
        "    return inputs + 0.1 * (found - inputs)\n"
    )
    record = rg.evaluate("fmnist-cnn-standard", suite=suite, options=OPTIONS)
    found = check(record, "silent success")
    assert found.status == "fail"
    honest = rg.evaluate("fmnist-cnn-standard", suite="quick-linf", options=OPTIONS)
    fell = honest.accuracy.value - honest.robust_accuracy.value
    assert found.value == pytest.approx(64 * fell, abs=3)
    assert check(honest, "silent success").status == "pass"


def test_an_attack_that_does_nothing_misses_the_unbounded_radius_and_the_planted_example(own):
    record = rg.evaluate(
        "fmnist-cnn-standard",
        suite=own("def attack(model, inputs, labels, *, threat):\n    model(inputs)\n    return inputs\n"),
        options=rg.RunOptions(n=200, analyze=False),
    )
    assert check(record, "unbounded radius").status == "fail"
    assert check(record, "planted example").status == "fail"
    assert "suspicious because unbounded radius: mine fails" in str(record.verdict)


def test_an_attack_that_works_at_small_radii_only_does_not_fall_with_the_radius(own):
    suite = own(
        "def attack(model, inputs, labels, *, threat, generator):\n"
        "    if threat.eps > 0.04:\n"
        "        return inputs\n"
        "    return ATTACKS['pgd'](model, inputs, labels, threat=threat, generator=generator)\n"
    )
    record = rg.evaluate(
        "fmnist-cnn-standard", suite=suite, options=rg.RunOptions(n=100, eps="8/255", analyze=False)
    )
    assert check(record, "falls with radius").status == "fail"
    assert "mine does not fool again" in check(record, "falls with radius").message


class Descends(nn.Module):
    """A network that first moves its input along a gradient of its own."""

    def __init__(self):
        super().__init__()
        self.inner = rg.load_model("fmnist-cnn-standard").requires_grad_(False)

    def forward(self, x):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            slope = torch.autograd.grad(self.inner(leaf).amax(1).sum(), leaf)[0]
        return self.inner((x + 0.01 * slope.sign()).clamp(0, 1))


class Averages(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = rg.load_model("fmnist-cnn-standard")

    def forward(self, x):
        return sum(self.inner(x * share) for share in (0.9, 0.95, 1.0)) / 3


def test_a_backward_pass_inside_the_forward_pass_is_seen_and_one_for_the_attack_is_not():
    found = dynamic_forward(a_case(Descends().eval()))
    assert (found.status, found.value) == ("fail", 2)
    assert "computes gradients" in found.message
    assert dynamic_forward(a_case("fmnist-resnet-standard")).status == "pass"


def test_repeated_calls_of_a_layer_are_counted():
    found = dynamic_forward(a_case(Averages().eval()))
    assert (found.status, found.value) == ("warn", 3)


def test_a_batch_repeated_inside_the_forward_pass_is_counted_too():
    class Repeats(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = rg.load_model("fmnist-cnn-standard")

        def forward(self, x):
            return self.inner(x.repeat(5, 1, 1, 1)).unflatten(0, (5, -1)).mean(0)

    found = dynamic_forward(a_case(Repeats().eval()))
    assert (found.status, found.value) == ("warn", 5)


def test_blocked_modules_are_found_by_what_they_do():
    class Round(nn.Module):
        def forward(self, x):
            return (x * 7).round() / 7

    class Straight(nn.Module):
        def forward(self, x):
            return x + ((x * 7).round() / 7 - x).detach()

    net = nn.Sequential(
        nn.Sequential(Round(), nn.Identity()), Straight(), nn.Flatten(), nn.Linear(784, 10), Round()
    )
    assert blocked(net, torch.rand(4, 1, 28, 28)) == ["0", "4"]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_planted_point_fools_its_read_out_and_the_input_does_not(norm):
    case = a_case("fmnist-cnn-pgd-at")
    rows = case.standing[:16]
    x, _ = case.inputs(rows)
    readout, usable = _plant(case, case.oracle(rows, "test"), x, rows)
    at = torch.arange(len(x))
    assert usable.all()
    assert (readout(x).argmax(1) == 0).all()
    # Straight along the way of the planted point, the read-out turns exactly at its bar.
    for share, wanted in ((readout.bar * 1.01, 1), (readout.bar * 0.99, 0)):
        logits = readout.start + share[:, None] * readout.way / readout.way.square().sum(1, keepdim=True)
        assert (readout.read(logits, at).argmax(1) == wanted).all()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).sign()
    point = project(x + case.radius * noise, x, case.threat(rows))
    assert (distance(point, x, "linf") <= case.radius + 1e-6).all()
    # One random point more hardly ever gets past the bar: an attack has to search.
    assert (readout(point).argmax(1) == 1).float().mean() < 0.5


SQUARE = AttackSpec(name="square", attack="square", settings={"queries": 10})


def said(case, attack, fooled, met=range(100), radius=0.05):
    """Write into a case that an attack met samples and fooled some."""
    case.battle.rows += [
        {"attack": attack, "radius": radius, "sample_id": i, "success": i in fooled} for i in met
    ]


def with_square(*more):
    case = a_case("fmnist-cnn-standard", attacks=[*load_suite("quick-linf").attacks, SQUARE, *more])
    case.battle.rows = []
    return case


def test_black_box_successes_are_read_off_the_suites_own_square():
    case = with_square()
    said(case, "pgd-margin", range(0, 50, 2))
    said(case, "square", range(8), met=range(1, 100, 2))
    found = black_box(case)
    assert (found.status, found.value) == ("fail", 4 / 50)
    assert "square fooled 4 of 50 samples that gradient attacks had left" in found.message


@pytest.mark.parametrize("fooled", [range(2), range(0)])
def test_a_few_black_box_successes_are_luck(fooled):
    case = with_square()
    said(case, "pgd-margin", ())
    said(case, "square", fooled)
    assert black_box(case).status == "pass"


def test_samples_that_met_no_gradient_attack_do_not_count_against_gradients():
    case = with_square()
    said(case, "square", range(60))
    said(case, "pgd-margin", range(60, 100), met=range(60, 100))
    said(case, "square", range(90), radius=0.06)
    assert (black_box(case).status, black_box(case).value) == ("pass", 0)


@pytest.mark.parametrize(("left", "status"), [(0, "warn"), (1, "warn"), (2, "fail")])
def test_a_search_that_alone_decides_is_believed_only_where_hardly_any_sample_is_left(left, status):
    case = with_square()
    said(case, "pgd-margin", ())
    said(case, "square", range(100 - left))
    case.stands = torch.arange(100) < left
    found = black_box(case)
    assert found.status == status
    assert f"{left} of 100 stand on the word of that search" in found.message


@pytest.mark.parametrize(
    ("queries", "found_by_gradients"), [(2, None), pytest.param(100, 0.9, marks=pytest.mark.slow)]
)
def test_a_suite_without_gradients_is_not_believed_where_gradients_find_more(queries, found_by_gradients):
    search = SQUARE.model_copy(update={"settings": {"queries": queries}})
    suite = load_suite("quick-linf").model_copy(update={"attacks": [search]})
    options = rg.RunOptions(n=64, analyze=False)
    record = rg.evaluate("fmnist-cnn-standard", suite=suite, options=options)
    found = check(record, "white box")
    assert (found.status, record.verdict.word) == ("fail", "suspicious")
    if found_by_gradients is None:
        assert (found.value, "the budget does not pay" in found.message) == (None, True)
    else:
        assert found.value > found_by_gradients
    assert all(c.name != "black box" for c in record.checks)


def test_only_attacks_with_gradients_of_the_model_itself_are_white():
    black_box_suite = load_suite("black-box-linf")
    assert {s.attack for s in black_box_suite.attacks if s.source is not None} == {"apgd"}
    assert a_case("fmnist-cnn-pgd-at", attacks=black_box_suite.attacks).white == []
    sources = [s.model_copy(update={"source": "noise-off"}) for s in load_suite("quick-linf").attacks]
    assert a_case("fmnist-cnn-pgd-at", attacks=sources).white == sources


def test_a_suite_with_gradients_needs_no_white_box_check():
    record = rg.evaluate("fmnist-cnn-pgd-at", options=OPTIONS)
    assert all(c.name != "white box" for c in record.checks)


class Stuck(nn.Module):
    """A network behind a step that is the identity with hardly a slope, and a variant that has the true one."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.variants = {"open": inner}

    def forward(self, x):
        return self.inner(x.detach() + (x - x.detach()) * torch.linspace(-1, 0.1, 28))


def test_a_variant_that_the_suite_did_not_use_is_tried_and_answered():
    model = Stuck(rg.load_model("fmnist-cnn-standard")).eval()
    record = rg.evaluate(model, options=OPTIONS)
    found = check(record, "variants")
    assert (found.status, found.value > 0.2) == ("fail", True)
    assert "gradients of the variant open fool" in found.message
    suite = load_suite("quick-linf")
    along = [spec.model_copy(update={"source": "open"}) for spec in suite.attacks]
    told = rg.evaluate(model, suite=suite.model_copy(update={"attacks": along}), options=OPTIONS)
    assert "variants" not in [c.name for c in told.checks]
    assert told.robust_accuracy.value < record.robust_accuracy.value - 0.2
    answer, answered = remedies([found], a_case(model).battle)["remedy: variant open"]
    assert (answer.source, answered) == ("open", ["variants"])


def test_only_plainly_trained_networks_without_noise_stand_in_for_others():
    found = [name for name in content.names("model") if _plain(read_card(name))]
    assert found == [
        "fmnist-cnn-standard",
        *("fmnist-norm-batch", "fmnist-norm-batch-s1", "fmnist-norm-batch-s2"),
        *("fmnist-norm-none", "fmnist-norm-none-s1", "fmnist-norm-none-s2"),
        *("fmnist-resnet-standard", "fmnist-resnet-standard-s1", "fmnist-resnet-standard-s2"),
        *("speech-cochcnn-standard", "speech-cochcnn-standard-s1", "speech-cochcnn-standard-s2"),
        "speech-cochresnet",
    ]


@pytest.mark.parametrize(
    ("standing", "expected"),
    [((0.5, 0.1), 0.1), ((0.5, 0.09), 8 / 255), ((0.05, 0.0), 8 / 255), ((1.0, 1.0), 0.1)],
)
def test_checks_look_where_a_tenth_of_the_samples_stands(standing, expected):
    shares = dict(zip((8 / 255, 0.1), standing, strict=True))
    battle = SimpleNamespace(
        table=SimpleNamespace(headlines=(8 / 255, 0.1)),
        data=range(200),
        standing_at=lambda radius: torch.arange(200) < round(200 * shares[radius]),
    )
    assert _doubted(battle) == expected
