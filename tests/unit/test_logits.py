"""Logit measures against numpy and scipy, the identities that bind them, and a closed form."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from robustgeom import logits as measures
from robustgeom.errors import InputError
from robustgeom.registry import MEASURES

quick = settings(max_examples=60, deadline=None, derandomize=True)
seeds, classes = st.integers(0, 2**32 - 1), st.integers(2, 12)
scales = st.sampled_from([1e-2, 1.0, 10.0])


def sample(seed, k, scale=3.0, n=20):
    g = torch.Generator().manual_seed(seed)
    z = scale * torch.randn(n, k, generator=g, dtype=torch.float64)
    return z, torch.randint(k, (n,), generator=g)


@quick
@given(seeds, classes, scales)
def test_every_measure_equals_numpy(seed, k, scale):
    z, y = sample(seed, k, scale)
    a = z.numpy()
    ordered = -np.sort(-a, axis=1)
    p = special.softmax(a, axis=1)
    others = np.ma.masked_array(a, mask=np.eye(k, dtype=bool)[y.numpy()])
    expected = {
        "max_logit": ordered[:, 0] - a.mean(1),
        "logit_gap": ordered[:, 0] - ordered[:, 1],
        "mean_gap": np.mean(ordered[:, :1] - ordered[:, 1:], axis=1),
        "confidence": p.max(1),
        "entropy": stats.entropy(p, axis=1),
        "margin": a[np.arange(len(a)), y] - others.max(1).filled(),
    }
    found = measures.per_sample(z, y)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-9, atol=1e-10, err_msg=name)
        assert (found[name] >= MEASURES[name].low).all()
        assert (found[name] <= MEASURES[name].high + 1e-12).all()


@quick
@given(seeds, classes, st.floats(-100, 100))
def test_no_measure_sees_a_shift_of_all_logits(seed, k, shift):
    z, y = sample(seed, k)
    before, after = measures.per_sample(z, y), measures.per_sample(z + shift, y)
    for name, values in before.items():
        torch.testing.assert_close(after[name], values, rtol=1e-9, atol=1e-9, msg=name)


@quick
@given(seeds, classes, st.sampled_from([0.1, 1.0, 5.0]))
def test_the_top_gap_bounds_the_log_odds_of_the_confidence(seed, k, scale):
    z, _ = sample(seed, k, scale)
    gap, p = measures.logit_gap(z), measures.confidence(z)
    odds = special.logit(p.numpy())
    assert (gap.numpy() - math.log(k - 1) <= odds + 1e-7).all()
    assert (odds <= gap.numpy() + 1e-7).all()


@quick
@given(seeds, classes)
def test_gaps_of_all_ranks_give_confidence_and_max_logit(seed, k):
    z, _ = sample(seed, k)
    gaps = torch.stack([measures.logit_gap(z, rank=r) for r in range(2, k + 1)], 1)
    torch.testing.assert_close(measures.confidence(z), 1 / (1 + (-gaps).exp().sum(1)))
    torch.testing.assert_close(measures.max_logit(z), gaps.sum(1) / k)
    torch.testing.assert_close(measures.mean_gap(z), k / (k - 1) * measures.max_logit(z))
    assert (gaps.diff(dim=1) >= 0).all()


@quick
@given(seeds, classes)
def test_the_top_gap_bounds_the_cross_entropy_of_correct_rows(seed, k):
    z, _ = sample(seed, k)
    y = z.argmax(1)
    loss = torch.nn.functional.cross_entropy(z, y, reduction="none")
    gap = measures.logit_gap(z)
    assert (loss >= torch.log1p((-gap).exp()) - 1e-12).all()
    assert (loss <= torch.log1p((k - 1) * (-gap).exp()) + 1e-12).all()
    torch.testing.assert_close(measures.margin(z, y), gap)


@pytest.mark.parametrize("rank", [1, 0, -1, 4])
def test_a_gap_needs_a_rank_among_the_classes(rank):
    with pytest.raises(InputError, match=r"expected 2 <= rank <= 3, got .*; try rank=2"):
        measures.logit_gap(torch.zeros(1, 3), rank=rank)


def calibration_by_loop(z, y, bins):
    """Bin by bin: weight x |mean accuracy - mean confidence|, over left-open intervals."""
    p = special.softmax(z, axis=1)
    confidence, right = p.max(1), p.argmax(1) == y
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@quick
@given(seeds, st.integers(2, 12), st.integers(1, 30), scales)
def test_calibration_error_equals_a_loop_over_bins(seed, k, bins, scale):
    z, y = sample(seed, k, scale, n=200)
    found = measures.calibration_error(z, y, bins=bins)
    assert found == pytest.approx(calibration_by_loop(z.numpy(), y.numpy(), bins), abs=1e-12)


def test_calibration_error_of_known_cases():
    sure = torch.tensor([[100.0, 0.0]]).repeat(10, 1)
    assert measures.calibration_error(sure, torch.zeros(10, dtype=torch.long)) == pytest.approx(0, abs=1e-9)
    assert measures.calibration_error(sure, torch.ones(10, dtype=torch.long)) == pytest.approx(1, abs=1e-9)
    fair = torch.tensor([[math.log(3.0), 0.0]]).repeat(8, 1)  # confidence 3/4
    assert measures.calibration_error(fair, torch.tensor([0, 0, 0, 1] * 2)) == pytest.approx(0, abs=1e-6)
    assert measures.calibration_error(fair, torch.tensor([0, 1] * 4)) == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize(("n", "bins"), [(0, 15), (3, 0)])
def test_calibration_error_of_nothing_is_refused(n, bins):
    with pytest.raises(InputError, match="expected at least one sample and one bin"):
        measures.calibration_error(torch.zeros(n, 2), torch.zeros(n, dtype=torch.long), bins=bins)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_logits_stay_finite(dtype):
    z = torch.tensor([[1e4, -1e4, 0.0], [1e4, 1e4, -1e4], [-1e4, -1e4, -1e4]], dtype=dtype)
    np.testing.assert_allclose(measures.entropy(z), [0, math.log(2), math.log(3)], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(measures.confidence(z), [1, 0.5, 1 / 3], rtol=1e-6)
    assert all(torch.isfinite(v).all() for v in measures.per_sample(z, torch.tensor([0, 1, 2])).values())


MU = torch.tensor([1, 0.5, 0.3, 0.1, -0.4], dtype=torch.float64)
SPREAD = 1.2


@pytest.mark.parametrize(("eps", "known"), [(0.0, 2.0972), (0.1, 1.7778), (0.25, 1.3194), (0.4, 0.9028)])
def test_mean_margin_of_the_robust_linear_classifier_of_two_gaussians(eps, known):
    """x | y ~ N(y mu, s^2 I), w = 2/s^2 soft_eps(mu): mean margin 2/s^2 sum |mu_i| max(|mu_i| - eps, 0)."""
    n, g = 40_000, torch.Generator().manual_seed(1)
    y = torch.randint(2, (n,), generator=g)
    noise = SPREAD * torch.randn(n, 5, generator=g, dtype=torch.float64)
    x = (2 * y[:, None] - 1) * MU + noise
    w = 2 / SPREAD**2 * MU.sign() * (MU.abs() - eps).clamp_min(0)
    score = x @ w
    margins = measures.margin(torch.stack([-score, score], 1) / 2, y)
    closed = 2 / SPREAD**2 * (MU.abs() * (MU.abs() - eps).clamp_min(0)).sum().item()
    assert closed == pytest.approx(known, abs=1e-4)
    se = SPREAD * w.norm().item() / n**0.5  # the margin is Gaussian with deviation s |w|
    assert abs(margins.mean().item() - closed) < 4 * se
    assert margins.std().item() == pytest.approx(SPREAD * w.norm().item(), rel=0.02)


def test_adversarial_training_shrinks_gap_and_max_logit_in_the_closed_form():
    g = torch.Generator().manual_seed(2)
    x = (2 * torch.randint(2, (5000, 1), generator=g) - 1) * MU + SPREAD * torch.randn(
        5000, 5, generator=g, dtype=torch.float64
    )
    gaps = []
    for eps in (0.0, 0.1, 0.25, 0.4):
        score = x @ (2 / SPREAD**2 * MU.sign() * (MU.abs() - eps).clamp_min(0))
        z = torch.stack([-score, score], 1) / 2
        gaps.append(measures.logit_gap(z).mean().item())
        assert measures.max_logit(z).mean().item() == pytest.approx(gaps[-1] / 2)
    assert gaps == sorted(gaps, reverse=True)


def test_the_summary_has_every_measure_with_its_standard_error():
    z, y = sample(5, 4, n=30)
    y[::2] = z.argmax(1)[::2]  # better than chance, so that every measure has a number
    rows = measures.summary_rows(z.float(), y, model="m", seed=3, condition="clean")
    by_name = {row["measure"]: row for row in rows}
    together = {"calibration_error", "adaptive_calibration_error", "best_temperature"}
    together |= {"overconfidence", "underconfidence"}
    assert by_name.keys() == measures.per_sample(z, y).keys() | together | {"brier_score"}
    assert by_name.keys() <= MEASURES.keys()
    values = measures.per_sample(z.float(), y)["margin"].numpy()
    assert by_name["margin"]["value"] == pytest.approx(values.mean())
    assert by_name["margin"]["se"] == pytest.approx(stats.sem(values))
    assert by_name["calibration_error"]["value"] == pytest.approx(
        calibration_by_loop(z.float().double().numpy(), y.numpy(), 15)
    )
    assert by_name["best_temperature"]["value"] == measures.best_temperature(z.float(), y)
    assert by_name["brier_score"]["se"] == pytest.approx(
        stats.sem(measures.brier_score(z.float(), y)), rel=1e-4
    )
    for row in rows:
        assert (row["model"], row["seed"], row["stage"], row["condition"]) == ("m", 3, "logits", "clean")
        assert (row["M"], row["N"]) == (30, 4)


def test_what_has_no_finite_number_has_no_row():
    sure = torch.tensor([[3.0, 0.0], [4.0, 1.0]])
    for label, left_out in ((0, "overconfidence"), (1, "underconfidence"), (1, "best_temperature")):
        rows = measures.summary_rows(sure, torch.full((2,), label), model="m", seed=0, condition="clean")
        assert left_out not in {row["measure"] for row in rows}
        assert all(math.isfinite(row["value"]) for row in rows)


def test_one_sample_has_no_standard_error():
    z, y = sample(5, 4, n=1)
    assert all(r["se"] is None for r in measures.summary_rows(z, y, model="m", seed=0, condition="clean"))
