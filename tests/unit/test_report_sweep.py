"""Noise sweeps: grouping, the rules on planted cases of each outcome, the chart and its table."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from robustgeom.records import CheckResult
from robustgeom.report import CLAIMS, compare, judge
from robustgeom.report.html import render
from robustgeom.report.sweep import nearest_to_three, sweeps
from robustgeom.report.sweep_figures import sweep_figures

CLAIM = {claim.id: claim for claim in CLAIMS}
N, SMALL, LARGE = 200, 8 / 255, 0.1
NEVER = 9.0


@pytest.fixture
def level(make_record):
    """Build the record of one noise level: shares right without attack, at 8/255 and at 0.1."""

    def build(rho, clean, small, large, seed=0, name=None, **model):
        right = np.arange(N) < round(clean * N)
        felled = np.where(np.arange(N) < round(large * N), NEVER, LARGE)
        felled = np.where(np.arange(N) < round(small * N), felled, SMALL)
        facts = {"front_end": "vone", "rho": rho, "seed": seed, "noise": "keyed" if rho else "none", **model}
        record = make_record(name or f"v{rho:g}-s{seed}", clean=right, fooled={"pgd": felled}, model=facts)
        # As a suite does: several draws a gradient and a decision where there is noise to draw.
        draws = {"eot": 10, "judge_draws": 256} if rho else {"eot": 1, "judge_draws": 1}
        return changed(record, resolved={**record.header.resolved, **draws})

    return build


@pytest.fixture
def good(level):
    """A sweep in which every claim about noise holds."""
    shares = {0.0: (0.9, 0.4, 0.05), 1.0: (0.88, 0.6, 0.3), 3.0: (0.86, 0.7, 0.5), 30.0: (0.7, 0.5, 0.3)}
    return [level(rho, *s, seed=seed) for rho, s in shares.items() for seed in (0, 1)]


def test_a_sweep_has_three_levels_of_one_front_end_not_adversarially_trained(good, level):
    others = [{"threat": "linf 0.1"}, {"objective": "noise_augmented"}]
    trained = [level(3.0, 0.9, 0.9, 0.9, name=f"trained{i}", **facts) for i, facts in enumerate(others)]
    (sweep,) = sweeps([*good, *trained])
    assert list(sweep.levels) == [0.0, 1.0, 3.0, 30.0]
    assert [len(group) for group in sweep.levels.values()] == [2] * 4
    assert sweeps(good[:4]) == []
    elsewhere = [level(rho, 0.9, 0.5, 0.5, front_end="none", name=f"n{rho}") for rho in (0.0, 1.0, 3.0)]
    assert sweeps(elsewhere) == []
    assert len(sweeps([*good, *(level(r, 0.9, 0.5, 0.5, family="other") for r in (0.0, 1.0, 3.0))])) == 2


def test_intervals_average_seeds_per_sample(level):
    group = [level(r, 0.9, s, 0.1, seed=i) for r in (0.0, 1.0, 3.0) for i, s in enumerate((0.5, 0.7))]
    interval = sweeps(group)[0].interval(1.0, SMALL)
    assert interval.value == pytest.approx(0.6)
    assert interval.n == N
    assert sweeps(group)[0].interval(1.0, 0.0).value == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("levels", "expected"), [((0.3, 1, 3, 10), 3), ((0.3, 1), 1), ((0.3, 10), 10), ((30, 10), 10)]
)
def test_the_level_nearest_to_three_in_the_log(level, levels, expected):
    assert [r.header.model.rho for r in nearest_to_three([level(x, 0.9, 0.5, 0.1) for x in levels])] == [
        expected
    ]


def test_a_front_end_is_preferred_to_noise_elsewhere(level):
    noisy = [level(3.0, 0.9, 0.5, 0.1, front_end="none", name="stem"), level(10.0, 0.9, 0.5, 0.1)]
    assert [r.name for r in nearest_to_three(noisy)] == ["v10-s0"]
    assert [r.name for r in nearest_to_three(noisy[:1])] == ["stem"]
    assert nearest_to_three([]) == []


@pytest.mark.parametrize("claim", ["noise-beyond-filters", "noise-costs-clean", "interior-peak"])
def test_all_claims_hold_on_a_sweep_in_which_they_do(claim, good):
    result = judge(CLAIM[claim], good)
    assert result.status == "reproduced", result.reason
    assert result.interval.low > 0


def test_noise_beyond_filters_is_the_difference_to_the_twin_at_every_headline(good):
    result = judge(CLAIM["noise-beyond-filters"], good)
    assert result.effect == pytest.approx(0.3)
    assert "70.0 % at rho 3, 40.0 % without noise" in result.reason
    assert "50.0 % at rho 3, 5.0 % without noise" in result.reason


def test_noise_beyond_filters_fails_where_one_headline_disagrees(good, level):
    kept = [r for r in good if r.header.model.rho != 3]
    result = judge(CLAIM["noise-beyond-filters"], [*kept, level(3.0, 0.86, 0.7, 0.05)])
    assert result.status == "not reproduced"
    assert result.effect == pytest.approx(0.0)


def test_noise_that_costs_nothing_and_noise_that_helps_later(good, level):
    free = [r for r in good if r.header.model.rho != 30]
    assert judge(CLAIM["noise-costs-clean"], [*free, level(30.0, 0.9, 0.5, 0.3)]).status == "not reproduced"
    rising = [r for r in good if r.header.model.rho != 3]
    result = judge(CLAIM["noise-costs-clean"], [*rising, level(3.0, 0.6, 0.5, 0.3)])
    assert result.status == "not reproduced"
    assert "rises from rho 3 to 30" in result.reason


def test_a_peak_at_an_end_is_no_interior_peak(good, level):
    kept = [r for r in good if r.header.model.rho != 30]
    result = judge(CLAIM["interior-peak"], [*kept, level(30.0, 0.86, 0.75, 0.6)])
    assert result.status == "not reproduced"
    assert "rho 30 60.0 %" in result.reason


def test_a_peak_that_is_within_chance_is_none(good, level):
    kept = [r for r in good if r.header.model.rho != 30]
    result = judge(CLAIM["interior-peak"], [*kept, level(30.0, 0.86, 0.7, 0.5)])
    assert result.status == "not reproduced"
    assert result.effect == pytest.approx(0.0)


def test_the_peak_is_judged_where_something_is_left(level):
    group = [level(r, 0.9, s, 0.02) for r, s in ((0.0, 0.3), (3.0, 0.8), (30.0, 0.4))]
    assert "8/255" in judge(CLAIM["interior-peak"], group).reason
    gone = [level(r, 0.9, 0.05, 0.02) for r in (0.0, 3.0, 30.0)]
    assert "no level keeps 10 %" in judge(CLAIM["interior-peak"], gone).reason


def test_claims_are_untested_without_a_twin_or_with_a_failed_check(good, level, make_record):
    for claim in ("noise-beyond-filters", "noise-costs-clean", "interior-peak"):
        without = [r for r in good if r.header.model.rho]
        assert "needs a sweep" in judge(CLAIM[claim], without).reason
        bad = make_record(
            "bad",
            clean=[True] * N,
            checks=[CheckResult(name="x", status="fail", value=1.0, message="m", action="a")],
            model={"front_end": "vone", "rho": 10.0, "noise": "keyed"},
        )
        result = judge(CLAIM[claim], [*good, bad])
        assert result.status == "not tested"
        assert "bad failed one" in result.reason


def test_noise_helps_takes_the_level_nearest_to_three_and_no_front_end_for_standard(good, level):
    standard = level(0.0, 0.92, 0.4, 0.0, front_end="none", name="plain")
    result = judge(CLAIM["noise-helps"], [standard, *good])
    assert result.status == "reproduced"
    assert result.effect == pytest.approx(0.3)
    assert judge(CLAIM["noise-helps"], good).status == "not tested"


def test_of_waveforms_the_network_without_noise_is_both_twin_and_standard(level):
    def heard(rho, small, name=None, **model):
        return level(rho, 0.9, small, 0.1, name=name, **{"front_end": "cochlea", "family": "words", **model})

    before = heard(3.0, 0.1, front_end="cochlea-before", name="before")
    nets = [heard(0.0, 0.4), heard(1.0, 0.5), before, heard(10.0, 0.6)]
    assert [r.header.model.rho for r in nearest_to_three(nets[1:])] == [1.0]
    result = judge(CLAIM["noise-helps"], nets)
    assert result.effect == pytest.approx(0.1)
    assert [list(s.levels) for s in sweeps(nets)] == [[0.0, 1.0, 10.0]]


def test_the_page_draws_the_sweep_with_its_table(good):
    comparison = compare(good, claims=CLAIMS)
    (figure,) = sweep_figures(comparison)
    assert figure.columns == ("rho", "condition", "accuracy", "low", "high", "samples", "seeds")
    assert len(figure.rows) == 4 * 3
    row = next(r for r in figure.rows if r[:2] == ("3", "linf 8/255"))
    assert (row[2], row[5], row[6]) == ("70.0 %", N, 2)
    assert "Clean: best at rho 0 with 90.0 % (90.0 % at 0, 70.0 % at 30)" in figure.finding
    spec = json.dumps(figure.chart.to_dict())
    assert spec.count('"model": "v3-s1"') == 3
    page = render(comparison)
    assert '<h2 id="noise">Noise sweep</h2>' in page
    assert "Noise sweep" not in render(compare(good[:4]))


# --- what makes records comparable ------------------------------------------------------------------------------


def changed(record, column=None, values=None, **header):
    samples = record.samples
    if column is not None:
        place = samples.schema.get_field_index(column)
        samples = samples.set_column(place, samples.schema.field(place), pa.array(values))
    return replace(record, header=record.header.model_copy(update=header), samples=samples)


@pytest.mark.parametrize("claim", ["noise-beyond-filters", "noise-costs-clean", "interior-peak"])
def test_levels_that_met_other_attacks_or_are_one_network_are_not_compared(claim, good):
    first, *rest = good
    suite = first.header.suite.model_copy(update={"digest": "t" * 64})
    other = changed(first, suite=suite)
    assert "met different attacks" in judge(CLAIM[claim], [other, *rest]).reason
    assert "is there twice" in judge(CLAIM[claim], [*good, first]).reason


def test_clean_accuracy_is_that_of_draws_as_verdicts_are_undecided_more_often_under_noise(level):
    group = [level(r, 0.9, 0.5, 0.1) for r in (0.0, 3.0, 30.0)]
    noisiest = group[-1].samples.to_pylist()
    rates = [0.95 if row["attack"] == "clean" else row["correct_rate"] for row in noisiest]
    group[-1] = changed(group[-1], "correct_rate", rates)
    result = judge(CLAIM["noise-costs-clean"], group)
    assert (result.status, result.effect) == ("not reproduced", pytest.approx(-0.05))
    assert sweeps(group)[0].interval(30.0, 0.0).value == pytest.approx(0.95)


def test_the_largest_level_is_granted_its_undecided_samples(level):
    group = [level(0.0, 0.9, 0.4, 0.05), level(3.0, 0.9, 0.8, 0.6), level(30.0, 0.9, 0.7, 0.4)]
    assert judge(CLAIM["interior-peak"], group).status == "reproduced"
    rows = group[-1].samples.to_pylist()
    fallen = [row["success"] and row["sample_id"] % 2 == 0 for row in rows]
    group[-1] = changed(group[-1], "near_tie", fallen)
    assert group[-1].robust_mask(LARGE, undecided=True).mean() > 0.6
    assert group[-1].robust_mask(LARGE).mean() == pytest.approx(0.4)
    assert judge(CLAIM["interior-peak"], group).status == "not reproduced"
    still = changed(group[-1], model=group[-1].header.model.model_copy(update={"noise": "none"}))
    assert still.robust_mask(LARGE, undecided=True).mean() == pytest.approx(0.4)
