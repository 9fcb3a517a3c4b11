"""The harness judges: closed forms, planted models, refusals, checks and interruption."""

import numpy as np
import pytest
import torch
from torch import nn

from robustgeom.data.load import load_dataset
from robustgeom.errors import InputError, UnknownNameError, UserError
from robustgeom.harness.door import at_the_door
from robustgeom.harness.evaluate import evaluate
from robustgeom.harness.options import Interrupted, RunOptions, Unfinished
from robustgeom.harness.spec import AttackSpec
from robustgeom.harness.subject import subject
from robustgeom.harness.suite import load_suite
from robustgeom.logits import logit_gap
from robustgeom.models.calibrate import calibrate
from robustgeom.models.card import read_card
from robustgeom.models.load import load_model
from robustgeom.models.noise import GaussianNoise
from robustgeom.records import load_record


class Linear(nn.Module):
    """Logits (z, -z) / 2 of a fixed linear score."""

    def __init__(self, weight, bias):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), bias

    def forward(self, x):
        score = x.flatten(1) @ self.weight + self.bias
        return torch.stack([score, -score], 1) / 2


def linear_problem(n=96, d=20):
    g = torch.Generator().manual_seed(3)
    x = torch.rand(n, d, generator=g)
    weight = torch.randn(d, generator=g)
    model = Linear(weight, -float((x @ weight).median())).eval()
    with torch.no_grad():
        labels = model(x).argmax(1)
    flip = torch.rand(n, generator=g) < 0.1
    return model, x, torch.where(flip, 1 - labels, labels)


def exact_robust(model, x, labels, eps):
    """Worst case in the ball and the box: each coordinate moves on its own."""
    w = model.weight.detach().double() * torch.where(labels == 0, 1.0, -1.0)[:, None]
    x = x.double()
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    worst = torch.minimum(w * low, w * high).sum(1) + torch.where(labels == 0, 1.0, -1.0) * model.bias
    return (worst > 0).numpy()


def test_robust_mask_of_a_linear_model_is_the_closed_form_at_every_radius():
    model, x, labels = linear_problem()
    record = evaluate(model, (x, labels), "quick-linf", options=RunOptions(eps=0.08, analyze=False))
    assert 0 < record.robust_accuracy.value < record.accuracy.value
    for radius in record.header.threat.grid:
        np.testing.assert_array_equal(record.robust_mask(radius), exact_robust(model, x, labels, radius))


def test_curve_falls_with_the_radius_and_successes_lie_inside_it():
    record = evaluate("fmnist-cnn-standard", options=RunOptions(n=64, analyze=False))
    curve = [record.robust_accuracy_at(r).value for r in record.header.threat.grid]
    assert curve == sorted(curve, reverse=True)
    rows = [r for r in record.samples.to_pylist() if r["attack"] != "clean"]
    assert rows
    assert all(r["linf"] <= r["radius"] + 1e-6 for r in rows)
    assert all(r["success"] == (r["prediction"] != r["label"]) for r in rows)
    assert record.header.totals.forward_calls == sum(r["forward_calls"] for r in record.samples.to_pylist())


def test_the_harness_clips_a_cheating_attack_and_says_so(tmp_path):
    file = tmp_path / "cheat.py"
    file.write_text("def attack(model, inputs, labels, *, threat):\n    return inputs + 0.5\n")
    options = RunOptions(n=32, eps=0.02, analyze=False, attacks=(f"{file}:attack",))
    record = evaluate("fmnist-cnn-standard", options=options)
    assert max(record.samples["linf"].to_pylist()) <= 0.02 + 1e-6
    bounds = next(c for c in record.checks if c.name == "attack bounds")
    assert bounds.status == "warn"
    assert "attack" in bounds.message


def test_an_attack_that_returns_nan_is_refused(tmp_path):
    file = tmp_path / "bad.py"
    file.write_text("def attack(model, inputs, labels, *, threat):\n    return inputs * float('nan')\n")
    with pytest.raises(Unfinished, match="expected finite inputs"):
        evaluate("fmnist-cnn-standard", options=RunOptions(n=32, eps=0.02, attacks=(f"{file}:attack",)))


def test_an_attack_that_raises_is_named_and_finished_jobs_are_kept(tmp_path):
    file = tmp_path / "bad.py"
    file.write_text("def mine(model, inputs, labels, *, threat):\n    raise ValueError('no step')\n")
    with pytest.raises(Unfinished, match="expected attack mine to run, got ValueError: no step") as stop:
        evaluate("fmnist-cnn-standard", options=RunOptions(n=32, eps=0.02, attacks=(f"{file}:mine",)))
    assert stop.value.record.samples.num_rows > 32


def test_a_model_for_other_inputs_is_refused():
    message = r"expected a model that takes inputs \(n, 3, 8, 8\), got RuntimeError"
    with pytest.raises(InputError, match=message):
        evaluate(
            "fmnist-cnn-standard", (torch.rand(4, 3, 8, 8), torch.arange(4)), options=RunOptions(eps=0.1)
        )


class Wrapped(nn.Module):
    """A zoo model with its output changed."""

    def __init__(self, change):
        super().__init__()
        from robustgeom.models.load import load_model

        self.inner, self.change = load_model("fmnist-cnn-standard"), change

    def forward(self, x):
        return self.change(self.inner(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z: z.softmax(1), "expected logits, got rows in"),
        (lambda z: z * float("nan"), "expected finite float logits"),
        (lambda z: z[:, :5], "expected 10 logits"),
        (lambda z: (z, z), "expected a model that returns one tensor"),
        (lambda z: z[:1], "expected logits of shape"),
    ],
)
def test_bad_models_are_refused_at_the_door(change, message):
    with pytest.raises(InputError, match=message):
        evaluate(Wrapped(change).eval(), options=RunOptions(n=32))


def test_training_mode_is_refused():
    with pytest.raises(InputError, match="eval mode"):
        evaluate(Wrapped(lambda z: z).train(), options=RunOptions(n=32))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda x, y: (x * 255, y), "expected inputs in"),
        (lambda x, y: (x - 0.5, y), "expected inputs in"),
        (lambda x, y: (x * float("nan"), y), "expected finite inputs"),
        (lambda x, y: (x, y[:-1]), "expected labels of shape"),
        (lambda x, y: (x, y.float()), "expected integer labels"),
        (lambda x, y: (x[:0], y[:0]), "expected at least one sample"),
    ],
)
def test_bad_data_is_refused_at_the_door(data, message):
    x, y = torch.rand(8, 1, 28, 28), torch.arange(8)
    with pytest.raises(InputError, match=message):
        evaluate("fmnist-cnn-standard", data(x, y), options=RunOptions(eps=0.1))


def test_unknown_names_get_suggestions():
    with pytest.raises(UnknownNameError, match="try fmnist-cnn-standard"):
        evaluate("fmnist-cnn-standart")
    with pytest.raises(UnknownNameError, match="quick-linf"):
        evaluate("fmnist-cnn-standard", suite="quick-lnif")
    with pytest.raises(UnknownNameError, match="fashion-mnist"):
        evaluate("fmnist-cnn-standard", "fashion-mnst")
    with pytest.raises(UnknownNameError, match="linf"):
        evaluate("fmnist-cnn-standard", options=RunOptions(norm="lnf"))


def test_data_without_a_threat_table_needs_a_radius():
    model, x, labels = linear_problem()
    with pytest.raises(InputError, match="--eps"):
        evaluate(model, (x, labels))


def status(record, name):
    return next(c.status for c in record.checks if c.name == name)


def test_noise_that_never_met_inputs_is_named_until_it_is_calibrated():
    model = nn.Sequential(GaussianNoise(1, rho=1.0, key="input"), load_model("fmnist-cnn-standard")).eval()
    data = load_dataset("fashion-mnist").balanced(8)
    found = {c.name: c for c in at_the_door(*subject(model, data))}["noise level"]
    assert (found.status, found.value) == ("warn", 1)
    assert "noise at input has met no inputs" in found.message
    calibrate(model, data.inputs)
    assert "noise level" not in {c.name for c in at_the_door(*subject(model, data))}


def test_batch_dependence_is_found():
    class Dependent(Wrapped):
        def forward(self, x):
            z = self.inner(x)
            return z + z.mean(0, keepdim=True)

    record = evaluate(Dependent(None).eval(), options=RunOptions(n=32, eps=0.01, analyze=False))
    assert status(record, "batch independence") == "fail"
    assert not record.verdict.trustworthy


def test_blocked_gradients_are_found():
    class Rounded(Wrapped):
        def forward(self, x):
            return self.inner((x * 8).round() / 8)

    record = evaluate(Rounded(None).eval(), options=RunOptions(n=32, eps=0.01, analyze=False))
    assert status(record, "gradients") == "fail"
    assert "gradients" in str(record.verdict)


def test_saturated_logits_and_chance_accuracy_are_flagged():
    loud = evaluate(Wrapped(lambda z: z * 1000).eval(), options=RunOptions(n=32, eps=0.01, analyze=False))
    assert status(loud, "logit saturation") == "warn"
    lost = evaluate(Wrapped(lambda z: -z).eval(), options=RunOptions(n=100, eps=0.01, analyze=False))
    assert status(lost, "clean accuracy") == "fail"


def uniform_rest(z):
    """The same decisions, with all but the largest logit a hundredth as far apart."""
    top = z.amax(1, keepdim=True)
    rest = (z.sum(1, keepdim=True) - top) / (z.shape[1] - 1)
    return torch.where(z == top, z, rest + 0.01 * (z - rest))


def test_tied_runners_up_are_flagged_where_attacks_climb_their_ratio():
    options = RunOptions(n=48, eps=0.05, analyze=False)
    tied = Wrapped(uniform_rest).eval()
    ratio, plain = (
        AttackSpec(name=n, attack="apgd", settings={"steps": 20, "loss": n}) for n in ("dlr", "margin")
    )
    suite = load_suite("quick-linf").model_copy(update={"radii": "headlines"})
    weak, both, bare = (
        evaluate(tied, suite=suite.model_copy(update={"attacks": attacks}), options=options)
        for attacks in ([ratio], [ratio, plain], [plain])
    )
    assert status(weak, "tied runners-up") == "fail"
    assert status(both, "tied runners-up") == "warn"
    assert "tied runners-up" not in {c.name for c in bare.checks}
    honest = evaluate(
        "fmnist-cnn-standard", suite=suite.model_copy(update={"attacks": [ratio]}), options=options
    )
    assert status(honest, "tied runners-up") == "pass"


def test_margin_attacks_are_not_fooled_by_logit_scale():
    quiet = evaluate("fmnist-cnn-standard", options=RunOptions(n=64, eps="8/255", analyze=False))
    loud = evaluate(Wrapped(lambda z: z * 1000).eval(), options=RunOptions(n=64, eps="8/255", analyze=False))
    assert abs(quiet.robust_accuracy.value - loud.robust_accuracy.value) <= 2 / 64


class OwnNoise(Wrapped):
    """Noise by torch.randn_like, which nothing of ours controls."""

    def forward(self, x):
        return self.inner(x + 0.05 * torch.randn_like(x))


def test_a_users_own_noise_is_found_and_the_record_repeats():
    suite = load_suite("quick-linf").model_copy(update={"eot": 2, "judge_draws": 20})
    options = RunOptions(n=32, eps="4/255", analyze=False)
    first, second = (evaluate(OwnNoise(None).eval(), suite=suite, options=options) for _ in range(2))
    assert first.header.model.noise == "batch"
    assert first.header.resolved["eot"] == 2
    assert first.fingerprint() == second.fingerprint()
    assert status(first, "batch independence") == "warn"


def test_noise_is_judged_over_repeated_fresh_draws():
    suite = load_suite("quick-linf").model_copy(update={"eot": 2, "judge_draws": 48})
    record = evaluate(
        "fmnist-cnn-gaussian", suite=suite, options=RunOptions(n=64, eps="8/255", analyze=False)
    )
    assert record.header.model.noise == "keyed"
    rates = record.samples["correct_rate"].to_pylist()
    assert any(0 < rate < 1 for rate in rates)
    rows = [row for row in record.samples.to_pylist() if row["attack"] == "clean"]
    assert {row["forward_calls"] for row in rows} >= {20, 48}  # most rows are decided soon, some never
    for row in rows:
        votes = row["correct_rate"] * row["forward_calls"]
        assert votes == pytest.approx(round(votes))
        assert 20 <= row["forward_calls"] <= 48
        assert not row["near_tie"] or (row["forward_calls"], row["prediction"] != row["label"]) == (48, True)
    assert record.single_draw_accuracy_at("8/255") < record.single_draw_accuracy


def test_variants_serve_as_gradient_sources_only_where_they_exist():
    suite = load_suite("strong-linf").model_copy(update={"eot": 2, "judge_draws": 20})
    short = [spec.model_copy(update={"settings": {**spec.settings, "steps": 2}}) for spec in suite.attacks]
    suite = suite.model_copy(update={"attacks": short})
    options = RunOptions(n=32, eps="8/255", analyze=False)
    noisy = evaluate("fmnist-cnn-gaussian", suite=suite, options=options)
    plain = evaluate("fmnist-cnn-standard", suite=suite, options=options)
    assert "apgd-margin-noise-off" in noisy.header.resolved["attacks"]
    assert plain.header.resolved["attacks_left_out"] == ["apgd-margin-noise-off", "apgd-margin-soft-gates"]


def test_interruption_leaves_a_valid_partial_record(tmp_path):
    def stop_after_three(event):
        if event.line is not None and event.done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as stop:
        evaluate("fmnist-cnn-standard", options=RunOptions(n=32), progress=stop_after_three)
    record = load_record(stop.value.record.save(tmp_path / "run"))
    assert record.header.status == "interrupted"
    assert not record.verdict.trustworthy
    assert record.header.threat.grid == [0.0, 1 / 510, 1 / 255]
    assert 0 < record.robust_accuracy.value <= record.accuracy.value


class NanOffTheData(Wrapped):
    """Fine on clean images, NaN where a pixel has moved by more than 0.01."""

    def forward(self, x):
        off = ((x * 255).round() / 255 - x).abs().flatten(1).amax(1) > 1.5e-3
        return torch.where(off[:, None], torch.full_like(self.inner(x), float("nan")), self.inner(x))


def test_a_model_that_breaks_late_keeps_its_finished_jobs(tmp_path):
    with pytest.raises(InputError, match="finite float logits"):  # before any job has finished: no record
        evaluate(NanOffTheData(None).eval(), options=RunOptions(n=32))

    class Late(Wrapped):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return self.inner(x) * (float("nan") if self.calls > 60 else 1)

    with pytest.raises(Unfinished, match="finite float logits") as stop:
        evaluate(Late(None).eval(), options=RunOptions(n=32))
    record = load_record(stop.value.record.save(tmp_path / "run"))
    assert record.header.status == "failed"
    assert "finite float logits" in record.header.error
    assert not record.verdict.trustworthy


def test_a_stage_without_geometry_does_not_cost_the_run():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Wrapped(lambda z: z).inner
            self.square = nn.Linear(10, 10)

        def forward(self, x):
            return self.square(self.square(self.inner(x)))

    model, data = Twice().eval(), load_dataset("fashion-mnist", split="eval").balanced(40)
    record = evaluate(model, data, options=RunOptions(eps=0.01))
    assert status(record, "geometry") == "warn"
    assert record.tables["logits"].num_rows == 80
    with torch.no_grad():
        clean = model(data.inputs).log_softmax(1)
    np.testing.assert_allclose(record.arrays["log_p.clean"], clean, atol=1e-5)
    told = np.array(record.tables["logits"]["logit_gap"].to_pylist()).reshape(2, 40)
    for condition, gaps in zip(("clean", "attacked"), told, strict=True):
        found = logit_gap(torch.from_numpy(record.arrays[f"log_p.{condition}"]))
        np.testing.assert_allclose(found, gaps, atol=1e-5)


def test_l2_by_option_uses_the_l2_table():
    record = evaluate("fmnist-cnn-standard", options=RunOptions(n=32, norm="l2", analyze=False))
    assert record.header.threat.headlines == [1.5]
    assert max(record.samples["l2"].to_pylist()) <= 3 + 1e-5


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps = 10", 'steps = "many"', "expected steps of pgd as its type asks, got 'many'"),
        ("steps = 10", "steps = true", "expected steps of pgd as its type asks"),
        ("steps = 10", "steps = 0", "expected steps >= 1"),
        ("steps = 10", "steps = 10, step_size = -0.1", "expected a finite step_size > 0"),
        ('loss = "ce"', 'loss = "cce"', "expected the name of a known loss, got 'cce'; try ce"),
        ("points = 50", "points = 1", "greater than or equal to 2"),
        ('name = "pgd-ce"', 'name = "clean"', "none of them 'clean'"),
    ],
)
def test_values_that_cannot_be_are_found_when_a_suite_is_read(tmp_path, old, new, said):
    from robustgeom.content import find

    text = find("suite", "quick-linf").read_text()
    assert old in text
    (tmp_path / "mine.toml").write_text(text.replace(old, new))
    with pytest.raises(UserError, match=said):
        load_suite(str(tmp_path / "mine.toml"))


def test_settings_an_attack_does_not_take_are_refused(tmp_path):
    from robustgeom.content import find
    from robustgeom.errors import ContentError

    suite = tmp_path / "mine.toml"
    suite.write_text(find("suite", "quick-linf").read_text().replace("steps = 10", "stpes = 10"))
    with pytest.raises(ContentError, match="steps"):
        load_suite(str(suite))


def test_a_record_says_how_its_network_is_built():
    info, _ = subject("fmnist-vone-gaussian-3", load_dataset("fashion-mnist", split="eval", limit=2))
    card = read_card("fmnist-vone-gaussian-3")
    assert info.info.architecture.model_dump() == card.architecture.model_dump()
    own, _ = subject(load_model("fmnist-cnn-standard"), load_dataset("fashion-mnist", split="eval", limit=2))
    assert own.info.architecture is None
