"""Signal-to-noise ratios as radii: each sample has an l2 ball of its own, and everything else goes on as in l2."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import robustgeom as rg
from robustgeom.data.dataset import Dataset
from robustgeom.data.load import load_dataset
from robustgeom.data.threats import ThreatTable, threat_table
from robustgeom.errors import InputError
from robustgeom.harness.spec import AttackSpec, Certification, Suite
from robustgeom.harness.verify import verify
from robustgeom.models.build import build
from robustgeom.records import load_record
from robustgeom.report.charts import accuracy_chart
from robustgeom.stats import wilson
from robustgeom.threat import ball_of
from robustgeom.words import parse_snr, radius_text

PGD = AttackSpec(name="pgd", attack="pgd", settings={"steps": 20, "loss": "margin"})
MINIMUM = AttackSpec(name="ddn", attack="ddn", settings={"steps": 100})


def suite(*attacks):
    return Suite(name="try-snr", version=1, description="A try.", norm="snr", attacks=list(attacks))


@pytest.mark.parametrize("written", [30, "30", "30dB", "30 dB", "30db"])
def test_ratios_are_read_in_decibels_and_written_so(written):
    assert parse_snr(written) == pytest.approx(10 ** (-30 / 20))
    assert radius_text(parse_snr(written), "snr") == "30 dB"
    assert threat_table("anything", "snr", eps=written).headlines == (parse_snr(written),)


@pytest.mark.parametrize("bad", ["loud", "nan", None, 1000, "30 Hz"])
def test_other_ratios_are_refused(bad):
    with pytest.raises(InputError, match="a signal-to-noise ratio in dB"):
        parse_snr(bad)


def test_the_table_of_speech_falls_from_60_to_20_decibels():
    table = threat_table("spoken-words", "snr")
    assert [radius_text(r, "snr") for r in table.grid[1:]] == [
        f"{d} dB" for d in (60, 50, 45, 40, 35, 30, 25, 20)
    ]
    assert sorted(table.grid) == list(table.grid)
    assert [radius_text(r, "snr") for r in table.headlines] == ["40 dB", "30 dB"]
    assert (table.ball, ball_of("linf")) == ("l2", "linf")


def test_each_sample_has_a_radius_of_its_own():
    inputs = torch.tensor([[0.3, 0.4], [0.0, 0.02], [0.0, 0.0]])
    table = ThreatTable("snr", (0.0, 0.1), (0.1,))
    threat = table.threat(0.1, inputs, (-1, 1))
    assert threat.norm == "l2"
    assert threat.eps.tolist() == pytest.approx([0.05, 0.002, 0])
    assert table.typical(0.1, inputs, (-1, 1)).eps == pytest.approx(0.002)
    assert table.reaching(1.0, inputs) == pytest.approx(50)


@pytest.fixture(scope="module")
def linear():
    """A linear network, waveforms of very different levels, and the ratio |m| / |w| |x| at which each falls."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 64, generator=generator)
    x = x / x.norm(dim=1, keepdim=True) * torch.logspace(-2, 0.3, 40)[:, None]
    model = nn.Linear(64, 2)
    with torch.no_grad():
        model.weight.copy_(torch.randn(2, 64, generator=generator))
        model.bias.copy_(torch.tensor([0.01, 0.0]))
        gap = model(x) @ torch.tensor([1.0, -1.0])
        way = (model.weight[0] - model.weight[1]).norm()
    data = Dataset("waves", "test", x, (gap < 0).long(), tuple(range(40)), ("a", "b"), (-1.0, 1.0), rate=64)
    return model.eval(), data, (gap.abs() / way / x.norm(dim=1)).numpy()


@pytest.mark.parametrize("attack", [PGD, MINIMUM], ids=lambda spec: spec.name)
def test_a_linear_network_falls_exactly_where_it_should(linear, attack, tmp_path):
    model, data, falls_at = linear
    decibels = -20 * float(np.log10(np.median(falls_at)))
    record = rg.evaluate(
        model, data, suite(attack), options=rg.RunOptions(eps=f"{decibels}dB", analyze=False)
    )
    for radius in record.header.threat.grid[1:]:
        clear = abs(falls_at / radius - 1) > 0.01
        assert clear.sum() >= 36
        assert np.array_equal(record.robust_mask(radius)[clear], (falls_at > radius)[clear])
    assert 0.4 < record.robust_accuracy.value < 0.6
    found = verify(load_record(record.save(tmp_path / "run")), model=model, data=data)
    assert (found.refuted, found.outside, found.unkept) == ([], [], [])
    assert found.claims == int((~record.robust_mask()).sum()) > 15


class Certain(nn.Module):
    """A linear network that knows how far each waveform is from its boundary."""

    certified_norm = "l2"

    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, x):
        return self.linear(x)

    def certified_radius(self, x):
        logits, way = self(x), self.linear.weight[0] - self.linear.weight[1]
        return (logits[:, 0] - logits[:, 1]).abs() / way.norm()


def test_certificates_are_ratios_to_each_sample(linear):
    model, data, falls_at = linear
    asked = suite(PGD).model_copy(update={"certify": Certification(draws=10, selection_draws=5, alpha=0.1)})
    record = rg.evaluate(Certain(model).eval(), data, asked, options=rg.RunOptions(eps="20dB", analyze=False))
    assert record.certified_radii() == pytest.approx(falls_at, rel=1e-4)
    assert record.certified_accuracy("20dB").value == pytest.approx((falls_at > 0.1).mean())
    assert [c.status for c in record.checks if c.name == "certificates"] == ["pass"]


def test_silence_is_refused_and_other_ways_to_write_a_radius_are_read(linear):
    model, data, _ = linear
    record = rg.evaluate(model, data, suite(PGD), options=rg.RunOptions(eps="20dB", analyze=False))
    assert record.robust_accuracy_at("20 dB") == record.robust_accuracy == record.robust_accuracy_at(0.1)
    silent = replace(data, inputs=data.inputs * (torch.arange(40) != 7)[:, None])
    with pytest.raises(
        InputError, match="sound in every sample, as radii are ratios to it, got silence in sample 7"
    ):
        rg.evaluate(model, silent, suite(PGD), options=rg.RunOptions(eps="20dB", analyze=False))
    assert radius_text(1.0, "snr") == "0 dB"


def test_an_evaluation_in_which_nothing_is_right_ends_in_a_record_without_examples(linear):
    model, data, _ = linear
    wrong = replace(data, labels=1 - data.labels, inputs=data.inputs.repeat(1, 50), rate=100)
    big = nn.Sequential(nn.Unflatten(1, (50, 64)), Mean(), model).eval()
    record = rg.evaluate(big, wrong, suite(PGD), options=rg.RunOptions(eps="20dB", analyze=False))
    assert record.accuracy.value == 0
    assert len(record.arrays["examples.clean"]) == 0
    assert "heard" not in str(list(record.arrays))


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


def test_a_network_that_hears_at_another_rate_is_refused():
    data = load_dataset("spoken-words", split="eval", limit=20)
    network = build("cochlear", {"samples": 8000, "rate": 16_000}).eval()
    with pytest.raises(
        InputError, match="16000 samples a second, as the model hears, got 8000 in spoken-words"
    ):
        rg.evaluate(network, data, suite(PGD), options=rg.RunOptions(eps="20dB", analyze=False))
    for rate in (0, 8000.0, -1):
        with pytest.raises(InputError, match="a whole rate above 0, of waveforms"):
            replace(data, rate=rate)


def test_a_point_beyond_its_samples_own_radius_is_found(linear, tmp_path):
    model, data, _ = linear
    record = rg.evaluate(model, data, suite(PGD), options=rg.RunOptions(eps="10dB", analyze=False))
    table = record.tables["adversarial"]
    keys, raw = table["sample_id"].to_pylist(), table["input"].to_pylist()
    loud = max(range(len(keys)), key=lambda i: keys[i])
    quiet = min(range(len(keys)), key=lambda i: keys[i])
    moved = np.frombuffer(raw[loud], "<f4") - data.inputs[keys[loud]].numpy()
    raw[quiet] = (data.inputs[keys[quiet]].numpy() + moved).astype("<f4").tobytes()
    place = table.schema.get_field_index("input")
    import pyarrow as pa

    record.tables["adversarial"] = table.set_column(
        place, table.schema.field(place), pa.array(raw, pa.binary())
    )
    found = verify(record, model=model, data=data)
    assert [key[0] for key in found.outside] == [keys[quiet]]


def test_the_axis_of_a_chart_is_in_decibels():
    curve = [(r, wilson(40, 50)) for r in threat_table("spoken-words", "snr").grid]
    layers = accuracy_chart({"a": curve}, norm="snr").to_dict()["layer"]
    axes = [layer["encoding"]["x"] for layer in layers if "title" in layer["encoding"].get("x", {})]
    assert len(axes) == 3  # band, line, points
    for axis in axes:
        assert axis["title"] == "signal-to-noise ratio"
        assert axis["axis"]["values"] == [radius for radius, _ in curve]
        assert "'clean'" in axis["axis"]["labelExpr"]
