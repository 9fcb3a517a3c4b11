"""What every failure check promises, over the registry: its name, its budget, repeatability, and no side effects."""

import inspect

import pytest
import torch

import robustgeom as rg
from robustgeom.harness.diagnosis import SHARE
from robustgeom.harness.failures import FAILURES, WEIGHTS
from robustgeom.harness.remedies import ANSWERS

OPTIONS = rg.RunOptions(n=64, analyze=False)


@pytest.fixture(scope="module")
def model():
    return rg.load_model("fmnist-cnn-pgd-at")


@pytest.fixture(scope="module")
def record(model):
    return rg.evaluate(model, options=OPTIONS)


@pytest.mark.parametrize("name", FAILURES)
def test_a_check_says_what_it_returns_and_lives_in_a_file_of_its_name(name):
    check = FAILURES[name]
    assert check.__module__ == f"robustgeom.harness.failures.{name}"
    assert check.__doc__.startswith("Return how") or check.__doc__.startswith("Return on how")
    assert list(inspect.signature(check).parameters) == ["case"]
    assert WEIGHTS[name] > 0


def test_every_check_ran_or_says_why_not(record):
    ran = {check.name.lower().replace(" ", "_") for check in record.checks}
    left_out = record.header.plan["checks"]["left_out"]
    assert set(FAILURES) <= ran | set(left_out)
    assert left_out == dict.fromkeys(["variants", "white_box", "eot_convergence"], "does not apply"), left_out
    assert all(check.status == "pass" or check.action for check in record.checks)


def test_checks_stay_within_their_part_of_the_passes(record):
    cost = record.header.plan["checks"]
    attacks = record.header.totals.forward_calls + record.header.totals.backward_calls
    assert 0 < cost["passes"] <= SHARE * attacks
    assert all(size <= 128 for size in cost["samples"].values())


def test_checks_that_the_passes_do_not_pay_for_are_said_to_be_left_out(model):
    record = rg.evaluate(model, options=rg.RunOptions(n=16, eps="8/255", analyze=False))
    unpaid = next(c for c in record.checks if c.name == "checks left out")
    assert unpaid.status == "warn"
    assert "black box" in unpaid.message
    assert record.header.plan["checks"]["left_out"]["black_box"] == "too few passes in the budget"


def test_the_same_seed_gives_the_same_checks(model, record):
    again = rg.evaluate(model, options=OPTIONS)
    assert again.checks == record.checks
    assert again.fingerprint() == record.fingerprint()


def test_checks_and_remedies_leave_the_model_and_the_callers_randomness_alone():
    class Rounded(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = rg.load_model("fmnist-cnn-standard")

        def forward(self, x):
            return self.inner((x * 8).round() / 8)

    model = Rounded().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [p.requires_grad for p in model.parameters()]
    stream = torch.get_rng_state()
    rg.evaluate(model, options=rg.RunOptions(n=12, eps="8/255", analyze=False, remedy=True))
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(not m._forward_pre_hooks and not m._forward_hooks and not m.training for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_remedies_answer_checks_that_exist(record):
    assert set(ANSWERS) <= {check.name for check in record.checks} | {
        "EOT convergence",
        "white box",
        "variants",
        "tied runners-up",
    }
