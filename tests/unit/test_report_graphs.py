"""Claims about functional graphs, on planted cases of each outcome."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from robustgeom.records import ANALYZER_COLUMNS, CheckResult
from robustgeom.report import CLAIMS, compare, judge
from robustgeom.report.correlations import measures_of
from robustgeom.report.crowd import groups
from robustgeom.report.graph_rules import GRAPH_MEASURES
from robustgeom.report.graph_sheets import graph_sheets
from robustgeom.report.html import STUDIES, _studies, write_report

CLAIM = {claim.id: claim for claim in CLAIMS}
NAMES = [c.id for c in CLAIMS if c.study == "network-science"]
N, GRID = 400, [0.0, 8 / 255, 0.1]
NOISY = "noisy, linf 0.1"
KINDS = {
    "standard": {},
    "trained": {"threat": "linf 0.1", "objective": "pgd_at"},
    "noise": {"rho": 3.0, "noise": "keyed", "front_end": "vone"},
    "normed": {"architecture": {"name": "cnn", "arguments": {"batch_norm": True}}},
    "plain": {"architecture": {"name": "cnn", "arguments": {}}},
    "quiet": {"front_end": "vone"},
}


def row(measure, value, condition, stage="all stages", manifold="all"):
    empty = dict.fromkeys(ANALYZER_COLUMNS.names)
    own = {
        "stage": stage,
        "condition": condition,
        "manifold": manifold,
        "measure": measure,
        "value": float(value),
    }
    return empty | {"model": "m", "seed": 0, "P": 10, "M": 50, "N": 128, "n_t": 0, "se": 0.01} | own


@pytest.fixture
def network(make_record):
    def build(
        kind, seed=0, *, robust=0.3, clean=0.9, capacity=0.2, changes=(0.3, 0.1), modules=(0.3, 0.1), **more
    ):
        checks = more.pop("checks", None)
        given = {"checks": checks} if checks else {}
        wobble = 0.001 * ((seed * 7) % 5 - 2)
        measures = dict.fromkeys(GRAPH_MEASURES, 0.4) | {
            "class_modularity": modules[0],
            "controllability": 1.2,
        }
        measures |= {k: v for k, v in more.items() if k in measures}
        rows = [row(m, v + wobble, "clean") for m, v in measures.items()]
        rows += [row(f"{m}_chance", 0.2, "clean") for m in ("graph_modularity", "graph_strength")]
        rows += [
            row(m, v + wobble, c)
            for c in ("attacked", NOISY)
            for m, v in measures.items()
            if m != "class_modularity"
        ]
        rows += [row("class_modularity", modules[1] + 2 * wobble, c) for c in ("attacked", NOISY)]
        for condition, change in zip(("attacked", NOISY), changes, strict=True):
            rows += [
                row("edge_change", change + 2 * wobble, condition),
                row("strength_change", 0.1, condition),
            ]
            rows.append(row("community_agreement", 0.5, condition))
        rows.append(row("capacity", capacity, "clean", "hidden"))
        at = np.arange(N)
        return make_record(
            f"{kind}-s{seed}" if seed else kind,
            clean=at < clean * N,
            grid=GRID,
            headlines=GRID[1:],
            fooled={"plain": np.where(at < robust * N, 1.0, 0.02)},
            tables={"study": pa.Table.from_pylist(rows, schema=ANALYZER_COLUMNS)},
            model={
                "family": "toy",
                "seed": seed,
                "objective": "standard",
                "stages": ["conv1", "hidden", "logits"],
                **KINDS[kind],
                **more.get("model", {}),
            },
            **given,
        )

    return build


def status(name, records):
    return judge(CLAIM[name], records).status


def kinds(network, **changes):
    return [
        network(kind, seed, **changes.get(kind, {}))
        for kind in ("standard", "trained", "noise")
        for seed in range(3)
    ]


DIFFERENT = {"trained": {"small_world": 0.7}, "noise": {"graph_efficiency": 0.2}}


def test_kinds_differ_where_a_measure_is_clear_of_the_seeds(network):
    found = judge(CLAIM["graphs-differ"], kinds(network, **DIFFERENT))
    assert found.status == "reproduced"
    assert "adversarially trained minus standard: small_world 0.3" in found.reason
    assert status("graphs-differ", kinds(network, trained=DIFFERENT["trained"])) == "not reproduced"
    near = kinds(network, trained={"small_world": 0.402}, noise={"small_world": 0.402})
    assert status("graphs-differ", near) == "not reproduced"  # within what eight tests find by chance
    assert status("graphs-differ", kinds(network, **DIFFERENT)[::2]) == "not tested"  # two seeds


def test_changes_by_attack_and_by_noise_are_compared_kind_by_kind(network):
    assert status("attacks-change-graphs-more", kinds(network)) == "reproduced"
    worse = kinds(network, noise={"changes": (0.1, 0.3)})
    found = judge(CLAIM["attacks-change-graphs-more"], worse)
    assert found.status == "not reproduced"
    assert found.effect == pytest.approx(-0.2)


def test_modules_of_classes_fall_or_do_not(network):
    assert status("attacks-undo-class-modules", kinds(network)) == "reproduced"
    assert (
        status("attacks-undo-class-modules", kinds(network, trained={"modules": (0.2, 0.2)}))
        == "not reproduced"
    )


def many(network, measure, strength, count=24, seeds=1):
    rng = np.random.default_rng(0)
    found, each = [], rng.uniform(0, 1, count // seeds)
    for seed in range(count):
        hidden = each[seed // seeds]
        value = strength * hidden + (1 - strength) * rng.uniform(0, 1)
        found.append(
            network(
                "standard",
                seed,
                model={"architecture": {"name": "cnn", "arguments": {"size": 28 + seed // seeds}}},
                robust=0.1 + 0.5 * hidden,
                clean=0.85 + 0.1 * rng.uniform(),
                capacity=0.1 + 0.1 * rng.uniform(),
                **{measure: value},
            )
        )
    return found


def test_a_measure_that_tells_robustness_is_found_and_one_that_does_not_is_not(network):
    found = judge(CLAIM["graphs-explain-robustness"], many(network, "rich_club", 0.95))
    assert found.status == "reproduced"
    assert "mostly rich_club" in found.reason
    assert status("graphs-explain-robustness", many(network, "rich_club", 0.0)) == "not reproduced"
    # Seeds of a recipe are no more than one: they would tell of each other.
    siblings = judge(CLAIM["graphs-explain-robustness"], many(network, "rich_club", 0.95, count=30, seeds=3))
    assert (siblings.status, "has 10" in siblings.reason) == ("not tested", True)
    few = judge(CLAIM["graphs-explain-robustness"], many(network, "rich_club", 0.95, count=9))
    assert (few.status, "needs 12 recipes" in few.reason) == ("not tested", True)


def test_batch_norm_is_compared_within_a_family(network):
    def both(**with_norm):
        return [
            network(kind, s, **(with_norm if kind == "normed" else {}))
            for kind in ("plain", "normed")
            for s in range(3)
        ]

    assert status("norm-raises-efficiency", both(graph_efficiency=0.5, robust=0.1)) == "reproduced"
    assert status("norm-raises-efficiency", both(graph_efficiency=0.3, robust=0.1)) == "not reproduced"
    assert status("norm-raises-efficiency", both(graph_efficiency=0.5, robust=0.5)) == "not reproduced"
    assert status("norm-raises-efficiency", kinds(network)) == "not tested"
    doubt = CheckResult(name="gradients", status="fail", value=1.0, message="", action="")
    failed = [network(kind, s, checks=[doubt]) for kind in ("plain", "normed") for s in range(3)]
    assert "failed one" in judge(CLAIM["norm-raises-efficiency"], failed).reason


def test_noise_is_compared_with_the_same_front_end_without_it(network):
    records = [*kinds(network, **DIFFERENT), *(network("quiet", s, graph_efficiency=0.2) for s in range(3))]
    found = judge(CLAIM["graphs-differ"], records)
    assert "with noise minus without noise" in found.reason
    assert found.status == "not reproduced"  # what differed was the front end


def test_networks_of_other_architectures_are_no_twins(network):
    records = [network("normed", s) for s in range(3)]
    records += [
        network("plain", s, model={"architecture": {"name": "mlp", "arguments": {}}}) for s in range(3)
    ]
    assert status("norm-raises-efficiency", records) == "not tested"


def test_networks_with_batch_norm_are_no_seeds_of_those_without(network):
    mixed = [*kinds(network, **DIFFERENT), *(network("normed", s, small_world=9.0) for s in range(3))]
    found, plain = (judge(CLAIM["graphs-differ"], r) for r in (mixed, kinds(network, **DIFFERENT)))
    assert found.effect == plain.effect


def test_claims_are_not_tested_without_graphs(network, make_record):
    assert len(NAMES) == 5
    bare = make_record("bare", clean=np.arange(N) < 300, grid=GRID, headlines=GRID[1:])
    for name in NAMES:
        assert status(name, [bare]) == "not tested"


def test_a_studys_own_claims_come_first_on_its_page(network):
    record = network("standard")
    usual, own = (
        [title for title, *_ in _studies(compare([record], claims=CLAIMS, study=study))]
        for study in ("", "network-science")
    )
    assert own[0] == STUDIES["network-science"] == usual[-1]
    assert own[1:] == usual[:-1]


def test_the_page_has_the_tables_and_the_measures(network, tmp_path):
    records = kinds(network, **DIFFERENT)
    (graphs, changed) = (sheet for _, sheet in graph_sheets(groups(compare(records))))
    assert len(graphs.rows) == 9  # three kinds of three seeds, three kinds of images
    assert graphs.rows[0][:3] == ("standard", 3, "clean")
    assert graphs.rows[0][graphs.columns.index("modularity")] == "0.4 ± 0.002 (0.2)"
    assert len(changed.rows) == 6
    (alone, _) = (sheet for _, sheet in graph_sheets(groups(compare(records[:1]))))
    assert alone.rows[0][graphs.columns.index("modularity")] == "0.398 (0.2)"
    assert "rich club of the functional graph, clean" in measures_of(records[0], 0.1)
    page = write_report(compare(records), tmp_path / "page.html").read_text()
    assert 'id="graphs"' in page
    assert 'href="#graphs"' in page
    assert graph_sheets([]) == []
