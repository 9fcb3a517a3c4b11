"""Calibration measures against numpy, scipy's minimiser, and a generator whose miscalibration is known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special

from robustgeom import logits as measures
from robustgeom.errors import InputError

quick = settings(max_examples=40, deadline=None, derandomize=True)
seeds, classes = st.integers(0, 2**32 - 1), st.integers(2, 12)


def drawn(seed, k, n, *, temperature=1.0, scale=2.0):
    """Logits whose labels follow softmax(logits * temperature): calibrated once they are divided by 1 / temperature."""
    generator = np.random.default_rng(seed)
    z = scale * generator.standard_normal((n, k))
    p = special.softmax(z, axis=1)
    y = (p.cumsum(1) < generator.uniform(size=(n, 1))).sum(1).clip(max=k - 1)
    return torch.from_numpy(z * temperature), torch.from_numpy(y)


@quick
@given(seeds, classes)
def test_the_brier_score_equals_numpy(seed, k):
    z, y = drawn(seed, k, 30)
    p, onehot = special.softmax(z.numpy(), axis=1), np.eye(k)[y.numpy()]
    found = measures.brier_score(z, y)
    np.testing.assert_allclose(found, ((p - onehot) ** 2).sum(1), atol=1e-12)
    assert (found >= 0).all()
    assert (found <= 2).all()


def test_the_brier_score_of_the_sure_and_wrong_is_two():
    z = torch.tensor([[200.0, 0.0, 0.0]])
    assert measures.brier_score(z, torch.tensor([1])).item() == pytest.approx(2)
    assert measures.brier_score(z, torch.tensor([0])).item() == pytest.approx(0)


@quick
@given(seeds, classes, st.integers(1, 20))
def test_the_adaptive_calibration_error_equals_a_loop_over_parts(seed, k, bins):
    z, y = drawn(seed, k, 101)
    p = special.softmax(z.numpy(), axis=1)
    order = np.argsort(p.max(1), kind="stable")
    gap = ((p.argmax(1) == y.numpy()) - p.max(1))[order]
    wanted = sum(abs(part.sum()) for part in np.array_split(gap, bins)) / 101
    assert measures.adaptive_calibration_error(z, y, bins=bins) == pytest.approx(wanted, abs=1e-12)


def test_the_order_of_samples_of_one_confidence_does_not_matter():
    fair = torch.tensor([[math.log(3.0), 0.0]]).repeat(8, 1)
    for labels in ([0, 0, 0, 0, 0, 0, 1, 1], [1, 0, 0, 1, 0, 0, 0, 0]):
        found = measures.adaptive_calibration_error(fair, torch.tensor(labels), bins=4)
        assert found == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(("n", "bins"), [(3, 4), (3, 0), (0, 1)])
def test_more_bins_than_samples_are_refused(n, bins):
    with pytest.raises(InputError, match="a sample for each"):
        measures.adaptive_calibration_error(torch.zeros(n, 2), torch.zeros(n).long(), bins=bins)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_a_known_miscalibration_is_found_and_undone(temperature):
    z, y = drawn(7, 10, 40_000, temperature=temperature)
    found = measures.best_temperature(z, y)
    assert found == pytest.approx(temperature, rel=0.03)
    for error in (measures.calibration_error, measures.adaptive_calibration_error):
        before, after = error(z, y), error(z / found, y)
        assert after < 0.012
        assert temperature == 1.0 or before > 5 * after
    sure = measures.overconfidence(z, y) > measures.overconfidence(z / found, y)
    assert temperature == 1.0 or sure == (temperature > 1)


@quick
@given(seeds, classes, st.sampled_from([0.1, 1.0, 30.0]))
def test_the_best_temperature_is_that_of_a_minimiser(seed, k, temperature):
    z, y = drawn(seed, k, 60, temperature=temperature, scale=1.0)
    found = measures.best_temperature(z, y)

    def loss(log_t):
        return -special.log_softmax(z.numpy() / math.exp(log_t), axis=1)[np.arange(60), y.numpy()].mean()

    if math.isinf(found):  # the labels of few samples may lie against the logits
        assert (z.mean(1) - z.gather(1, y[:, None])[:, 0]).mean() >= 0
    else:
        near = optimize.minimize_scalar(
            loss, bounds=(math.log(found) - 3, math.log(found) + 3), method="bounded"
        )
        assert loss(math.log(found)) <= near.fun + 1e-9


def test_the_best_temperature_at_its_ends():
    right = torch.tensor([[3.0, 0.0], [0.1, 0.0]])
    assert measures.best_temperature(right, torch.tensor([0, 0])) == 0
    assert measures.best_temperature(right, torch.tensor([1, 1])) == math.inf
    assert measures.best_temperature(torch.zeros(3, 4), torch.tensor([0, 1, 2])) == math.inf
    with pytest.raises(InputError, match="at least one sample"):
        measures.best_temperature(torch.zeros(0, 4), torch.zeros(0).long())


@quick
@given(seeds, classes)
def test_over_and_underconfidence_are_conditional_means(seed, k):
    z, y = drawn(seed, k, 50)
    p = special.softmax(z.numpy(), axis=1)
    right = p.argmax(1) == y.numpy()
    for name, values in {
        "overconfidence": p.max(1)[~right],
        "underconfidence": 1 - p.max(1)[right],
    }.items():
        found = getattr(measures, name)(z, y)
        assert math.isnan(found) if len(values) == 0 else found == pytest.approx(values.mean())
