"""What a run will take is said before it starts; a budget ends it early, with a bound that says it is one."""

import re

import pytest
import torch
from torch import nn

import robustgeom as rg
from robustgeom.errors import InputError
from robustgeom.harness.budget import Budget, BudgetSpent, parse_budget
from robustgeom.harness.options import RunOptions

MODEL, N = "fmnist-cnn-pgd-at", 64


def run(budget=None, *, suite="quick-linf", **settings):
    return rg.evaluate(MODEL, suite=suite, options=RunOptions(n=N, analyze=False, budget=budget), **settings)


def passes(record):
    return record.header.totals.forward_calls + record.header.totals.backward_calls


@pytest.mark.parametrize("text", ["", "10", "10 m", "-5s", "0s", "nans", "1e999passes", "s", 10, "10min 5s"])
def test_a_budget_that_cannot_be_read_is_refused_at_once(text):
    with pytest.raises(InputError, match="a budget of seconds or passes"):
        RunOptions(budget=text)


def test_a_budget_in_words():
    assert parse_budget("90s").seconds == 90
    assert parse_budget("2h").seconds == parse_budget("120 min").seconds == 7200
    assert parse_budget("1.5e3passes").passes == parse_budget("1500 passes").passes == 1500
    assert not parse_budget(None).limited


def test_a_budget_is_never_overdrawn():
    budget = Budget(passes=10)
    budget.spend(10)
    with pytest.raises(BudgetSpent):
        budget.spend(1)
    assert budget.used == 10
    with pytest.raises(BudgetSpent):
        Budget(seconds=0).spend(0)


def test_passes_run_out_and_leave_an_upper_bound_that_repeats():
    record = run("4000passes")
    assert record.header.status == "partial"
    assert passes(record) <= 4000
    assert not record.verdict.trustworthy
    assert not record.verdict.evaluated
    said = str(record.verdict)
    assert re.search(r"budget of 4000passes ran out in pgd-\w+ at linf \S+; .* is an upper bound", said)
    assert run("4000passes").fingerprint() == record.fingerprint()
    whole = run("9e9passes")
    assert whole.header.status == "complete"
    for radius in whole.header.threat.headlines:
        bound, found = record.robust_accuracy_at(radius), whole.robust_accuracy_at(radius)
        assert bound.value >= found.value
        assert not (whole.robust_mask(radius) & ~record.robust_mask(radius)).any()
        assert bound.low < bound.value < bound.high
    assert record.robust_accuracy.value < record.accuracy.value  # something had been found by then


def test_a_budget_that_suffices_ends_as_a_run_at_the_headlines_does():
    suite = rg.load_suite("quick-linf").model_copy(update={"radii": "headlines"})
    plain, limited = run(suite=suite), run("9e9passes")
    assert limited.header.threat == plain.header.threat
    for radius in plain.header.threat.headlines:
        assert (plain.robust_mask(radius) == limited.robust_mask(radius)).all()
    assert limited.verdict.trustworthy


def test_no_time_leaves_the_clean_accuracy_as_the_bound():
    record = run("0.001s")
    assert record.header.status == "partial"
    assert record.robust_accuracy.value == record.accuracy.value
    assert set(record.samples["attack"].to_pylist()) == {"clean"}


def test_a_larger_budget_goes_on_from_what_a_smaller_one_had_finished(tmp_path):
    first = run("8000passes", journal=tmp_path)
    kept = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.safetensors")}
    assert first.header.status == "partial"
    assert len(kept) >= 2
    assert run("8000passes", journal=tmp_path).fingerprint() == first.fingerprint()
    whole = run("9e9passes", journal=tmp_path)
    assert {f: f.stat().st_mtime_ns for f in kept} == kept
    assert whole.fingerprint() == run("9e9passes").fingerprint()


def test_partial_records_can_be_compared_and_are_named_so(tmp_path):
    from robustgeom.report import compare, render

    comparison = compare(
        [run("4000passes"), rg.evaluate("fmnist-cnn-standard", options=RunOptions(n=N, analyze=False))]
    )
    assert [m.partial for m in comparison.models] == [True, False]
    page = render(comparison)
    assert "ran out in" in page


@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("fmnist-cnn-standard", N),
        pytest.param("fmnist-cnn-pgd-at", N, marks=pytest.mark.slow),
        pytest.param("fmnist-cnn-gaussian", 20, marks=pytest.mark.slow),
    ],
)
def test_the_estimate_is_near_and_its_upper_end_holds(name, n):
    lines = []
    options = RunOptions(n=n, eps="8/255", analyze=False)
    record = rg.evaluate(name, options=options, progress=lambda event: lines.append(event.line))
    (said,) = [line for line in lines if line and line.startswith("attacks and checks: about")]
    about, most = (
        float(text.replace(",", "")) for text in re.findall(r"and ([\d,]+)", said.partition(":")[2])
    )
    found = passes(record) + record.header.plan["checks"]["passes"]
    assert 0.5 * about <= found <= 1.5 * about
    assert found <= 1.1 * most  # undecided noise draws are not in it
    assert record.fingerprint() == rg.evaluate(name, options=options).fingerprint()


def test_an_attack_of_ones_own_is_named_as_not_counted(tmp_path):
    (tmp_path / "mine.py").write_text("def mine(model, inputs, labels, *, threat):\n    return inputs\n")
    lines = []
    options = RunOptions(n=16, eps="8/255", analyze=False, attacks=(f"{tmp_path}/mine.py:mine",))
    rg.evaluate(MODEL, options=options, progress=lambda event: lines.append(event.line))
    assert any(line and line.endswith("without mine") for line in lines)


class Greedy(nn.Module):
    """Runs out of memory where more than 64 rows want a gradient."""

    def __init__(self):
        super().__init__()
        self.inner = rg.load_model(MODEL)

    def forward(self, x):
        if x.requires_grad and len(x) > 64:
            raise torch.OutOfMemoryError("out of memory")
        return self.inner(x)


def test_no_memory_for_an_estimate_does_not_cost_the_run():
    lines = []
    options = RunOptions(n=96, eps="8/255", analyze=False)
    record = rg.evaluate(Greedy().eval(), options=options, progress=lambda event: lines.append(event.line))
    assert any(line and line.startswith("no estimate: expected memory for a batch") for line in lines)
    assert record.header.status == "complete"
    assert record.header.plan["halvings"]
