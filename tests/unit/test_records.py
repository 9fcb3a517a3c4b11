"""Records survive the disk, say what is broken, and leave nothing behind where they cannot be written."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from robustgeom.errors import ContentError, InputError, OutputError
from robustgeom.records import CheckResult, load_record

FOOLED = {"pgd": (0.01, 0.05, 9.0, 0.01), "square": (9.0, 0.05, 0.05, 9.0)}


@pytest.fixture
def record(make_record, make_geometry):
    image = np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4).transpose(0, 1, 3, 2)
    tables = {"geometry": make_geometry({"fc": ([0.2, 0.3], [0.1, 0.1])})}
    return make_record("nét", fooled=FOOLED, tables=tables, arrays={"examples.clean": image})


def test_roundtrip_keeps_everything(record, tmp_path):
    loaded = load_record(record.save(tmp_path / "runs" / "a"))
    assert loaded.header == record.header
    assert loaded.samples.equals(record.samples)
    assert loaded.tables["geometry"].schema.equals(record.tables["geometry"].schema)
    np.testing.assert_array_equal(loaded.arrays["examples.clean"], record.arrays["examples.clean"])
    assert loaded.fingerprint() == record.fingerprint()
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["a"]


def test_fingerprint_ignores_time_and_place_but_not_results(make_record):
    first = make_record(fooled=FOOLED)
    header = first.header.model_copy(update={"created": "later", "device": "another", "commit": None})
    assert type(first)(header, first.samples).fingerprint() == first.fingerprint()
    assert make_record(fooled={"pgd": (9.0,) * 4}).fingerprint() != first.fingerprint()


def test_masks_by_hand(make_record):
    record = make_record(fooled=FOOLED)
    assert record.clean_mask().tolist() == [True, True, True, False]
    assert record.robust_mask(0.0).tolist() == [True, True, True, False]
    assert record.robust_mask(8 / 255).tolist() == [False, True, True, False]
    assert record.robust_mask().tolist() == [False, False, False, False]
    assert record.headline == 0.1
    assert record.robust_accuracy_at(8 / 255).value == 0.5


def test_a_failure_at_a_small_radius_counts_at_larger_ones(make_record):
    record = make_record(fooled={"pgd": (0.01, 9.0, 9.0, 9.0)})
    success = np.asarray(record.samples["success"]).copy()
    success[np.asarray(record.samples["radius"]) == 0.1] = False
    at = record.samples.column_names.index("success")
    patched = type(record)(record.header, record.samples.set_column(at, "success", [success]))
    assert patched.robust_mask(0.1).tolist() == [False, True, True, False]


def _with_rates(record, rates):
    """The same record with these shares of right draws, {(sample, attack, radius): share}."""
    rows = record.samples.to_pylist()
    for row in rows:
        key = row["sample_id"], row["attack"], row["radius"]
        row["correct_rate"] = rates.get(key, row["correct_rate"])
    return replace(record, samples=pa.Table.from_pylist(rows, schema=record.samples.schema))


def test_single_draw_accuracy_by_hand(make_record):
    plain = make_record(fooled={"x": [9] * 4, "y": [9] * 4}, grid=(0.0, 0.1, 0.2), headlines=(0.2,))
    rates = {
        (10, "clean", 0.0): 0.9,
        (10, "x", 0.1): 0.7,
        (10, "y", 0.1): 0.8,
        (10, "x", 0.2): 0.75,
        (11, "y", 0.2): 0.3,
        (13, "clean", 0.0): 0.2,
    }
    record = _with_rates(plain, rates)
    assert record.single_draw_accuracy == pytest.approx((0.9 + 1 + 1 + 0.2) / 4)
    # Under attack sample 13 is never right; what a smaller radius did counts at larger ones.
    assert record.single_draw_accuracy_at(0.1) == pytest.approx((0.7 + 1 + 1 + 0) / 4)
    assert record.single_draw_accuracy_at("0.2") == pytest.approx((0.7 + 0.3 + 1 + 0) / 4)
    with pytest.raises(InputError, match="a radius that was evaluated"):
        record.single_draw_accuracy_at(0.3)


@pytest.mark.parametrize(("noise", "shares"), [("keyed", (0.25, 0.5)), ("none", (0, 0))])
def test_what_draws_left_undecided_is_told_apart_by_hand(make_record, noise, shares):
    plain = make_record(fooled={"x": [0.1, 0.2, 9, 9]}, grid=(0.0, 0.1, 0.2), headlines=(0.2,))
    rows = plain.samples.to_pylist()
    # Sample 10 falls at 0.1 for certain, 11 by draws that decide nothing; so is 13, wrong without attack.
    undecided = {(11, 0.2), (13, 0.0)}
    for row in rows:
        row["near_tie"] = (row["sample_id"], row["radius"]) in undecided
    samples = pa.Table.from_pylist(rows, schema=plain.samples.schema)
    model = plain.header.model.model_copy(update={"noise": noise})
    record = replace(plain, header=plain.header.model_copy(update={"model": model}), samples=samples)
    assert (record.undecided(), record.undecided("0.2")) == shares


def test_without_noise_single_draw_accuracy_is_robust_accuracy(make_record):
    record = make_record(fooled={"x": [0.1, 0.2, 9, 9]}, grid=(0.0, 0.1, 0.2), headlines=(0.2,))
    assert record.single_draw_accuracy == record.accuracy.value
    for radius in (0.0, 0.1, 0.2):
        assert record.single_draw_accuracy_at(radius) == record.robust_accuracy_at(radius).value


@pytest.mark.parametrize("radius", [-0.1, 0.2, "16/255", "half"])
def test_a_radius_that_was_not_evaluated_is_refused(make_record, radius):
    with pytest.raises(InputError, match=r"expected a (finite )?radius"):
        make_record(fooled=FOOLED).robust_mask(radius)


def test_a_rounded_radius_means_the_evaluated_one(make_record):
    record = make_record(fooled={"pgd": [8 / 255, 9, 9, 9]})
    assert record.robust_accuracy_at(0.03137).value == record.robust_accuracy_at(8 / 255).value == 0.5
    assert record.robust_accuracy_at(0.031372549).value == 0.5
    assert record.robust_accuracy_at("8/255").value == 0.5
    with pytest.raises(InputError, match="a radius that was evaluated"):
        record.robust_accuracy_at(0.0315)


def test_verdict_names_failed_checks_and_unfinished_runs(make_record):
    failed = CheckResult(name="masked", status="fail", value=0.6, message="60 % zero")
    record = make_record(checks=[failed], status="interrupted")
    assert not record.verdict.trustworthy
    assert "upper bound" in record.verdict.reasons[0]
    assert record.verdict.reasons[1] == "masked: 60 % zero"
    assert record.verdict.word == "not evaluated"
    assert str(make_record(checks=[failed]).verdict) == "suspicious because masked: 60 % zero"
    assert str(make_record().verdict) == "trustworthy"


def _truncate(folder):
    path = folder / "samples.parquet"
    path.write_bytes(path.read_bytes()[:-40])


def _drop_samples(folder):
    (folder / "samples.parquet").unlink()


def _break_json(folder):
    (folder / "header.json").write_text("{")


def _edit_header(folder, **changes):
    path = folder / "header.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes))


def _other_version(folder):
    _edit_header(folder, schema_version=99)


def _bad_field(folder):
    _edit_header(folder, status="fine")


def _rewrite(folder, edit):
    path = folder / "samples.parquet"
    pq.write_table(edit(pq.read_table(path)), path)


def _lose_rows(folder):
    _rewrite(folder, lambda table: table.slice(1))


def _lose_attacks(folder):
    _rewrite(folder, lambda table: table.filter(pc.field("attack") == "clean"))


def _forget_headlines(folder):
    threat = json.loads((folder / "header.json").read_text(encoding="utf-8"))["threat"]
    _edit_header(folder, threat=threat | {"headlines": []})


def _other_headline(folder):
    threat = json.loads((folder / "header.json").read_text(encoding="utf-8"))["threat"]
    _edit_header(folder, threat=threat | {"headlines": [0.3]})


def _repeat_sample(folder):
    data = json.loads((folder / "header.json").read_text(encoding="utf-8"))["data"]
    _edit_header(folder, data=data | {"sample_ids": [*data["sample_ids"], data["sample_ids"][0]]})


def _lose_column(folder):
    _rewrite(folder, lambda table: table.drop_columns(["margin"]))


def _forget_sample(folder):
    data = json.loads((folder / "header.json").read_text(encoding="utf-8"))["data"]
    _edit_header(folder, data=data | {"sample_ids": data["sample_ids"][1:]})


def _spoil_arrays(folder):
    (folder / "arrays.safetensors").write_bytes(b"\x00" * 5)


def _spoil_analyzer(folder):
    (folder / "geometry.parquet").write_bytes(b"PAR1 nothing PAR1")


DAMAGE = {
    _truncate: "an intact run folder",
    _drop_samples: "samples",
    _break_json: "readable header.json",
    _other_version: "schema version 1",
    _bad_field: "status",
    _lose_rows: "a clean prediction for every sample",
    _lose_attacks: "expected 4 rows, got 0 of pgd",
    _forget_headlines: "headlines among the radii",
    _other_headline: "headlines among the radii",
    _repeat_sample: "distinct sample ids",
    _lose_column: "columns of a samples table",
    _forget_sample: "the header does not list",
    _spoil_arrays: "an intact run folder",
    _spoil_analyzer: "an intact run folder",
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda f: f.__name__.strip("_"))
def test_damage_is_named(record, tmp_path, damage):
    folder = record.save(tmp_path / "run")
    damage(folder)
    with pytest.raises(ContentError, match=DAMAGE[damage]):
        load_record(folder)


def test_an_interrupted_run_may_lack_samples(make_record, tmp_path):
    folder = make_record(status="interrupted", fooled=FOOLED).save(tmp_path / "run")
    _lose_rows(folder)
    assert load_record(folder).clean_mask().tolist() == [False, True, True, False]


def test_a_folder_without_header_is_not_a_record(tmp_path):
    with pytest.raises(ContentError, match=r"header\.json"):
        load_record(tmp_path)


def test_an_existing_folder_is_never_overwritten(record, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("kept")
    with pytest.raises(OutputError, match="does not exist yet"):
        record.save(tmp_path / "run")
    assert (tmp_path / "run" / "mine.txt").read_text() == "kept"


def test_an_unwritable_place_leaves_nothing_behind(record, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="a place that can be written"):
        record.save(tmp_path / "file" / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_failure_while_writing_leaves_nothing_behind(record, tmp_path):
    # A table's name becomes a file name; this one points into a folder that does not exist.
    broken = type(record)(record.header, record.samples, {"no/such": record.samples})
    with pytest.raises(OutputError):
        broken.save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_the_notebook_view_escapes_the_name(make_record):
    assert "<script>" not in make_record("<script>alert(1)</script>")._repr_html_()
