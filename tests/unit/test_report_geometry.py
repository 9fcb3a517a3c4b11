"""The report's geometry: tables recomputed from a record's rows."""

import math

import pyarrow as pa
import pytest

from robustgeom.records import ANALYZER_COLUMNS
from robustgeom.report.compare import compare
from robustgeom.report.geometry import model_geometry, profile_figure
from robustgeom.report.html import render

STAGES = ("input", "hidden", "logits")


def row(stage, condition, measure, value, manifold="all", se=None, P=3, M=50):
    where = {"model": "m", "seed": 0, "stage": stage, "condition": condition, "manifold": manifold}
    return {**where, "measure": measure, "value": value, "se": se, "P": P, "M": M, "N": 20, "n_t": 100}


def factors(stage, condition, utility, radius, dimension):
    capacity = utility * (1 + radius**-2) / dimension
    named = {"utility": utility, "effective_radius": radius, "effective_dimension": dimension}
    more = {"center_alignment": 0.5, "glue_floor": 0.02, "shuffled_capacity": 0.1, "degenerate_draws": 0.0}
    rows = [row(stage, condition, name, value) for name, value in (named | more).items()]
    return [*rows, row(stage, condition, "glue_capacity", capacity, se=0.01 * capacity)]


@pytest.fixture
def table():
    rows = []
    for i, stage in enumerate(STAGES):
        for condition, r in (("attack", 0.4 + 0.2 * i), ("noise", 0.5)):
            rows.append(row(stage, condition, "capacity", 1.0 + 0.1 * i, se=0.02, P=20, M=20))
            rows.append(row(stage, condition, "radius", r, se=0.01, P=20, M=20))
        rows += factors(stage, "clean", 0.4, 0.8, 3.0) + factors(stage, "attacked", 0.5, 1.0 + i, 3.5)
        for condition, value in (("clean", 0.3), ("attacked", 0.2)):
            rows += [
                row(stage, condition, "one_vs_rest_capacity", value + 0.1 * j, name, se=0.01)
                for j, name in enumerate(("boot", "coat", "bag"))
            ]
            pairs = {
                "boot | coat": 0.9 if condition == "clean" else 0.1,
                "boot | bag": 0.2,
                "coat | bag": -0.3,
            }
            rows += [row(stage, condition, "center_cosine", v, pair, P=2) for pair, v in pairs.items()]
    return pa.Table.from_pylist(rows, schema=ANALYZER_COLUMNS)


@pytest.fixture
def comparison(make_record, table):
    return compare([make_record(tables={"geometry": table})])


def test_versions_stand_beside_noise_with_the_ratio_of_radii(comparison):
    (found,) = model_geometry(comparison)
    assert [line[0] for line in found.versions.rows] == list(STAGES)
    assert [line[5] for line in found.versions.rows] == ["0.80", "1.20", "1.60"]
    assert found.versions.rows[1][1] == "1.1 \N{PLUS-MINUS SIGN} 0.02"
    assert "P = 20 manifolds of M = 20 points, n_t = 100 probes" in found.versions.caption
    assert "2/M = 0.1" in found.versions.caption
    assert len(found.version_figures) == 2


def test_the_change_of_log_capacity_is_the_sum_of_its_factors(comparison):
    (found,) = model_geometry(comparison)
    for i, line in enumerate(found.change.rows):
        change, utility, radius, dimension = map(float, line[3:7])
        assert utility == pytest.approx(math.log(0.5 / 0.4), abs=0.005)
        assert radius == pytest.approx(math.log((1 + (1 + i) ** -2) / (1 + 0.8**-2)), abs=0.005)
        assert dimension == pytest.approx(-math.log(3.5 / 3), abs=0.005)
        assert change == pytest.approx(utility + radius + dimension, abs=0.02)
    assert found.change.rows[0][0] == "input (20)"


def test_classes_are_those_of_the_last_stage_before_the_logits_hardest_first(comparison):
    (found,) = model_geometry(comparison)
    assert found.classes.caption.startswith("At hidden,")
    assert [line[0] for line in found.classes.rows] == ["boot", "coat", "bag"]
    assert found.classes.rows[0][1:] == (
        "0.3 \N{PLUS-MINUS SIGN} 0.01",
        "0.2 \N{PLUS-MINUS SIGN} 0.01",
        "coat (0.90)",
        "bag (0.20)",
    )
    # Clean below the diagonal, attacked above.
    assert found.cosines.rows[0] == ("boot", "", "0.10", "0.20")
    assert found.cosines.rows[1] == ("coat", "0.90", "", "-0.30")
    assert found.cosines.shades[1] == (0.9, 0.0, 0.0)


def test_the_profile_is_attacked_over_clean(comparison):
    figure = profile_figure(comparison)
    ratios = [float(line[2]) for line in figure.rows]
    expected = [(0.5 * (1 + (1 + i) ** -2) / 3.5) / (0.4 * (1 + 0.8**-2) / 3) for i in range(3)]
    assert ratios == pytest.approx(expected, abs=1e-3)
    assert [float(line[3]) for line in figure.rows] == pytest.approx(
        [r * math.hypot(0.01, 0.01) for r in ratios], abs=6e-4
    )
    assert figure.finding.startswith("The largest loss is at logits of ")


def test_the_page_has_versions_before_classes_before_the_profile(comparison):
    page = render(comparison)
    order = ["Versions of single images", "Classes, clean and attacked", "Each class against the rest",
             "Where capacity is lost", 'id="logits"']  # fmt: skip
    places = [page.index(text) for text in order]
    assert places == sorted(places)


def test_factors_without_a_finite_value_are_left_open(make_record, table):
    rows = [r | {"value": math.inf} if r["measure"] == "effective_radius" else r for r in table.to_pylist()]
    infinite = pa.Table.from_pylist(rows, schema=ANALYZER_COLUMNS)
    (found,) = model_geometry(compare([make_record(tables={"geometry": infinite})]))
    assert [line[5] for line in found.change.rows] == [""] * 3


def test_a_record_with_classes_alone_shows_their_charts(make_record, make_geometry):
    plain = make_geometry({"fc": ([0.2, 0.3], [0.1, 0.1])})
    (found,) = model_geometry(compare([make_record(tables={"geometry": plain})]))
    assert (found.versions, found.change, found.classes, found.cosines) == (None, None, None, None)
    assert len(found.class_figures) == 1
    assert profile_figure(compare([make_record(tables={"geometry": plain})])) is None


def test_the_profile_of_models_with_other_stages_ends_at_the_logits(make_record):
    tables = [
        pa.Table.from_pylist(
            [r for s in stages for c in ("clean", "attacked") for r in factors(s, c, 0.5, 1.0, 3.0)],
            schema=ANALYZER_COLUMNS,
        )
        for stages in (("input", "a", "logits"), ("input", "b", "logits"))
    ]
    records = [make_record(name, tables={"geometry": t}) for name, t in zip("xy", tables, strict=True)]
    figure = profile_figure(compare(records))
    (order,) = {str(layer["encoding"]["x"]["sort"]) for layer in figure.chart.to_dict()["layer"]}
    assert order == "['input', 'a', 'b', 'logits']"
    assert figure.finding.startswith("No stage loses: at input of x 1.00 of the clean capacity is left")
