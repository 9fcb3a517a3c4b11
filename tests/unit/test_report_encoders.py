"""Claims about encoders that learned without labels, on planted cases of each outcome."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from robustgeom.records import CheckResult
from robustgeom.report import CLAIMS, compare, judge
from robustgeom.report.encoder_sheets import encoder_sheets
from robustgeom.report.html import write_report
from robustgeom.report.stimulus_figures import stimulus_figures

CLAIM = {claim.id: claim for claim in CLAIMS}
N, GRID, STIMULI = 400, [0.0, 8 / 255, 0.1], 30
FEW = "mmcr:views=2 on fashion-mnist"
MMCR, SIMCLR, BARLOW = (f"{name} on fashion-mnist" for name in ("mmcr", "simclr", "barlow_twins"))
ATTACKED = "adversarial_mmcr:steps=3 at linf 0.1 on fashion-mnist"
WAVES = "wave_contrast on retinal-waves"
TIME, SPACE = (f"{WAVES}-shuffled-{what}" for what in ("time", "space"))
NOTHING = ""

# clean, robust at 8/255; then condition: capacity, radius, dimension, and how many moved versions are named.
HOLDS = {
    MMCR: (0.86, 0.5, {"views": (0.4, 0.5, 4.0)}, None),
    SIMCLR: (0.86, 0.3, {"views": (0.3, 0.7, 6.0)}, None),
    BARLOW: (0.85, 0.3, {"views": (0.3, 0.7, 6.0)}, None),
    FEW: (0.8, 0.4, {"views": (0.35, 0.6, 5.0)}, None),
    ATTACKED: (0.84, 0.7, {"views": (0.35, 0.6, 5.0)}, None),
    NOTHING: (0.7, 0.2, {"views": (0.2, 1.0, 8.0)}, None),
}
WAVED = {
    WAVES: (0.76, 0.4, {"translations": (0.5, 0.4, 3.0), "contrasts": (0.32, 0.6, 5.0)}, 0.8),
    TIME: (0.71, 0.2, {"translations": (0.31, 0.6, 5.0), "contrasts": (0.31, 0.6, 5.0)}, 0.45),
    SPACE: (0.7, 0.2, {"translations": (0.3, 0.6, 5.0), "contrasts": (0.3, 0.6, 5.0)}, 0.4),
    NOTHING: (0.7, 0.2, {"translations": (0.3, 0.6, 5.0), "contrasts": (0.3, 0.6, 5.0)}, 0.4),
}


def stimuli(versions, named):
    noise = np.random.default_rng(0).uniform(0.95, 1.05, STIMULI)
    rows = []
    for condition, values in versions.items():
        measures = dict(zip(("capacity", "radius", "dimension"), values, strict=True))
        rows += [row(condition, i, {m: v * noise[i] for m, v in measures.items()}) for i in range(STIMULI)]
    if named is not None:
        rows += [row("wide-translations", i, {"identification": named * noise[i]}) for i in range(STIMULI)]
    return pa.Table.from_pylist(rows)


def row(condition, stimulus, measures):
    empty = dict.fromkeys(("capacity", "radius", "dimension", "identification"))
    return {
        "stage": "pooled",
        "condition": condition,
        "eps": 0.0,
        "stimulus": str(stimulus),
        **empty,
        **measures,
    }


@pytest.fixture
def network(make_record):
    def build(lesson, values, seed=0, norm="linf", **more):
        clean, robust, versions, named = values
        at = np.arange(N)
        name = f"{lesson or 'nothing'}-{seed}".replace(" ", "-")
        return make_record(
            name,
            clean=at < clean * N,
            grid=GRID,
            headlines=GRID[1:],
            norm=norm,
            fooled={"plain": np.where(at < robust * N, 1.0, 0.02)},
            tables={"stimuli": stimuli(versions, named)},
            model={
                "family": "toy",
                "seed": seed,
                "objective": f"{lesson}, then linear_probe" if lesson else "linear_probe",
                "stages": ["encoder.stem", "pooled", "logits"],
            },
            **more,
        )

    return build


def status(name, records):
    return judge(CLAIM[name], records).status


def all_of(network, cases, **changes):
    changed = {lesson: changes.get(lesson, values) for lesson, values in (cases | changes).items()}
    return [network(lesson, values, seed) for lesson, values in changed.items() for seed in (0, 1)]


MMCR_CLAIMS = [c.id for c in CLAIMS if c.study == "self-supervised"]
WAVE_CLAIMS = [c.id for c in CLAIMS if c.study == "waves"]


def test_claims_hold_where_all_is_as_they_say(network):
    records = all_of(network, HOLDS)
    assert len(MMCR_CLAIMS) == 6
    assert {name: status(name, records) for name in MMCR_CLAIMS} == dict.fromkeys(MMCR_CLAIMS, "reproduced")
    waved = all_of(network, WAVED)
    assert len(WAVE_CLAIMS) == 6
    assert {name: status(name, waved) for name in WAVE_CLAIMS} == dict.fromkeys(WAVE_CLAIMS, "reproduced")
    assert status("waves-resist-shifts", waved) == "not tested"  # no spatial attack


BROKEN = {
    "capacity-is-more-robust": {BARLOW: (0.85, 0.6, HOLDS[BARLOW][2], None)},
    "probes-are-as-accurate": {SIMCLR: (0.95, 0.3, HOLDS[SIMCLR][2], None)},
    "more-views-help": {FEW: (0.9, 0.4, HOLDS[FEW][2], None)},
    "views-make-smaller-manifolds": {BARLOW: (0.85, 0.3, {"views": (0.3, 0.7, 3.0)}, None)},
    "capacity-compresses-views": {MMCR: (0.86, 0.5, {"views": (0.4, 1.1, 4.0)}, None)},
    "attacked-views-help": {ATTACKED: (0.84, 0.5, HOLDS[ATTACKED][2], None)},
    "waves-tell-images-apart": {WAVES: (*WAVED[WAVES][:3], 0.45)},
    "waves-help-classes-little": {WAVES: (0.69, *WAVED[WAVES][1:])},
    "waves-shrink-translations": {
        WAVES: (0.76, 0.4, {**WAVED[WAVES][2], "translations": (0.5, 0.4, 6.0)}, 0.8)
    },
    "waves-leave-contrasts": {WAVES: (0.76, 0.4, {**WAVED[WAVES][2], "contrasts": (0.6, 0.6, 5.0)}, 0.8)},
    "waves-resist-attacks": {WAVES: (0.76, 0.2, *WAVED[WAVES][2:])},
    "shuffles-lose-the-gain": {TIME: (*WAVED[TIME][:3], 0.7)},
}


def test_controls_that_lose_a_gain_that_was_none_prove_nothing(network):
    cases = WAVED | {
        WAVES: (*WAVED[WAVES][:3], 0.38),
        TIME: (*WAVED[TIME][:3], 0.2),
        SPACE: (*WAVED[SPACE][:3], 0.2),
    }
    assert status("shuffles-lose-the-gain", [network(*case) for case in cases.items()]) == "not reproduced"


def test_networks_that_agree_on_no_sample_are_not_compared(network):
    records = [network(MMCR, (0.0, 0.0, HOLDS[MMCR][2], None)), network(SIMCLR, HOLDS[SIMCLR])]
    assert "no two samples are right" in judge(CLAIM["capacity-is-more-robust"], records).reason


@pytest.mark.parametrize("name", BROKEN)
def test_a_claim_falls_where_its_own_numbers_do_not_hold(network, name):
    cases = HOLDS if name in MMCR_CLAIMS else WAVED
    others = MMCR_CLAIMS if name in MMCR_CLAIMS else WAVE_CLAIMS
    records = [
        network(lesson, BROKEN[name].get(lesson, values), seed)
        for lesson, values in cases.items()
        for seed in (0, 1)
    ]
    found = {other: status(other, records) for other in others}
    assert found.pop(name) == "not reproduced"
    assert "not tested" not in found.values()


def test_classes_may_gain_as_much_as_moved_images_do_then_the_gain_is_not_little(network):
    records = [
        network(lesson, v) for lesson, v in (WAVED | {WAVES: (0.99, *WAVED[WAVES][1:3], 0.65)}).items()
    ]
    assert status("waves-help-classes-little", records) == "not reproduced"


def test_a_lead_in_clean_accuracy_is_no_lead_in_robustness(network):
    # Of the samples that both get right, as many stand: the other ones fall with either.
    records = [
        network(MMCR, (0.9, 0.3, HOLDS[MMCR][2], None)),
        network(SIMCLR, (0.6, 0.3, HOLDS[SIMCLR][2], None)),
    ]
    assert status("capacity-is-more-robust", records) == "not reproduced"
    assert "of 240 samples" in judge(CLAIM["capacity-is-more-robust"], records).reason


def test_shifts_are_judged_under_spatial_attacks(network):
    for robust, verdict in ((0.4, "reproduced"), (0.2, "not reproduced")):
        records = [
            network(WAVES, (0.76, robust, WAVED[WAVES][2], 0.8), norm="spatial"),
            network(NOTHING, WAVED[NOTHING], norm="spatial"),
        ]
        assert status("waves-resist-shifts", records) == verdict


def test_claims_are_not_tested_where_something_is_missing(network):
    records = all_of(network, HOLDS)
    bare = [replace(r, tables={k: t for k, t in r.tables.items() if k != "stimuli"}) for r in records]
    for name in ("views-make-smaller-manifolds", "capacity-compresses-views"):
        assert "analyses of single stimuli" in judge(CLAIM[name], bare).reason
    doubt = CheckResult(name="gradients", status="fail", value=1.0, message="", action="")
    failed = [network(lesson, values, checks=[doubt]) for lesson, values in HOLDS.items()]
    assert "failed one" in judge(CLAIM["capacity-is-more-robust"], failed).reason
    for claim in (*MMCR_CLAIMS, *WAVE_CLAIMS):
        assert status(claim, []) == "not tested"


def test_the_page_has_tables_of_probes_and_features(network, tmp_path):
    records = [network(lesson, values, seed) for lesson, values in WAVED.items() for seed in (0, 1)]
    sheets = dict(encoder_sheets(records))
    assert list(sheets) == ["toy, probes", "toy, features"]
    probes = sheets["toy, probes"]
    assert [r[:2] for r in probes.rows] == [(WAVES, 2), (SPACE, 2), (TIME, 2), ("nothing", 2)]
    assert probes.rows[0][2].startswith("76")
    features = sheets["toy, features"]
    assert features.columns[-1] == "wide-translations, identification"
    assert float(features.rows[0][-1]) == pytest.approx(0.8, abs=0.02)
    page = write_report(compare(records), tmp_path / "page").read_text()
    assert "toy, features" in page
    assert 'id="learners"' in page
    assert (
        encoder_sheets(
            [replace(r, header=r.header.model_copy(update={"status": "partial"})) for r in records]
        )
        == []
    )


def test_versions_are_charted_along_the_stages_a_line_an_encoder(network):
    records = [network(lesson, values, seed) for lesson, values in WAVED.items() for seed in (0, 1)]
    figures = {f.id: f for f in stimulus_figures(compare(records))}
    kinds = ("translations", "contrasts")
    assert set(figures) == {f"{m}-{k}-stages" for m in ("capacity", "radius", "dimension") for k in kinds}
    rows = {row[1]: row for row in figures["capacity-translations-stages"].rows}
    assert set(rows) == {WAVES, TIME, SPACE, "linear_probe"}
    assert rows[WAVES][2] == "pooled"
    assert float(rows[WAVES][3]) == pytest.approx(0.5, abs=0.02)
