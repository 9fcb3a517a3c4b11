"""Models, attacks and suites that would quietly make a robustness number wrong: found, refused or judged rightly."""

import tomllib
from inspect import signature

import numpy as np
import pytest
import torch
from torch import nn

from robustgeom import content
from robustgeom.attacks import ATTACKS
from robustgeom.data.load import load_dataset
from robustgeom.data.threats import threat_table
from robustgeom.errors import InputError, ReferenceNotFoundError, UnknownNameError
from robustgeom.harness.attacking import Battle
from robustgeom.harness.evaluate import evaluate
from robustgeom.harness.options import RunOptions, Unfinished
from robustgeom.harness.subject import subject
from robustgeom.harness.suite import AttackSpec, load_suite
from robustgeom.models.load import load_model
from robustgeom.threat import ThreatModel

CARDS = {name: tomllib.loads(content.find("attack card", name).read_text()) for name in ATTACKS}
OPTIONS = RunOptions(n=32, eps="8/255", analyze=False)


class Around(nn.Module):
    """A zoo network with something done to its input."""

    def __init__(self, change, name="fmnist-cnn-standard"):
        super().__init__()
        self.inner, self.change = load_model(name), change

    def forward(self, x):
        return self.inner(self.change(x))


def check(record, name):
    return next(c for c in record.checks if c.name == name)


def own_attacks(folder, source):
    file = folder / "mine.py"
    file.write_text(source)
    return lambda *names: tuple(f"{file}:{n}" for n in names)


def suite_with(*attacks, **changes):
    return load_suite("quick-linf").model_copy(update={"attacks": list(attacks), **changes})


# --- attacks -----------------------------------------------------------------------------------------------------


def test_an_attack_that_writes_into_its_inputs_does_not_move_the_ball(tmp_path):
    mine = own_attacks(
        tmp_path,
        "def leap(model, inputs, labels, *, threat):\n"
        "    labels.zero_()\n"
        "    return inputs.add_(0.5).clamp_(0, 1)\n",
    )
    options = RunOptions(n=32, eps="8/255", analyze=False, attacks=mine("leap"))
    record = evaluate("fmnist-cnn-standard", options=options)
    assert max(record.samples["linf"].to_pylist()) <= 8 / 255 + 1e-6
    assert check(record, "attack bounds").status == "warn"
    assert record.accuracy.value == evaluate("fmnist-cnn-standard", options=OPTIONS).accuracy.value


def test_no_attack_may_take_the_name_of_the_clean_rows(tmp_path):
    mine = own_attacks(tmp_path, "def clean(model, inputs, labels, *, threat):\n    return inputs\n")
    with pytest.raises(InputError, match="none of them 'clean'"):
        evaluate("fmnist-cnn-standard", options=RunOptions(n=32, attacks=mine("clean")))


def test_own_attacks_are_found_before_anything_runs(tmp_path):
    mine = own_attacks(tmp_path, "three = 3\n")
    with pytest.raises(ReferenceNotFoundError, match="none"):
        evaluate("fmnist-cnn-standard", options=RunOptions(n=32, attacks=mine("none")))
    with pytest.raises(InputError, match="expected a function"):
        evaluate("fmnist-cnn-standard", options=RunOptions(n=32, attacks=mine("three")))


def test_own_attacks_need_the_signature_and_get_what_they_ask_for(tmp_path):
    mine = own_attacks(
        tmp_path,
        "def none():\n    pass\n"
        "def asks(model, inputs, labels, *, threat, generator, eot, source):\n"
        "    assert (eot, source) == (1, None)\n"
        "    return inputs.requires_grad_(True)\n",
    )
    with pytest.raises(InputError, match=r"expected a function none\(model, inputs, labels, \*, threat\)"):
        evaluate("fmnist-cnn-standard", options=RunOptions(n=32, attacks=mine("none")))
    options = RunOptions(n=32, eps="8/255", analyze=False, attacks=mine("asks"))
    assert "asks" in evaluate("fmnist-cnn-standard", options=options).header.resolved["attacks"]


@pytest.mark.parametrize("options", [{"n": 0}, {"batch_size": 0}, {"batch_size": 2.5}, {"seed": "x"}])
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(InputError, match="expected"):
        RunOptions(**options)


def test_a_suite_of_which_nothing_is_left_is_refused():
    lost = AttackSpec(name="a", attack="pgd", source="straight-through")
    with pytest.raises(InputError, match="expected an attack that fits this model"):
        evaluate("fmnist-cnn-standard", suite=suite_with(lost), options=OPTIONS)


def test_a_misspelt_source_is_refused_and_a_lacking_one_is_shown():
    plain = AttackSpec(name="plain", attack="pgd", settings={"steps": 2})
    typo = AttackSpec(name="typo", attack="pgd", source="nosie-off")
    with pytest.raises(UnknownNameError, match="'nosie-off'; try noise-off"):
        evaluate("fmnist-cnn-gaussian", suite=suite_with(plain, typo), options=OPTIONS)
    lacking = AttackSpec(name="bpda", attack="pgd", source="straight-through")
    record = evaluate("fmnist-cnn-standard", suite=suite_with(plain, lacking), options=OPTIONS)
    assert check(record, "attacks left out").status == "warn"
    assert "bpda" in check(record, "attacks left out").message


def test_variants_may_be_declared_on_the_class():
    class Rounded(Around):
        variants = {"straight-through": load_model("fmnist-cnn-standard")}  # noqa: RUF012

    spec = AttackSpec(name="bpda", attack="pgd", settings={"steps": 10}, source="straight-through")
    model = Rounded(lambda x: (x * 7).round() / 7).eval()
    record = evaluate(model, suite=suite_with(spec), options=OPTIONS)
    assert record.robust_accuracy.value < record.accuracy.value


# --- noise -------------------------------------------------------------------------------------------------------


def test_one_draw_a_gradient_does_not_end_an_attack_on_a_lucky_draw():
    accuracies = {}
    for eot in (1, 4):
        suite = load_suite("quick-linf").model_copy(update={"eot": eot, "judge_draws": 64})
        record = evaluate(
            "fmnist-cnn-gaussian", suite=suite, options=RunOptions(n=48, eps=0.1, analyze=False)
        )
        accuracies[eot] = record.robust_accuracy
    assert accuracies[1].low <= accuracies[4].value + 0.05  # it was three times as high, far outside
    assert accuracies[1].value - accuracies[4].value < 0.15


@pytest.mark.slow
def test_a_sample_need_not_survive_new_noise_in_every_job(tmp_path):
    names = [f"still{i}" for i in range(4)]
    mine = own_attacks(
        tmp_path,
        "".join(f"def {n}(model, inputs, labels, *, threat):\n    return inputs\n" for n in names),
    )
    model = Around(lambda x: x + 0.6 * torch.randn_like(x)).eval()
    pgd = AttackSpec(name="one-step", attack="pgd", settings={"steps": 1})
    suite = suite_with(pgd, eot=1, judge_draws=40)
    options = RunOptions(n=96, eps=1e-6, batch_size=32, analyze=False, attacks=mine(*names))
    record = evaluate(model, suite=suite, options=options)
    assert record.header.model.noise == "batch"
    # A perturbation of 1e-6 decides nothing against noise of 0.6.
    np.testing.assert_array_equal(record.robust_mask(), record.clean_mask())


def test_rows_of_several_batches_meet_the_noise_of_their_own_batch():
    model = Around(lambda x: x + 0.6 * torch.randn_like(x)).eval()
    found, data = subject(model, load_dataset("fashion-mnist", split="eval", limit=96))
    battle = Battle(found, data, load_suite("quick-linf"), threat_table(data.name, "linf"), 0, batch_size=32)
    battle.look()
    rows = torch.randperm(96, generator=torch.Generator().manual_seed(0))[:50]
    again = battle.judge_all(data.inputs[rows], rows)
    assert found.noise == "batch"
    assert again.draws.unique().numel() > 1
    for name, value in vars(again).items():
        torch.testing.assert_close(value, getattr(battle.clean, name)[rows])


def test_the_worst_point_of_a_noisy_model_is_one_that_fools_it(tmp_path):
    class Voting(nn.Module):
        """Class 0 on a share x[:, 0] of the draws, as surely as x[:, 1] says; else class 1, barely."""

        def forward(self, x):
            first = torch.rand(len(x)) < x[:, 0]
            nothing = torch.zeros(len(x))
            sure, barely = torch.where(first, 9 * x[:, 1], nothing), torch.where(first, nothing, 0.02)
            return torch.stack([sure, barely], 1)

    moved = (
        "def {}(model, inputs, labels, *, threat):\n    return inputs.new_tensor([{}]).expand_as(inputs)\n"
    )
    mine = own_attacks(tmp_path, moved.format("outvoted", "0.3, 1") + moved.format("timid", "1, 0.01"))
    suite = suite_with(
        AttackSpec(name="a", attack="pgd", settings={"steps": 1}), exhaustive=True, judge_draws=256
    )
    data = torch.ones(40, 2), torch.zeros(40, dtype=torch.int64)
    options = RunOptions(eps=1.0, analyze=False, attacks=mine("outvoted", "timid"))
    record = evaluate(Voting().eval(), data, suite, options=options)
    margins = {r["attack"]: r["margin"] for r in record.samples.to_pylist() if r["radius"] == 1}
    assert margins["outvoted"] > margins["timid"] > 0
    assert record.accuracy_under("timid", 1.0).value == 1
    assert record.robust_accuracy.value == 0
    assert (record.arrays["examples.predictions"] == 1).all()


def test_a_variant_with_noise_of_its_own_is_keyed_and_repeats():
    class Declared(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = load_model("fmnist-cnn-gaussian")
            self.variants = {"same": self.net.forward}

        def forward(self, x):
            return self.net(x)

    spec = AttackSpec(name="a", attack="pgd", settings={"steps": 2}, source="same")
    suite = suite_with(spec, eot=2, judge_draws=20)
    first, second = (evaluate(Declared().eval(), suite=suite, options=OPTIONS) for _ in range(2))
    assert first.fingerprint() == second.fingerprint()


# --- gradients ---------------------------------------------------------------------------------------------------


def test_gradients_that_are_not_numbers_fail_the_check_and_do_not_pass_for_success():
    model = Around(lambda x: x.sqrt() ** 2).eval()  # at a pixel of 0 the gradient is 0 times infinity
    record = evaluate(model, options=OPTIONS)
    assert check(record, "gradients").status == "fail"
    data = load_dataset("fashion-mnist", split="eval", limit=16)
    small = {"steps": 5, "queries": 30, "angles": 3, "shifts": 3, "samples": 4, "targets": 2}
    for name, attack in ATTACKS.items():
        taken = {k: v for k, v in small.items() if k in signature(attack).parameters}
        for norm in CARDS[name]["norms"]:
            threat = ThreatModel(norm, {"linf": 0.05, "l1": 4.0, "l0": 5}.get(norm, 1.0))
            assert torch.isfinite(attack(model, data.inputs, data.labels, threat=threat, **taken)).all()


@pytest.mark.parametrize(
    "change", [torch.Tensor.detach, lambda x: torch.zeros_like(x) + x.detach()], ids=["detached", "copied"]
)
def test_a_detached_input_is_a_failed_check(change):
    record = evaluate(Around(change).eval(), options=OPTIONS)
    assert check(record, "gradients").status == "fail"
    assert record.verdict.word == "suspicious"


def test_a_backward_pass_that_raises_is_refused_in_words():
    class NoWay(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise NotImplementedError("no backward here")

    with pytest.raises(InputError, match="expected a model that can be differentiated, got NotImplemented"):
        evaluate(Around(NoWay.apply).eval(), options=OPTIONS)


def test_a_model_that_writes_into_its_input_is_judged_on_the_data_as_they_are():
    data = load_dataset("fashion-mnist", split="eval", limit=64)
    before = data.inputs.clone()
    record = evaluate(
        Around(lambda x: x.mul_(0.9)).eval(), data, options=RunOptions(n=64, eps="8/255", analyze=False)
    )
    assert torch.equal(data.inputs, before)
    assert max(record.samples["linf"].to_pylist()) <= 8 / 255 + 1e-6


# --- models and data ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_of_another_float_type_are_served_in_theirs(dtype):
    plain = evaluate("fmnist-cnn-standard", options=OPTIONS)
    found = evaluate(load_model("fmnist-cnn-standard").to(dtype), options=OPTIONS)
    assert abs(found.accuracy.value - plain.accuracy.value) <= 1 / 32
    assert abs(found.robust_accuracy.value - plain.robust_accuracy.value) <= 3 / 32


def test_a_pair_without_the_last_classes_serves_a_model_that_knows_them():
    data = load_dataset("fashion-mnist", split="eval")
    rows = (data.labels < 4).nonzero().squeeze(1)[:20]
    pair = data.inputs[rows], data.labels[rows]
    record = evaluate("fmnist-cnn-standard", pair, options=RunOptions(eps="8/255", analyze=False))
    assert len(record.header.data.classes) == 10
    assert record.accuracy.value > 0.8


def test_inputs_that_require_a_gradient_are_taken_as_numbers():
    x = torch.rand(4, 1, 28, 28, requires_grad=True)
    record = evaluate("fmnist-cnn-standard", (x, torch.arange(4)), options=RunOptions(eps=0.1, analyze=False))
    assert len(record.header.data.sample_ids) == 4
    assert x.grad is None


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(InputError, match="expected a device that this machine has"):
        evaluate("fmnist-cnn-standard", options=RunOptions(n=32, device=device))


def test_a_function_is_no_model():
    with pytest.raises(InputError, match=r"expected a reference or a torch.nn.Module, got function"):
        evaluate(lambda x: x, options=OPTIONS)


def test_one_sample_is_evaluated_without_geometry():
    record = evaluate("fmnist-cnn-standard", options=RunOptions(n=1, eps="8/255"))
    assert check(record, "geometry").status == "warn"
    assert record.tables["logits"].num_rows == 2


def test_a_model_that_fails_in_the_analyzers_costs_the_geometry_only():
    class Narrow(Around):
        def forward(self, x):
            if len(x) % 4:
                raise RuntimeError("out of memory")
            return super().forward(x)

    record = evaluate(Narrow(lambda x: x).eval(), options=RunOptions(n=42, eps="8/255"))
    assert record.header.status == "complete"
    assert "out of memory" in check(record, "geometry").message


def test_any_error_after_a_finished_job_keeps_what_is_done():
    def broken(event):
        if "stand" in (event.line or ""):
            raise ValueError("a progress display that fails")

    with pytest.raises(Unfinished, match="ValueError: a progress display that fails") as stop:
        evaluate("fmnist-cnn-standard", options=OPTIONS, progress=broken)
    record = stop.value.record
    assert record.header.status == "failed"
    assert not record.verdict.trustworthy
    assert record.samples.num_rows > 32
