"""A record's claims are asked again: what holds is confirmed, and what was changed is found."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

import robustgeom as rg
from robustgeom.errors import ContentError, InputError
from robustgeom.harness.options import RunOptions
from robustgeom.records import ADVERSARIAL_SCHEMA, load_record

OPTIONS = RunOptions(n=40, eps="8/255", analyze=False)


@pytest.fixture(scope="module")
def record():
    return rg.evaluate("fmnist-cnn-standard", options=OPTIONS)


def with_points(record, change):
    """Return the record with its adversarial rows changed by a function of the list of rows."""
    rows = change(record.tables["adversarial"].to_pylist())
    return replace(record, tables={"adversarial": pa.Table.from_pylist(rows, schema=ADVERSARIAL_SCHEMA)})


def moved(rows, delta):
    first = np.frombuffer(rows[0]["input"], "<f4") + np.float32(delta)
    return [{**rows[0], "input": first.clip(0, 1).astype("<f4").tobytes()}, *rows[1:]]


@pytest.mark.parametrize(
    ("name", "suite"),
    [
        ("fmnist-cnn-standard", "quick-linf"),
        pytest.param("fmnist-resnet-standard", "minimum-norm-l2", marks=pytest.mark.slow),
        ("fmnist-cnn-gaussian", "quick-l2"),
        ("fmnist-cnn-standard", "spatial"),
    ],
)
def test_every_claim_of_an_honest_run_is_confirmed_also_from_disk(tmp_path, name, suite):
    options = replace(OPTIONS, n=16, eps=None if suite == "spatial" else "0.5" if "l2" in suite else "8/255")
    made = rg.evaluate(name, suite=suite, options=options)
    found = rg.verify(load_record(made.save(tmp_path / "run")))
    claims = int(np.asarray(made.samples["success"]).sum())
    assert claims > 0
    assert found.holds
    assert found.claims == claims
    assert f"{claims} of {claims} claimed successes confirmed" in str(found)


def test_an_exhaustive_suite_keeps_one_input_a_sample():
    made = rg.evaluate("fmnist-cnn-standard", suite="corruptions", options=replace(OPTIONS, n=10, eps=None))
    found = rg.verify(made)
    fallen = {
        s
        for s, fell in zip(
            made.samples["sample_id"].to_pylist(), made.samples["success"].to_pylist(), strict=True
        )
        if fell
    }
    assert found.holds
    assert found.claims == len(fallen) == made.tables["adversarial"].num_rows


def test_an_input_that_does_not_fool_is_refuted(record):
    clean = dict(zip(*_clean(record), strict=True))
    swapped = with_points(record, lambda rows: [{**rows[0], "input": clean[rows[0]["sample_id"]]}, *rows[1:]])
    found = rg.verify(swapped)
    assert not found.holds
    assert [key[0] for key in found.refuted] == [record.tables["adversarial"]["sample_id"][0].as_py()]
    assert "1 do not fool the model" in str(found)


def _clean(record):
    data = rg.load_dataset("fashion-mnist", split="eval", limit=40)
    return data.ids, [x.numpy().astype("<f4").tobytes() for x in data.inputs]


@pytest.mark.parametrize("delta", [1e-5, 0.01, float("nan")])
def test_an_input_beyond_the_radius_or_out_of_range_is_outside(record, delta):
    found = rg.verify(with_points(record, lambda rows: moved(rows, delta)))
    assert not found.holds
    assert len(found.outside) == 1


def test_a_claim_without_an_input_is_named(record):
    found = rg.verify(with_points(record, lambda rows: rows[1:]))
    assert not found.holds
    assert len(found.unkept) == 1
    bare = rg.verify(replace(record, tables={}))
    assert len(bare.unkept) == bare.claims


def test_another_model_or_other_samples_are_refused(record):
    with pytest.raises(InputError, match="the model of the record"):
        rg.verify(record, model="fmnist-cnn-pgd-at")
    data = rg.load_dataset("fashion-mnist", split="eval")
    changed = replace(data, inputs=data.inputs * 0.99)
    with pytest.raises(InputError, match="samples of other content"):
        rg.verify(record, data=changed)
    with pytest.raises(InputError, match="data without"):
        rg.verify(record, data=data.balanced(5))


def test_samples_that_are_not_the_first_of_their_class_are_found_again():
    data = rg.load_dataset("fashion-mnist", split="eval").take(torch.arange(990, 1000))
    made = rg.evaluate("fmnist-cnn-standard", data, options=replace(OPTIONS, n=10))
    assert not set(data.ids) & set(rg.load_dataset("fashion-mnist", split="eval", limit=10).ids)
    assert rg.verify(made).holds


def test_inputs_of_another_shape_are_damage(record):
    def cut(rows):
        return [{**row, "input": row["input"][:-4]} for row in rows]

    with pytest.raises(ContentError, match="adversarial inputs of the samples' shape"):
        rg.verify(with_points(record, cut))


def test_the_verb_says_what_holds_and_exits_with_3_where_something_does_not(tmp_path, record):
    from click.testing import CliRunner

    from robustgeom.cli.main import cli

    record.save(tmp_path / "good")
    with_points(record, lambda rows: moved(rows, 0.01)).save(tmp_path / "bad")
    good = CliRunner().invoke(cli, ["verify", str(tmp_path / "good")])
    assert good.exit_code == 0, good.output
    assert "claimed successes confirmed" in good.output
    assert "trustworthy" in good.output
    bad = CliRunner().invoke(cli, ["verify", str(tmp_path / "bad")])
    assert bad.exit_code == 3
    assert "1 are outside the threat" in " ".join(bad.output.split())
