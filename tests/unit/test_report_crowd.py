"""Many networks on one page: seeds together, an order with intervals, and only some one by one."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from robustgeom.records import CheckResult, ModelInfo
from robustgeom.report import compare
from robustgeom.report.crowd import MANY, detailed, groups, trained
from robustgeom.report.figures import accuracy_figure
from robustgeom.report.html import render
from robustgeom.report.provenance import provenance
from robustgeom.report.ranking import ranking_figures
from robustgeom.stats import wilson

FALLS = {"pgd": (0.01, 0.05, 9.0, 9.0)}
FAILED = CheckResult(name="masked", status="fail", value=1.0, message="masked", action="look")
PASSED = CheckResult(name="masked", status="pass", value=0.0, message="fine")


def _info(**changes):
    given = {"name": "a", "reference": "a", "digest": "d", "parameters": 1, "noise": "none", "family": "f"}
    return ModelInfo(**{**given, **changes})


TEACHER = {
    "model": "big",
    "digest": "t",
    "other": "",
    "other_digest": "",
    "settings": "",
    "manipulations": [],
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "standard"),
        ({"rho": 1.0, "noise": "keyed"}, "standard with noise"),
        ({"threat": "linf 0.1", "objective": "pgd_at"}, "adversarial"),
        (
            {"threat": "linf 0.1", "objective": "pgd_at", "noise": "keyed", "rho": 3.0},
            "adversarial with noise",
        ),
        ({"objective": "label_smoothing"}, "label_smoothing"),
        ({"family": "user"}, "not declared"),
        ({"family": "user", "threat": "linf 0.1"}, "adversarial"),
        ({"objective": "rslad", "threat": "linf 0.1", "teacher": TEACHER}, "taught by rslad"),
    ],
)
def test_training_in_words(changes, words):
    assert trained(_info(**changes)) == words


def test_seeds_of_a_recipe_are_one_group_and_its_share_is_their_mean(make_record):
    found = groups(
        compare(
            [
                make_record("net", fooled={"pgd": (9.0, 9.0, 9.0, 9.0)}),
                make_record("net-s1", fooled={"pgd": (0.05, 9.0, 9.0, 9.0)}, model={"seed": 1}),
                make_record("net-s2", fooled={"pgd": (0.05, 0.05, 9.0, 9.0)}, model={"seed": 2}),
                make_record("other-s1", fooled=FALLS),
            ]
        )
    )
    assert [(g.name, len(g.models)) for g in found] == [("net", 3), ("other-s1", 1)]
    share = found[0].share(0.1)
    assert share.value == pytest.approx(np.mean([3, 2, 1]) / 4)
    assert share.low <= share.value <= share.high
    assert found[1].share(0.1) == wilson(1, 4)
    assert found[0].share(0.0).value == 0.75
    assert found[0].radii == [0.0, 8 / 255, 0.1]


TAUGHT = {"objective": "kd_clean", "teacher": {**TEACHER, "manipulations": ["top_k"]}}


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": "pgd_at", "threat": "linf 0.1"},
        {"rho": 3.0, "noise": "keyed"},
        {"parameters": 11},
        {"seed": 0},
        {"digest": hashlib.sha256(b"net").hexdigest()},
        TAUGHT,
    ],
)
def test_names_alone_make_no_seeds(make_record, changes):
    second = make_record("net-s1", fooled=FALLS, model={"seed": 1, **changes})
    found = groups(compare([make_record("net", fooled=FALLS), second]))
    assert [g.name for g in found] == ["net", "net-s1"]
    assert {len(g.models) for g in found} == {1}


def test_networks_that_nobody_declared_are_never_seeds(make_record):
    records = [make_record(f"vit-s{i}", fooled=FALLS, model={"family": "user", "seed": i}) for i in (8, 16)]
    assert [g.name for g in groups(compare(records))] == ["vit-s8", "vit-s16"]


def test_students_of_teachers_of_other_seeds_are_seeds(make_record):
    def student(seed):
        teacher = {**TEACHER, "model": f"big-s{seed}", "digest": f"t{seed}", "manipulations": ["top_k"]}
        model = {"seed": seed, "objective": "kd_clean", "teacher": teacher}
        return make_record(f"net-s{seed}", fooled=FALLS, model=model)

    assert len(groups(compare([student(1), student(2)]))) == 1


def test_seeds_that_agree_on_every_sample_have_an_interval_all_the_same(make_record):
    fallen = {"pgd": (0.01,) * 4}
    records = [make_record(n, fooled=fallen, model={"seed": i}) for i, n in enumerate(("n", "n-s1"))]
    (group,) = groups(compare(records))
    assert group.share(0.1) == wilson(0, 4)


def test_the_ranking_is_by_the_strictest_radius_then_the_next_and_names_doubts(make_record):
    comparison = compare(
        [
            make_record("weak", fooled={"pgd": (0.01, 0.01, 0.01, 9.0)}),
            make_record("middle", fooled={"pgd": (0.05, 0.05, 0.05, 9.0)}),
            make_record("strong", fooled={"pgd": (9.0, 9.0, 9.0, 9.0)}, checks=[FAILED]),
            make_record("partial", fooled={"pgd": (9.0, 9.0, 9.0, 9.0)}, status="interrupted"),
        ]
    )
    ranking, tradeoff = ranking_figures(comparison)
    assert list(dict.fromkeys(row[0] for row in ranking.rows)) == ["strong (suspicious)", "middle", "weak"]
    assert ranking.rows[0][3:] == ("clean", "75.0 %", "30.1 %", "95.4 %", 4)
    # A figure that cannot be relied on has no place on the front.
    assert "No trustworthy network is ahead of middle and weak in both" in tradeoff.finding
    assert "Left out as unfinished: partial." in tradeoff.finding
    assert "different attacks" not in ranking.finding


def test_the_front_leaves_out_who_is_behind_in_both(make_record):
    comparison = compare(
        [
            make_record("clean", clean=(True,) * 4, fooled={"pgd": (0.05,) * 4}),
            make_record("robust", clean=(True, True, False, False), fooled={"pgd": (9.0,) * 4}),
            make_record("behind", clean=(True, False, False, False), fooled={"pgd": (9.0,) * 4}),
        ]
    )
    _, tradeoff = ranking_figures(comparison)
    assert "ahead of robust and clean in both" in tradeoff.finding
    assert [row[0] for row in tradeoff.rows] == ["robust", "behind", "clean"]


def test_where_nobody_is_trustworthy_there_is_no_front(make_record):
    records = [make_record(n, fooled=FALLS, checks=[FAILED]) for n in "abc"]
    assert ranking_figures(compare(records))[1].finding.startswith("No network here is trustworthy")


def test_an_order_of_what_met_different_attacks_says_so(make_record):
    records = [make_record(n, fooled={n: (9.0,) * 4}) for n in "abc"]
    suite = records[0].header.suite.model_copy(update={"digest": "o" * 64})
    other = replace(records[0], header=records[0].header.model_copy(update={"suite": suite}))
    assert all(
        "Models met different attacks" in f.finding for f in ranking_figures(compare([other, *records[1:]]))
    )


def test_two_networks_are_no_ranking(make_record):
    assert ranking_figures(compare([make_record("a", fooled=FALLS), make_record("b", fooled=FALLS)])) == []


@pytest.fixture
def crowd(make_record, make_geometry):
    geometry = {"geometry": make_geometry({"conv": ([0.2, 0.3], [0.1, 0.1])})}
    return compare(
        [
            make_record(
                f"net{i // 3}-s{i % 3}",
                fooled=FALLS,
                checks=[FAILED if i == 4 else PASSED],
                tables=geometry if i < 2 else {},
                model={"seed": i % 3, **({"threat": "linf 0.1"} if i > 6 else {})},
            )
            for i in range(MANY + 3)
        ]
    )


def test_of_many_networks_one_a_recipe_is_shown_where_it_was_measured(crowd):
    assert [m.name for m in detailed(crowd)] == ["net0-s0"]


def test_of_many_networks_the_baseline_and_those_of_ones_own_are_always_shown(make_record, make_geometry):
    table = {"geometry": make_geometry({"fc": ([1, 2], [1, 2])})}
    names = [(f"net{i}{f'-s{seed}' if seed else ''}", seed) for i in range(MANY + 2) for seed in (0, 1)]
    nets = [
        make_record(n, tables=table, model={"seed": seed, "parameters": 9 + int(n[3:].split("-")[0])})
        for n, seed in names
    ]
    mine = make_record("mine", model={"family": "user"})
    shown = [m.name for m in detailed(compare([*nets, mine], baseline="net3-s1"))]
    assert shown == [
        "net0",
        "net1",
        "net2",
        "net3",
        "net3-s1",
        *(f"net{i}" for i in range(4, MANY - 2)),
        "mine",
    ]


def test_the_page_of_many_networks(crowd):
    page = " ".join(render(crowd).split())
    assert f"{MANY + 2} of {MANY + 3} models passed all checks and have no column here" in page
    assert f"1 of {MANY + 3} models one by one: net0-s0." in page
    matrix = page[page.index('aria-label="Table of failure checks"') :]
    assert matrix[: matrix.index("</thead>")].count('<th scope="col"') == 2
    assert "What all records share" in page


def test_curves_of_many_networks_are_by_recipe_and_coloured_by_training(crowd):
    figure = accuracy_figure(crowd)
    assert {row[0] for row in figure.rows} == {
        "net0",
        "net1 (suspicious)",
        "net2-s0",
        "net2-s1",
        "net2-s2",
        "net3",
        "net4",
    }
    line = figure.chart.to_dict()["layer"][1]["encoding"]
    assert line["color"]["scale"]["domain"] == ["standard", "adversarial"]
    assert line["detail"]["field"] == "model"


def test_what_all_records_share_is_said_once(crowd):
    common, own = provenance(crowd.models)
    names = {key for key, _ in common}
    assert {"data hash", "packages", "device"} <= names
    assert all(names.isdisjoint(key for key, _ in rows) for rows in own.values())
    assert {key for key, _ in own["net0-s0"]} >= {"model", "model digest", "record fingerprint"}


def test_one_record_shares_nothing(make_record):
    common, own = provenance(compare([make_record("bare")]).models)
    assert common == []
    assert ("data hash", "d" * 64) in own["bare"]
