"""Claims about logits of standard and adversarially trained networks, on planted cases of each outcome."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from scipy.stats import kendalltau, spearmanr

from robustgeom.logits import confident_overlap, gap_profile, order_agreement
from robustgeom.records import CheckResult
from robustgeom.report import CLAIMS, judge
from robustgeom.report.kinds import kinds
from robustgeom.report.logit_rules import agreement, gaps, shares_of_rank

CLAIM = {claim.id: claim for claim in CLAIMS}
AT = {"threat": "linf 0.1", "objective": "pgd_at"}
N = 600
LABELS = np.arange(N) % 3


def logits(seed=0, scale=1.0, sure=None):
    """Logits (n, 3) that are right on every sample; `sure` (n,) is added to the label's."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0, 1, (N, 3))
    z[np.arange(N), LABELS] = 1.1 + (rng.uniform(0, 1, N) if sure is None else sure)
    return scale * z


@pytest.fixture
def network(make_record):
    def build(name, z, **kwargs):
        right = z.argmax(axis=1) == LABELS
        arrays = {"log_p.clean": log_softmax(z, axis=1).astype(np.float32)}
        model = kwargs.pop("model", {})
        return make_record(name, clean=right, arrays=arrays, model=model, **kwargs)

    return build


@pytest.fixture
def pair(network):
    def build(standard, trained, **kwargs):
        return [network("standard", standard, **kwargs), network("trained", trained, model=AT, **kwargs)]

    return build


def test_every_gap_shrinks_names_the_least_favourable(pair):
    z = logits(scale=4.0)
    found = judge(CLAIM["every-gap"], pair(z, z / 2))
    assert found.status == "reproduced"
    assert found.effect == pytest.approx((np.sort(z)[:, 2] - np.sort(z)[:, 1]).mean() / 2, rel=1e-5)
    wider = z / 2
    wider[np.arange(N), z.argmin(axis=1)] -= 9  # the last gap grows
    found = judge(CLAIM["every-gap"], pair(z, wider))
    assert found.status == "not reproduced"
    assert "least at k = 3" in found.reason


def test_gaps_shrink_on_average_and_not_for_each(pair):
    z, mixed = logits(), logits() / 2
    mixed[::5] = 2 * z[::5]  # a fifth grows
    assert judge(CLAIM["not-every-sample"], pair(z, mixed)).effect == pytest.approx(0.2)
    assert judge(CLAIM["not-every-sample"], pair(z, mixed)).status == "reproduced"
    assert judge(CLAIM["not-every-sample"], pair(z, z / 2)).status == "not reproduced"
    assert judge(CLAIM["not-every-sample"], pair(z, 2 * z)).status == "not reproduced"


def test_shrinkage_grows_from_each_radius_to_the_next(network):
    def family(*scales):
        radii = (0.02, 0.1)[: len(scales) - 1]
        trained = [
            network(f"at-{r}", logits(scale=s), model={**AT, "threat": f"linf {r}"})
            for r, s in zip(radii, scales[1:], strict=True)
        ]
        return [network("standard", logits(scale=scales[0])), *trained]

    assert judge(CLAIM["shrinkage-grows"], family(4, 2, 1)).status == "reproduced"
    assert judge(CLAIM["shrinkage-grows"], family(4, 1, 2)).status == "not reproduced"
    assert judge(CLAIM["shrinkage-grows"], family(4, 2)).status == "not tested"
    mixed = family(4, 2, 1)
    mixed[1] = network("free", logits(scale=2), model={**AT, "threat": "linf 0.02", "objective": "free_at"})
    assert (
        judge(CLAIM["shrinkage-grows"], mixed).status == "not tested"
    )  # radii of two objectives are no series


@pytest.fixture
def seeds(network):
    """Two seeds of either kind, of networks that are right on every sample with these confidences, a little apart."""

    def build(first, second, noise=0.05):
        rng = np.random.default_rng(11)
        return [
            network(f"{k}{i}", logits(9, sure=base + noise * rng.uniform(0, 1, N)), model=model)
            for k, base, model in (("s", first, {}), ("t", second, AT))
            for i in range(2)
        ]

    return build


def test_confidences_disagree_where_seeds_agree_more_than_kinds(seeds):
    rng = np.random.default_rng(3)
    standard, trained = rng.uniform(0, 3, N), rng.uniform(0, 3, N)
    assert judge(CLAIM["confidences-disagree"], seeds(standard, trained)).status == "reproduced"
    assert judge(CLAIM["confidences-disagree"], seeds(standard, standard)).status == "not reproduced"
    assert judge(CLAIM["confidences-disagree"], seeds(standard, trained)[:3]).status == "not tested"


SEEDED = ("confidences-disagree", "extremes-differ", "less-overconfident")


@pytest.mark.parametrize("claim", SEEDED)
def test_one_network_twice_is_no_two_seeds_and_other_recipes_are_none(claim, seeds, network):
    rng = np.random.default_rng(3)
    a, _, b, _ = seeds(rng.uniform(0, 3, N), rng.uniform(0, 3, N))
    assert "there twice" in judge(CLAIM[claim], [a, a, b, b]).reason
    weaker = network("weaker", logits(4), model={**AT, "threat": "linf 0.05"})
    found = judge(CLAIM[claim], [a, network("s1", logits(5)), b, weaker])
    assert "two seeds" in found.reason


def test_extremes_differ_only_where_classes_do(seeds):
    rng = np.random.default_rng(5)
    base = rng.uniform(0, 3, N)
    found = judge(CLAIM["extremes-differ"], seeds(base, base + 3 * (LABELS == 1)))
    assert found.status == "reproduced"
    assert "coat" in found.reason
    assert judge(CLAIM["extremes-differ"], seeds(base, base)).status == "not reproduced"


@pytest.mark.parametrize("seed", range(6))
def test_chance_alone_makes_no_class_special(seed, seeds):
    rng = np.random.default_rng(seed)
    found = judge(CLAIM["extremes-differ"], seeds(rng.uniform(0, 3, N), rng.uniform(0, 3, N)))
    assert found.status == "not reproduced"


def wrong_half(sure):
    """Logits that are wrong on every other sample, by `sure`."""
    z = np.zeros((N, 3))
    z[np.arange(N), (LABELS + np.arange(N) % 2) % 3] = sure
    return z


def test_less_overconfident_is_about_wrong_predictions_and_more_than_seeds_differ(network):
    def networks(*sure):
        models = ({}, {}, AT, AT)
        return [
            network(f"n{i}", wrong_half(s), model=m)
            for i, (s, m) in enumerate(zip(sure, models, strict=True))
        ]

    def softmax(sure):
        return np.exp(sure) / (np.exp(sure) + 2)

    found = judge(CLAIM["less-overconfident"], networks(4.0, 3.9, 1.0, 1.1))
    between = (softmax(4.0) + softmax(3.9) - softmax(1.0) - softmax(1.1)) / 2
    assert found.status == "reproduced"
    assert found.effect == pytest.approx(between - (softmax(1.1) - softmax(1.0)), abs=1e-6)
    assert judge(CLAIM["less-overconfident"], networks(1.0, 1.1, 4.0, 3.9)).status == "not reproduced"
    # Lower on average, but by less than two seeds of one kind differ.
    assert judge(CLAIM["less-overconfident"], networks(4.0, 1.0, 2.0, 2.1)).status == "not reproduced"
    never = [*networks(4.0, 3.9, 1.0, 1.1)[:3], network("right", logits(2), model=AT)]
    assert "never wrong" in judge(CLAIM["less-overconfident"], never).reason


GRID = [0.0, 0.01, 0.02, 0.03, 0.05, 0.1]


def test_margins_rank_what_samples_withstand(pair):
    sure = np.linspace(0, 5, N)
    z = np.zeros((N, 3))
    z[np.arange(N), LABELS] = 0.1 + sure

    def ranked(falls):
        return pair(z, z, fooled={"pgd": falls}, grid=GRID, headlines=[0.1])

    falls = np.interp(sure, [0, 5], [0.001, 0.2])
    found = judge(CLAIM["margin-ranks-robustness"], ranked(falls))
    depth = sum((falls > r).astype(int) for r in GRID[1:])
    assert found.effect == pytest.approx(kendalltau(sure, depth).statistic)
    assert found.status == "reproduced"
    shuffled = np.random.default_rng(0).permutation(falls)
    assert judge(CLAIM["margin-ranks-robustness"], ranked(shuffled)).status == "not reproduced"
    few = pair(z, z, fooled={"pgd": falls}, grid=GRID[:3], headlines=[0.02])
    assert "five radii" in judge(CLAIM["margin-ranks-robustness"], few).reason
    failed = [CheckResult(name="gradients", status="fail", value=1.0, message="m", action="a")]
    doubted = pair(z, z, fooled={"pgd": falls}, grid=GRID, headlines=[0.1], checks=failed)
    assert judge(CLAIM["margin-ranks-robustness"], doubted).status == "not tested"


LOGIT_CLAIMS = [c.id for c in CLAIMS if c.study == "logits"]


@pytest.mark.parametrize("claim", LOGIT_CLAIMS)
def test_without_log_probabilities_nothing_is_tested(claim, make_record):
    bare = [make_record(n, clean=[True] * N, model=m) for n, m in (("a", {}), ("b", AT))]
    assert judge(CLAIM[claim], bare).status == "not tested"


def test_gaps_are_those_of_the_analyzer_and_ranks_those_of_scipy():
    z = np.random.default_rng(0).normal(size=(50, 6))
    found = gaps(log_softmax(z, axis=1)).mean(axis=0)
    assert found == pytest.approx(gap_profile(torch.tensor(z)).mean(0)[-5:].numpy(), abs=1e-9)
    assert agreement(z, 3)[0] == pytest.approx(
        np.mean([spearmanr(z[:, i], z[:, j]).statistic for i in range(3) for j in range(3, 6)])
    )
    assert shares_of_rank(np.array([2.0, 2.0])).tolist() == [0.5, 0.5]


def test_two_kinds_on_the_page_are_those_of_the_analyzers(network):
    rng = np.random.default_rng(2)
    standard, trained = (rng.normal(size=(N, 6)) for _ in range(2))
    for z in (standard, trained):
        z[np.arange(N), LABELS] += 2
    records = [network("standard", standard), network("trained", trained, model=AT)]
    (found,) = kinds(records)
    row = found.agreement.rows[0]
    first, second = (torch.tensor(log_softmax(z, axis=1).astype(np.float32)) for z in (standard, trained))
    order = order_agreement(first, second, torch.tensor(LABELS))
    assert row[2] == f"{order.nanmean().item():.3f}"
    assert row[4] == f"{100 * confident_overlap(first, second):.1f} %"
    assert row[5] == f"{100 * confident_overlap(first, second, highest=False):.1f} %"
    assert found.shrinkage.rows[0][0] == "trained"
    assert found.extremes == ()
    pictures = rng.uniform(size=(N, 1, 4, 4)).astype(np.float32)
    (drawn,) = kinds(records, lambda record: pictures)
    moved = shares_of_rank(np.exp(second.numpy()).max(1)) - shares_of_rank(np.exp(first.numpy()).max(1))
    gained, lost = (group for _, group in drawn.extremes)
    assert gained[0].sample_id == 10 + int(np.argmax(moved))
    assert lost[0].sample_id == 10 + int(np.argmin(moved))
