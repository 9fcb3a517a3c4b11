"""Every claim on a planted case of each outcome."""

from __future__ import annotations

import numpy as np
import pytest

from robustgeom.errors import UnknownNameError
from robustgeom.records import CheckResult
from robustgeom.report import CLAIMS, Claim, judge
from robustgeom.report.claims import RULES
from robustgeom.report.html import SECTIONS, STUDIES

CLAIM = {claim.id: claim for claim in CLAIMS}
AT = {"threat": "linf-0.1"}
STAGES = ["conv", "fc", "logits"]
N = 100


def test_the_claims_name_their_papers():
    assert {c.id for c in CLAIMS if c.study == "stochastic"} == {
        *("late-capacity", "at-keeps-capacity", "noise-keeps-capacity", "noise-helps"),
        *("noise-beyond-filters", "noise-costs-clean", "interior-peak", "attacks-are-strong"),
        *("standard-widths-grow", "trained-widths-stay", "noise-widens", "signatures-differ"),
        *("noise-is-compressed", "clouds-overlap", "overlap-grows", "noise-blurs"),
    }
    assert len(CLAIM) == len(CLAIMS)
    assert {c.rule for c in CLAIMS} == set(RULES)
    assert {c.section for c in CLAIMS} <= set(SECTIONS)
    assert all("arXiv:" in c.source for c in CLAIMS)
    assert {c.study for c in CLAIMS} == set(STUDIES)


def test_an_unknown_rule_is_refused():
    with pytest.raises(UnknownNameError, match="logit_gap"):
        judge(Claim("x", "x", "x", "logit_gpa", "logits", "kinds", "logits.csv"), [])


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda c: c.id)
def test_without_records_nothing_is_tested(claim, make_record):
    result = judge(claim, [])
    assert (result.status, result.effect, result.interval) == ("not tested", None, None)
    assert result.reason.startswith("needs ")


@pytest.fixture
def logit_pair(make_record, make_logits):
    def build(standard, trained, **kwargs):
        make = {"standard": (standard, {}), "trained": (trained, AT)}
        return [
            make_record(n, clean=[True] * N, tables={"logits": make_logits(v, v)}, model=m, **kwargs)
            for n, (v, m) in make.items()
        ]

    return build


def test_logit_gap_reproduced_with_the_mean_difference_as_effect(logit_pair):
    values = np.linspace(4, 8, N)
    result = judge(CLAIM["logit-gap"], logit_pair(values, values - 2))
    assert result.status == "reproduced"
    assert result.effect == pytest.approx(2.0)
    assert (result.interval.low, result.interval.high) == pytest.approx((2.0, 2.0))


def test_logit_gap_not_reproduced_where_the_interval_holds_zero(logit_pair):
    noise = np.random.default_rng(0).standard_normal(N)
    noise -= noise.mean()
    result = judge(CLAIM["logit-gap"], logit_pair(np.full(N, 5.0), 5 + noise))
    assert result.status == "not reproduced"
    assert result.interval.low < 0 < result.interval.high


def test_logit_gap_pairs_by_sample_and_averages_seeds(logit_pair, make_record, make_logits):
    pair = logit_pair(np.full(N, 4.0), np.full(N, 3.0))
    seed = make_record("s1", clean=[True] * N, tables={"logits": make_logits([8.0] * 50, [0.0] * 50)})
    result = judge(CLAIM["logit-gap"], [*pair, seed])
    assert result.effect == pytest.approx((4 + 8) / 2 - 3)
    assert result.interval.n == 50


def test_one_family_that_disagrees_decides(logit_pair, make_record, make_logits):
    agree = logit_pair(np.full(N, 5.0), np.full(N, 3.0))
    against = [
        make_record(n, tables={"logits": make_logits([v] * 4, [v] * 4)}, model={"family": "other", **m})
        for n, v, m in (("o", 1.0, {}), ("o-at", 2.0, AT))
    ]
    result = judge(CLAIM["logit-gap"], agree + against)
    assert (result.status, result.effect) == ("not reproduced", -1.0)
    assert "cnn" in result.reason
    assert "other" in result.reason


def test_logit_gap_needs_tables_one_family_and_finished_runs(logit_pair, make_record):
    bare = [make_record("a"), make_record("b", model=AT)]
    assert judge(CLAIM["logit-gap"], bare).reason == "logits tables of a are missing"
    elsewhere = [make_record("a"), make_record("b", model={**AT, "family": "other"})]
    assert "one family" in judge(CLAIM["logit-gap"], elsewhere).reason
    running = logit_pair([1.0] * N, [0.0] * N, status="interrupted")
    assert judge(CLAIM["logit-gap"], running).status == "not tested"


@pytest.fixture
def geometry_record(make_record, make_geometry):
    def build(name, capacity, **model):
        return make_record(
            name, tables={"geometry": make_geometry(capacity)}, model={"stages": STAGES, **model}
        )

    return build


UP = [0.2, 0.3, 0.4, 0.3]
DOWN = [0.1, 0.15, 0.2, 0.15]


def test_late_capacity_takes_the_last_two_stages(geometry_record):
    record = geometry_record("a", {"conv": (DOWN, UP), "fc": (UP, DOWN), "logits": (UP, DOWN)})
    result = judge(CLAIM["late-capacity"], [record])
    assert result.status == "reproduced"
    assert result.effect == pytest.approx(0.15)
    assert "fc" in result.reason
    assert "conv" not in result.reason


def test_late_capacity_fails_at_one_stage(geometry_record):
    mixed = [0.2, 0.35, 0.35, 0.3]
    record = geometry_record("a", {"fc": (UP, DOWN), "logits": (UP, mixed)})
    result = judge(CLAIM["late-capacity"], [record])
    assert result.status == "not reproduced"
    assert result.effect == pytest.approx(0.0)


def test_late_capacity_names_what_is_missing(geometry_record, make_record):
    assert "stage fc" in judge(CLAIM["late-capacity"], [geometry_record("a", {"logits": (UP, DOWN)})]).reason
    assert "last 2 stages" in judge(CLAIM["late-capacity"], [make_record("a")]).reason
    single = geometry_record("a", {"fc": ([0.2], [0.1]), "logits": ([0.2], [0.1])})
    assert "two manifolds" in judge(CLAIM["late-capacity"], [single]).reason
    assert judge(CLAIM["late-capacity"], [geometry_record("a", {}, **AT)]).status == "not tested"


def test_models_of_which_nothing_is_declared_prove_nothing(geometry_record):
    mine = geometry_record("mine", {"fc": (UP, DOWN), "logits": (UP, DOWN)}, family="user")
    assert judge(CLAIM["late-capacity"], [mine]).status == "not tested"
    noisy = geometry_record("noisy", {"fc": (UP, DOWN), "logits": (UP, DOWN)}, noise="batch")
    assert judge(CLAIM["late-capacity"], [noisy]).status == "not tested"


def test_the_input_is_no_stage_of_a_network(geometry_record):
    bare = geometry_record("a", {"fc": (UP, DOWN), "input": (UP, DOWN)}, stages=[])
    assert "lists 1" in judge(CLAIM["late-capacity"], [bare]).reason


def _kept(share):
    return {"logits": (UP, [share * v for v in UP])}


@pytest.mark.parametrize(
    ("kept", "status"), [(0.8, "reproduced"), (0.75, "reproduced"), (0.7, "not reproduced")]
)
def test_at_keeps_capacity_at_half_the_standard_drop(geometry_record, kept, status):
    records = [geometry_record("a", _kept(0.5)), geometry_record("a-at", _kept(kept), **AT)]
    result = judge(CLAIM["at-keeps-capacity"], records)
    assert result.status == status
    assert result.effect == pytest.approx(kept - 0.5)


def test_at_keeps_capacity_where_the_standard_network_loses_nothing(geometry_record):
    records = [geometry_record("a", _kept(1.1)), geometry_record("a-at", _kept(1.0), **AT)]
    assert judge(CLAIM["at-keeps-capacity"], records).status == "not reproduced"
    both_gain = [geometry_record("a", _kept(1.1)), geometry_record("a-at", _kept(1.3), **AT)]
    assert judge(CLAIM["at-keeps-capacity"], both_gain).status == "not reproduced"


def test_at_keeps_capacity_needs_the_same_last_stage_and_manifolds(geometry_record):
    other = geometry_record("a-at", {"fc": (UP, DOWN)}, stages=["conv", "fc"], **AT)
    assert (
        "last stages differ"
        in judge(CLAIM["at-keeps-capacity"], [geometry_record("a", _kept(0.5)), other]).reason
    )
    fewer = geometry_record("a-at", {"logits": (UP[:3], DOWN[:3])}, **AT)
    assert "manifolds" in judge(CLAIM["at-keeps-capacity"], [geometry_record("a", _kept(0.5)), fewer]).reason


GRID = [0.0, 0.02, 0.05, 0.1]


@pytest.fixture
def noise_pair(make_record):
    def build(gain, **noisy):
        # The standard network keeps 90, 45 and 10 of 100 samples.
        standard = np.select(
            [np.arange(N) < 10, np.arange(N) < 45, np.arange(N) < 90], [9.0, 0.1, 0.05], 0.02
        )
        stochastic = np.where(np.arange(N) < 45 + gain, 9.0, 0.02)
        made = {"clean": [True] * N, "grid": GRID, "headlines": [0.1]}
        return [
            make_record("standard", fooled={"pgd": standard}, **made),
            make_record(
                "noisy", fooled={"pgd": stochastic}, model={"rho": 3.0, "noise": "keyed"}, **made, **noisy
            ),
        ]

    return build


@pytest.mark.parametrize(("gain", "status"), [(20, "reproduced"), (15, "reproduced"), (14, "not reproduced")])
def test_noise_helps_by_fifteen_points(noise_pair, gain, status):
    result = judge(CLAIM["noise-helps"], noise_pair(gain))
    assert result.status == status
    assert result.effect == pytest.approx(gain / 100)
    assert "cnn at linf 0.05: " in result.reason


def test_noise_helps_needs_a_number_that_can_be_believed(noise_pair):
    failed = CheckResult(name="eot", status="fail", value=1.0, message="one draw only")
    result = judge(CLAIM["noise-helps"], noise_pair(20, checks=[failed]))
    assert result.status == "not tested"
    assert "noisy failed one" in result.reason


def test_noise_helps_needs_the_same_samples_and_a_common_radius(noise_pair, make_record):
    standard, noisy = noise_pair(20, data_hash="e" * 64)
    assert "other samples" in judge(CLAIM["noise-helps"], [standard, noisy]).reason
    apart = make_record("noisy", clean=[True] * N, grid=[0.0, 0.3], headlines=[0.3], model={"rho": 1.0})
    assert "share no positive radius" in judge(CLAIM["noise-helps"], [standard, apart]).reason


def test_noise_helps_leaves_out_networks_that_were_also_adversarially_trained(noise_pair, make_record):
    standard, _ = noise_pair(20)
    both = make_record("both", clean=[True] * N, grid=GRID, headlines=[0.1], model={"rho": 1.0, **AT})
    assert judge(CLAIM["noise-helps"], [standard, both]).status == "not tested"
