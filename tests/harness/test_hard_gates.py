"""Hard gates are found by what a network does, whoever wrote it, and attacked through slopes where it offers none."""

from dataclasses import replace

import pytest
import torch
from torch import Generator, nn

import robustgeom as rg
from robustgeom.data.threats import ThreatTable
from robustgeom.harness.attacking import Battle
from robustgeom.harness.engine import dtype_of
from robustgeom.harness.failures._case import Case
from robustgeom.harness.failures._soft_steps import SoftSteps
from robustgeom.harness.failures.hard_gates import hard_gates
from robustgeom.harness.find import look_up
from robustgeom.harness.remedies import remedies
from robustgeom.harness.subject import subject
from robustgeom.harness.suite import AttackSpec, load_suite
from robustgeom.models.gated_relu import GatedReLU
from robustgeom.models.gln import GLN
from robustgeom.models.noise import noise_off
from robustgeom.models.smoothing import Smoothed
from robustgeom.models.variants import variant, variant_names
from robustgeom.models.vnn import VNN


class Of(nn.Module):
    """A function as a network."""

    def __init__(self, function, *parts):
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x):
        return self.function(x)


class Behind(nn.Module):
    """A zoo network with a step between its hidden layer and its read-out."""

    def __init__(self, step, after=lambda z: z):
        super().__init__()
        self.net, self.step, self.after = rg.load_model("fmnist-cnn-standard"), step, after

    def forward(self, x):
        net = self.net
        return self.after(net.logits(self.step(net.hidden(net.conv2(net.conv1(net.normalise(x)))))))


class Ahead(nn.Module):
    """A step ahead of a zoo network."""

    def __init__(self, step):
        super().__init__()
        self.net, self.step = rg.load_model("fmnist-cnn-standard"), step

    def forward(self, x):
        return self.net(self.step(x))


def by_threshold(h):
    return h * (h >= h.topk(16, dim=1).values[:, -1:])


def by_filling(h):
    return h.masked_fill(h < h.topk(16, dim=1).values[:, -1:], 0.0)


def by_index(h):
    best = h.topk(16, dim=1)
    return torch.zeros_like(h).scatter(1, best.indices, best.values)


def gated(kind):
    """Return a gated network whose weights nobody trained, but which is right about `labels` that it gave itself."""
    torch.manual_seed(0)
    model = {
        "vnn": lambda: VNN(hidden=(48, 32)),
        "vnn conv": lambda: VNN(kind="conv", maps=(8, 4), hidden=(32,)),
        "gln": lambda: GLN(hidden=(50,)),
        "frozen relus": lambda: GatedReLU(hidden=50),
        "relus": lambda: GatedReLU(hidden=50),
    }[kind]()
    images = rg.load_dataset("fashion-mnist", split="eval").inputs[:200]
    if isinstance(model, GLN):
        model.prepare(images)
    if kind == "frozen relus":
        model.freeze(images)
        with torch.no_grad():
            model.layer.weight.add_(0.02 * torch.randn(model.layer.weight.shape))
    return model.eval()


def case_of(model, *, norm="linf", radius=8 / 255, attacks=None, n=64):
    """Return a case in which a network is right about all of n images, as their labels are its own answers."""
    data = rg.load_dataset("fashion-mnist", split="eval").balanced(n)
    with torch.no_grad():
        labels = model(data.inputs.to(dtype_of(model))).argmax(1)
    under_test, data = subject(model, replace(data, labels=labels))
    suite = load_suite("minimum-norm-l1" if norm == "l1" else f"quick-{norm}")
    battle = Battle(under_test, data, suite, ThreatTable(norm, (0.0, radius), (radius,)), 0, 128)
    battle.look()
    rows = battle.standing.nonzero().squeeze(1)
    return Case(battle, attacks or suite.attacks, radius, battle.standing, rows, rows[:0], allowance=10**9)


@pytest.mark.parametrize("kind", ["vnn", "vnn conv", "gln", "frozen relus"])
@pytest.mark.parametrize(("norm", "radius"), [("linf", 8 / 255), ("l2", 1.0), ("l1", 16.0)])
def test_gates_that_data_open_and_close_are_found(kind, norm, radius):
    found = hard_gates(case_of(gated(kind), norm=norm, radius=radius))
    assert found.status == "fail"
    assert found.value > 0.5
    assert "soft gates" in found.action


@pytest.mark.parametrize("step", [by_threshold, by_filling, by_index])
def test_winners_are_found_whatever_way_they_are_written(step):
    assert hard_gates(case_of(Behind(step).eval())).status == "fail"


@pytest.mark.parametrize(
    "model",
    [
        lambda: gated("relus"),
        lambda: rg.load_model("fmnist-cnn-pgd-at"),
        lambda: rg.load_model("fmnist-cnn-gaussian"),
        lambda: Behind(lambda h: h.clamp(max=1.0)).eval(),
        lambda: Behind(lambda h: 1e4 * h).eval(),
        lambda: Behind(lambda h: (1e3 * (h - 0.5)).sigmoid()).eval(),
        lambda: Behind(torch.nn.Softplus(beta=1000)).eval(),
        lambda: Ahead(lambda x: x**0.3).eval(),
        lambda: Ahead(lambda x: (x + 1e-6).log() / 14 + 1).eval(),
        lambda: gated("relus").bfloat16(),
        lambda: Behind(lambda h: h, lambda z: 1e-4 * z + 2.3).eval(),
    ],
)
def test_what_is_steep_or_bent_or_noisy_does_not_jump(model):
    found = hard_gates(case_of(model()))
    assert (found.status, found.value) == ("pass", 0.0)


def test_networks_with_draws_of_their_own_are_not_asked():
    model = Of(lambda x: rg.load_model("fmnist-cnn-standard")(x + 0.1 * torch.randn_like(x))).eval()
    assert hard_gates(case_of(model, n=16)) is None


def test_attacks_along_soft_gates_turn_failure_into_a_warning_and_other_sources_do_not():
    model = gated("vnn")
    soft = AttackSpec(name="along", attack="apgd", source="soft-gates")
    other = AttackSpec(name="others", attack="apgd", source="model:fmnist-cnn-standard")
    found = hard_gates(case_of(model, attacks=[soft]))
    assert (found.status, found.message.endswith("; along sees it")) == ("warn", True)
    assert hard_gates(case_of(model, attacks=[other])).status == "fail"
    narrow = variant(model, "soft-gates")
    same = Of(model.__call__, model).eval()
    same.variants = {"soft-gates": narrow.__call__}
    said = hard_gates(case_of(same, attacks=[soft]))
    assert said.status == "warn"
    assert said.message.endswith("; along sees it, along through gates of one width")
    assert said.action.startswith("rg.SoftGates")


def test_a_network_that_offers_nothing_is_attacked_through_slopes_of_its_own():
    case = case_of(Behind(by_threshold).eval(), radius=0.05, n=24)
    found = hard_gates(case)
    answers = remedies([found], case.battle)
    assert {"remedy: soft steps", "remedy: square"} <= set(answers)
    spec, names = answers["remedy: soft steps"]
    assert names == ["hard gates"]
    case.attacks = [*case.attacks, spec]
    again = hard_gates(case)
    assert (found.status, again.status) == ("fail", "warn")
    assert again.message.endswith("; remedy: soft steps sees it")
    few = spec.model_copy(update={"settings": {**spec.settings, "steps": 5}})
    assert case.probe(few, case.standing).any()


def unsoftened(h):
    chosen = torch.zeros_like(h)
    chosen[h >= h.topk(16, dim=1).values[:, -1:]] = 1
    return h * chosen


def by_index_with_a_comparison_beside(h):
    assert bool((h >= 0).all())
    return by_index(h)


@pytest.mark.parametrize("step", [unsoftened, by_index_with_a_comparison_beside])
def test_a_stand_in_without_a_slope_of_its_own_is_none(step):
    case = case_of(Behind(step).eval(), radius=0.05, n=16)
    found = hard_gates(case)
    assert "remedy: soft steps" not in remedies([found], case.battle)
    assert hard_gates(case).status == "fail"


def test_a_network_that_writes_into_its_input_spoils_no_sample():
    def written(x):
        with torch.no_grad():
            x.sub_(0.05).clamp_(0)
        return x

    case = case_of(Ahead(lambda x: written(x) * (x > 0.5)).eval(), radius=0.05, n=16)
    before = case.battle.data.inputs.clone()
    remedies([hard_gates(case)], case.battle)
    assert torch.equal(case.battle.data.inputs, before)


def test_a_linear_network_without_hyperplanes_has_no_soft_gates():
    assert variant_names(GLN(hidden=(), hyperplanes=0)) == []


def test_the_strong_suites_attack_soft_gates_without_being_told():
    for name in ("strong-linf", "strong-l2"):
        assert "soft-gates" in [spec.source for spec in load_suite(name).attacks]
    suite = load_suite("strong-linf")
    few = [s.model_copy(update={"settings": {**s.settings, "steps": 3}}) for s in suite.attacks]
    short = suite.model_copy(update={"attacks": few})
    options = rg.RunOptions(n=16, eps="8/255", analyze=False)
    for model, met in ((gated("vnn"), True), (rg.load_model("fmnist-cnn-standard"), False)):
        record = rg.evaluate(model, suite=short, options=options)
        assert ("apgd-margin-soft-gates" in {r["attack"] for r in record.samples.to_pylist()}) == met
        assert "attacks left out" not in [c.name for c in record.checks if c.status != "pass"]


def test_the_smoothed_form_of_a_gated_network_has_its_soft_gates():
    model = Smoothed(gated("vnn"), sigma=0.1)
    x = torch.rand(4, 1, 28, 28, generator=Generator().manual_seed(0))
    assert variant_names(model) == ["noise-frozen:SEED", "noise-off", "soft-gates"]
    with noise_off():
        torch.testing.assert_close(variant(model, "soft-gates")(x), model.base.variants["soft-gates"](x))


class Watched(nn.Module):
    """A linear network that tells `widths` how wide its soft gates are asked to be."""

    def __init__(self, widths):
        super().__init__()
        self.linear, self.told = nn.Linear(784, 10), widths.append

    @property
    def variants(self):
        return {"soft-gates": rg.SoftGates(self._soft)}

    def _soft(self, x, width):
        self.told(width)
        return self(x)

    def forward(self, x):
        return self.linear(x.flatten(1))


@pytest.mark.parametrize(
    ("attack", "norm"),
    [
        ("apgd", "linf"),
        ("pgd", "l2"),
        ("mifgsm", "linf"),
        ("apgd_t", "l2"),
        ("fab_t", "linf"),
        ("fmn", "l2"),
        ("ddn", "l2"),
    ],
)
def test_attacks_pass_from_the_widest_gates_to_the_narrowest(attack, norm):
    torch.manual_seed(0)
    widths = []
    model = Watched(widths).double().eval()
    case = case_of(model, norm=norm, radius=1e-4, n=8)
    settings = {"steps": 5} | ({"targets": 1} if attack.endswith("_t") else {})
    spec = AttackSpec(name="along", attack=attack, settings=settings, source="soft-gates")
    case.probe(spec, torch.arange(8))
    assert list(dict.fromkeys(widths)) == pytest.approx([0.5 * 0.01 ** (i / 4) for i in range(5)])


@pytest.mark.parametrize("widths", [{"width": 0.0}, {"widest": -1.0}, {"narrowest": 1.0}, {"narrowest": 0.0}])
def test_widths_that_cannot_narrow_are_refused(widths):
    with pytest.raises(rg.UserError, match="narrowest <= widest"):
        rg.SoftGates(lambda x, width: x / width, **widths)


def test_a_network_that_keeps_its_soft_form_as_an_attribute_is_still_judged_by_its_hard_one():
    model = gated("vnn")
    model.soft_gates = variant(model, "soft-gates")
    case = case_of(model, n=8)
    x, rows = case.battle.data.inputs, torch.arange(8)
    answered = case.battle.subject.target(case.battle.data.ids, 0).query(x, rows, rows)
    torch.testing.assert_close(answered, model(x))
    assert not torch.allclose(answered, model.soft_gates(x), atol=1e-3)


def test_what_a_narrowing_source_costs_is_counted():
    case = case_of(gated("vnn"), n=8)
    spec = AttackSpec(name="along", attack="apgd", settings={"steps": 5}, source="soft-gates")
    attack = look_up(spec.attack)
    forward, backward = case.battle.call(spec, attack, 1e-6, case.battle.data)[1]
    assert forward.tolist() == [6 + 5] * 8
    assert backward.tolist() == [5] * 8


# --- slopes in place of steps ------------------------------------------------------------------------------------


def data(seed=0):
    return torch.rand(4, 6, generator=Generator().manual_seed(seed), dtype=torch.double)


USES = {
    "product": lambda x: x * (x > 0.5),
    "product, turned": lambda x: (x <= 0.5) * x,
    "cast to float": lambda x: 3 * (x >= 0.5).float() + x,
    "cast with to": lambda x: (x > 0.5).to(x.dtype) * x,
    "cast as another": lambda x: (x > 0.5).type_as(x) * x,
    "where": lambda x: torch.where(x > 0.5, 2 * x, x - 1),
    "where, as a method": lambda x: (2 * x).where(x > 0.5, x - 1),
    "where with numbers": lambda x: torch.where(x > 0.5, 1.0, 0.0) + x,
    "masked fill": lambda x: x.masked_fill(x < 0.5, 0.0),
    "not": lambda x: x * ~(x < 0.5),
    "negated in a tuple": lambda x: torch.where(*(x > 0.5, x, 1 - x)),
    "and": lambda x: x * ((x > 0.3) & (x < 0.7)),
    "or": lambda x: x * torch.logical_or(x < 0.3, x > 0.7),
    "function": lambda x: x * torch.gt(x, 0.5) + x * torch.le(x, 0.1),
    "winners": lambda x: x * (x >= x.topk(2, dim=1)[0][:, -1:]),
    "a mask that is reshaped": lambda x: x * (x > 0.5).view(2, 12).view(4, 6),
    "sign": lambda x: (x - 0.5).sign() + x,
}


@pytest.mark.parametrize("use", USES)
def test_outputs_stay_and_slopes_come_through(use):
    plain = Of(USES[use])
    soft, x = SoftSteps(plain), data().requires_grad_()
    out = soft(x)
    assert torch.equal(out.detach(), plain(x.detach()))
    assert soft.steps >= 1
    weight = torch.rand(out.shape, generator=Generator().manual_seed(1), dtype=torch.double)
    ours, theirs = (torch.autograd.grad((weight * f(x)).sum(), x)[0] for f in (soft, plain))
    assert ours.isfinite().all()
    assert not torch.allclose(ours, theirs)


@pytest.mark.parametrize(("share", "width"), [(0.0, 0.5), (0.5, 0.05), (1.0, 0.005)])
def test_the_slope_is_that_of_a_sigmoid_which_narrows_as_an_attack_goes_on(share, width):
    x = data().requires_grad_()
    soft = SoftSteps(Of(lambda x: (x > 0.5).to(x.dtype))).soft_gates
    found = torch.autograd.grad(soft.narrowed(share)(x).sum(), x)[0]
    apart = x.detach() - 0.5
    size = width * apart.square().mean(1, keepdim=True).sqrt()
    share = torch.sigmoid(apart / size)
    torch.testing.assert_close(found, share * (1 - share) / size)


@pytest.mark.parametrize("step", [torch.round, torch.floor, torch.ceil, torch.trunc])
def test_roundings_pass_gradients_on(step):
    x = data().requires_grad_()
    out = SoftSteps(Of(lambda x: step(8 * x) / 8))(x)
    torch.testing.assert_close(out.detach(), step(8 * x.detach()) / 8)
    torch.testing.assert_close(torch.autograd.grad(out.sum(), x)[0], torch.ones_like(x))


def test_uses_without_a_slope_see_plain_booleans():
    def forward(x):
        mask = x > 0.5
        assert int(mask.sum()) == int((x.detach() > 0.5).sum())
        rows = torch.nonzero(mask.any(1)).flatten()
        return x[rows].sum() + x[mask].sum() + mask.long().sum() * x.sum()

    x = data().requires_grad_()
    torch.testing.assert_close(SoftSteps(Of(forward))(x), forward(x))


def test_without_gradients_and_without_steps_nothing_changes():
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)).double().eval()
    soft, x = SoftSteps(network), data()
    with torch.no_grad():
        assert torch.equal(soft(x), network(x))
    leaf = x.clone().requires_grad_()
    ours, theirs = (torch.autograd.grad(f(leaf).sum(), leaf)[0] for f in (soft, network))
    assert torch.equal(ours, theirs)
    assert soft.steps == 0
