"""Certificates in records and on the page: shares worked out by hand, and what is refused."""

import csv
import io
import json

import numpy as np
import pyarrow as pa
import pytest

from robustgeom.cli.output import print_summary
from robustgeom.errors import ContentError, InputError
from robustgeom.records import CERTIFICATE_SCHEMA, load_record
from robustgeom.report import compare, write_report
from robustgeom.report.certificates import certificate_figures
from robustgeom.report.charts import certificate_chart
from robustgeom.report.export import csv_tables
from robustgeom.stats import wilson
from robustgeom.verdicts import certificate_line

METHOD = {"method": "randomized smoothing", "norm": "l2", "sigma": 0.25, "draws": 10000, "alpha": 0.001}


@pytest.fixture
def certified(make_record):
    """Four samples, the labels 0, 1, 2, 0: certified, certified, abstained, certified as another class."""

    def build(
        radii=(1.0, 0.5, 0.0, 2.0), predictions=(0, 1, -1, 1), fooled=(2, 1, 0.5, 9), undecided=(), **more
    ):
        rows = [
            {"sample_id": 10 + i, "label": i % 3, "prediction": p, "p_lower": 0.9, "norm": "l2"}
            | {"own_radius": r, "radius": r}
            for i, (r, p) in enumerate(zip(radii, predictions, strict=True))
        ]
        table = pa.Table.from_pylist(rows, schema=CERTIFICATE_SCHEMA)
        settings = {
            "grid": (0.0, 0.5, 1.0),
            "headlines": (0.5,),
            "norm": "l2",
            "fooled": {"pgd": fooled},
            **more,
        }
        record = make_record(tables={"certificates": table}, **settings)
        plan = {**record.header.plan, "certificate": METHOD}
        tie = [row["sample_id"] in undecided for row in record.samples.to_pylist()]
        place = record.samples.column_names.index("near_tie")
        return type(record)(
            record.header.model_copy(update={"plan": plan, "tables": {"certificates": len(rows)}}),
            record.samples.set_column(place, "near_tie", pa.array(tie)),
            record.tables,
        )

    return build


def test_a_sample_counts_within_its_radius_where_its_class_is_right(certified):
    record = certified()
    np.testing.assert_array_equal(record.certified_radii(), [1.0, 0.5, 0.0, 0.0])
    assert record.certified_mask(0).tolist() == [True, True, False, False]
    assert record.certified_mask(0.49).tolist() == [True, True, False, False]
    assert record.certified_mask("1/2").tolist() == [True, False, False, False]  # balls are open
    assert record.certified_accuracy(0.7) == wilson(1, 4)
    assert record.certified_accuracy() == wilson(1, 4)
    assert record.certified_accuracy(7).value == 0


def test_open_samples_withstood_without_a_certificate(certified):
    record = certified()
    assert record.robust_mask(0.5).tolist() == [True, True, False, False]
    assert record.unsettled(0.5) == 0.25
    assert record.unsettled(0) == 0.25
    assert record.unsettled(1.0) == 0.25


def test_a_certificate_settles_what_the_judge_left_undecided_and_nothing_else(certified):
    fell = {"fooled": (0.5, 9, 9, 9), "radii": (0.6, 0.2, 0.0, 0.0)}
    decided, undecided = certified(**fell), certified(**fell, undecided=(10,))
    assert decided.withstood_mask(0.5).tolist() == [False, True, True, False]
    assert undecided.withstood_mask(0.5).tolist() == [True, True, True, False]
    assert undecided.robust_mask(0.5).tolist() == [False, True, True, False]
    assert undecided.withstood_mask(1.0).tolist() == [False, True, True, False]  # beyond the certificate


def test_records_without_certificates_offer_none(make_record):
    record = make_record()
    assert not record.certified
    with pytest.raises(InputError, match="a record with certificates"):
        record.certified_accuracy(0.1)
    with pytest.raises(InputError):
        record.unsettled()


def test_certificates_are_read_again_and_damaged_ones_are_refused(certified, tmp_path):
    record = certified()
    read = load_record(record.save(tmp_path / "good"))
    assert read.fingerprint() == record.fingerprint()
    assert read.certified_mask(0.5).tolist() == record.certified_mask(0.5).tolist()
    table = record.tables["certificates"]
    for name, damaged, said in (
        ("order", table.take([1, 0, 2, 3]), "one certificate for each sample"),
        ("columns", table.drop_columns(["p_lower"]), "columns of certificates"),
        ("short", table.slice(0, 2), "missing or cut off"),
    ):
        with pytest.raises(ContentError, match=said):
            load_record(
                type(record)(record.header, record.samples, {"certificates": damaged}).save(tmp_path / name)
            )


def test_one_line_says_what_is_certain_what_stood_and_what_is_open(certified):
    assert certificate_line(certified()) == (
        "net: At l2 0.5, 25.0 % [5, 70] are certified right, 50.0 % withstood the attacks, 25.0 % are open; the mean "
        "certified radius is l2 0.375. Certificates: randomized smoothing in l2, sigma 0.25, 10,000 draws, alpha 0.001."
    )


def test_the_terminal_prints_the_line_for_certified_models_only(certified, make_record, tmp_path, capsys):
    plain = make_record(
        "plain", grid=(0.0, 0.5, 1.0), headlines=(0.5,), norm="l2", fooled={"pgd": (2, 1, 0.5, 9)}
    )
    print_summary([certified(), plain], tmp_path)
    said = " ".join(capsys.readouterr().out.split())
    assert "net: At l2 0.5, 25.0 % [5, 70] are certified right" in said
    assert "plain: At" not in said
    page = (tmp_path / "report.html").read_text()
    assert "certified, l2 0.5" in page
    assert "Certified below, attacked above" in page
    assert 'data-chart="certificate-0"' in page
    rows = list(csv.DictReader(io.StringIO((tmp_path / "models.csv").read_text())))
    assert [row["certified"] for row in rows] == ["0.25", ""]
    kept = json.loads((tmp_path / "comparison.json").read_text())["models"]
    assert [c["value"] for c in kept[0]["certified"]] == [0.25]
    assert kept[1]["certified"] == []


def test_curves_hold_the_certified_share_at_every_evaluated_radius(certified):
    rows = csv.DictReader(io.StringIO(csv_tables(compare([certified()]))["curves"]))
    assert [(row["radius"], row["certified"]) for row in rows] == [
        ("0.0", "0.5"),
        ("0.5", "0.25"),
        ("1.0", "0.0"),
    ]


def test_the_figure_draws_the_certified_steps_under_those_of_the_attacks(certified):
    comparison = compare([certified()])
    (figure,) = certificate_figures(comparison)
    assert [row[:3] for row in figure.rows] == [
        ("0", "75.0 %", "50.0 %"),
        ("0.5", "50.0 %", "25.0 %"),
        ("1", "25.0 %", "0.0 %"),
    ]
    spec = figure.chart.to_dict()
    between = spec["datasets"][spec["layer"][1]["data"]["name"]]
    record = comparison.models[0].record
    for row in between:
        known = max(g for g in (0.0, 0.5, 1.0) if g <= row["eps"])
        assert row["certified"] == record.certified_accuracy(row["eps"]).value
        assert row["withstood the attacks"] == record.withstood_mask(known).mean()
        assert row["certified"] <= row["withstood the attacks"]
    assert len(between) > 100


def test_a_page_without_certificates_says_nothing_of_them(make_record, tmp_path):
    plain = write_report(
        compare([make_record(fooled={"pgd": (9, 9, 9, 9)})]), tmp_path / "a.html"
    ).read_text()
    assert "ertified" not in plain[plain.index("<body>") : plain.index('id="specs"')]


def test_a_chart_of_nothing_is_refused():
    with pytest.raises(InputError, match="bounds"):
        certificate_chart({}, norm="l2")
