"""Claims about gated linear networks and their limits, on planted cases of each outcome."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from robustgeom.report import CLAIMS, compare, judge
from robustgeom.report.gln_rules import limit_rows
from robustgeom.report.learners import limit_sheets

CLAIM = {claim.id: claim for claim in CLAIMS}
IDS = [c.id for c in CLAIMS if c.study == "gated-linear"]
N = 300
PATH = ((1_000, 0.7), (4_000, 0.85), (16_000, 0.95))

# name: (architecture, arguments), clean accuracy, {limit: share of samples on which it differs from the network}.
HOLDS = {
    "h10": (("gln", {"hidden": [10]}), 0.86, {"gln": 0.05, "l2": 0.25}),
    "h50": (("gln", {"hidden": [50]}), 0.9, {"gln": 0.05, "l2": 0.1}),
    "h10-random": (("gln", {"hidden": [10], "median": False}), 0.8, {}),
    "h50-random": (("gln", {"hidden": [50], "median": False}), 0.85, {}),
    "shallow-0": (("gln", {"hidden": [], "hyperplanes": 0}), 0.7, {"shallow": 0.1}),
    "shallow-4": (("gln", {"hidden": [], "hyperplanes": 4}), 0.8, {"shallow": 0.1}),
    "shallow-8": (("gln", {"hidden": [], "hyperplanes": 8}), 0.6, {"shallow": 0.1}),
    "relu": (
        ("gated_relu", {"hidden": 50}),
        0.9,
        {"learned gates": 0.02, "random gates": 0.15, "gates alone": 0.3},
    ),
}
MARGINS = {"h10": PATH}


def limits(record, by):
    """Return a table in which limits differ from the network on its last right samples, and so are wrong there."""
    rows = record.samples.to_pylist()
    right = [r for r in rows if r["clean_prediction"] == r["label"]]
    found = []
    for limit, share in by.items():
        wrong = {r["sample_id"] for r in right[len(right) - round(share * N) :]}
        found += [
            {
                "limit": limit,
                "sample_id": r["sample_id"],
                "prediction": (r["clean_prediction"] + (r["sample_id"] in wrong)) % 3,
            }
            for r in rows
        ]
    return pa.Table.from_pylist(found)


@pytest.fixture
def study(make_record):
    def build(changed=(), margins=MARGINS, seeds=2):
        values = {**HOLDS, **dict(changed)}
        return [
            one(make_record, f"{name}-{seed}", *values[name], margins.get(name, ()), seed)
            for name in values
            for seed in range(seeds)
            if values[name] is not None
        ]

    return build


def one(make_record, name, made, clean, by, path, seed):
    record = make_record(
        name,
        clean=np.arange(N) < clean * N,
        grid=[0.0],
        headlines=[0.1],
        model={
            "family": "gln",
            "seed": seed,
            "objective": "standard",
            "architecture": {"name": made[0], "arguments": made[1]},
        },
    )
    tables = {}
    if by:
        tables["limits"] = limits(record, by)
    if path:
        tables["margins"] = pa.Table.from_pylist([{"step": s, "margin": 2 * m, "best": 2.0} for s, m in path])
    return replace(record, tables=tables)


BREAKS = {
    "limit-follows": {"h50": (HOLDS["h50"][0], 0.9, {"gln": 0.05, "l2": 0.4})},
    "medians-help": {"h50-random": (HOLDS["h50-random"][0], 0.92, {})},
    "shallow-has-a-best-size": {"shallow-8": (HOLDS["shallow-8"][0], 0.85, {"shallow": 0.1})},
    "deep-beats-shallow": {"shallow-4": (HOLDS["shallow-4"][0], 0.95, {"shallow": 0.1})},
    "relu-gates-carry": {
        "relu": (HOLDS["relu"][0], 0.9, {"learned gates": 0.1, "random gates": 0.15, "gates alone": 0.3})
    },
    "margin-grows": "path",
}


def test_every_claim_has_a_case_of_either_outcome():
    assert set(BREAKS) == set(IDS)


@pytest.mark.parametrize("claim", IDS)
def test_all_claims_hold_where_they_do(claim, study):
    found = judge(CLAIM[claim], study())
    assert found.status == "reproduced", found.reason


@pytest.mark.parametrize("claim", [c for c in IDS if c != "margin-grows"])
def test_each_claim_falls_where_its_case_is_broken(claim, study):
    assert judge(CLAIM[claim], study(BREAKS[claim])).status == "not reproduced"


@pytest.mark.parametrize("parts", [(0.7, 0.6, 0.95), (0.3, 0.5, 0.7), (0.9, 0.99, 1.2)])
def test_margins_must_rise_end_near_the_best_and_not_beyond(study, parts):
    path = tuple(zip((1, 2, 3), parts, strict=True))
    assert judge(CLAIM["margin-grows"], study(margins={"h10": path})).status == "not reproduced"


@pytest.mark.parametrize("claim", IDS)
def test_nothing_is_said_of_other_networks(claim, make_record):
    assert judge(CLAIM[claim], [make_record("a"), make_record("b")]).status == "not tested"


@pytest.mark.parametrize("claim", ["limit-follows", "shallow-has-a-best-size", "relu-gates-carry"])
def test_without_limits_there_is_no_verdict(claim, study):
    bare = {name: (made, clean, {}) for name, (made, clean, _) in HOLDS.items()}
    assert judge(CLAIM[claim], study(bare)).status == "not tested"


def test_a_limit_that_says_nothing_of_some_samples_is_refused(study):
    records = study(seeds=1)
    cut = [
        r if "limits" not in r.tables else replace(r, tables={"limits": r.tables["limits"].slice(5)})
        for r in records
    ]
    found = judge(CLAIM["limit-follows"], cut)
    assert (found.status, "predicts for all samples" in found.reason) == ("not tested", True)


def test_families_are_compared_within_themselves(study):
    def moved(r):
        model = r.header.model.model_copy(update={"family": "elsewhere"})
        return replace(r, header=r.header.model_copy(update={"model": model}))

    apart = [moved(r) if "random" in r.name else r for r in study()]
    assert judge(CLAIM["medians-help"], apart).status == "not tested"


def test_gates_alone_must_be_poor_and_random_ones_worse(study):
    for by in (
        {"learned gates": 0.02, "random gates": 0.02, "gates alone": 0.3},
        {"learned gates": 0.02, "random gates": 0.15, "gates alone": 0.05},
    ):
        assert (
            judge(CLAIM["relu-gates-carry"], study({"relu": (HOLDS["relu"][0], 0.9, by)})).status
            == "not reproduced"
        )


def test_tables_say_how_limits_and_networks_differ(study, tmp_path):
    rows = {(r["model"], r["limit"]): r for r in limit_rows(study(seeds=1))}
    relu = rows["relu-0", "random gates"]
    assert (relu["accuracy"], relu["limit_accuracy"], relu["unlike"]) == pytest.approx((0.9, 0.75, 0.15))
    ((title, sheet),) = limit_sheets(study(seeds=1))
    assert title == "Limits"
    assert ("relu-0", "random gates", "90.0 %", "75.0 %", "15.0 %") in sheet.rows
    part = [
        r if r.name != "relu-0" else replace(r, tables={"limits": r.tables["limits"].slice(5)})
        for r in study(seeds=1)
    ]
    assert ("relu-0", "learned gates") not in {(r["model"], r["limit"]) for r in limit_rows(part)}
    compare(study(seeds=1), claims=CLAIMS).to_csv(tmp_path)
    steps = list(csv.DictReader((tmp_path / "margins.csv").read_text().splitlines()))
    assert [(r["model"], r["step"], float(r["margin"]) / float(r["best"])) for r in steps] == [
        ("h10-0", str(step), pytest.approx(part)) for step, part in PATH
    ]
    written = list(csv.DictReader((tmp_path / "limits.csv").read_text().splitlines()))
    assert len(written) == len(rows)
    assert limit_sheets([]) == []
