"""The page: complete, self-contained, and safe against the names it prints."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
import zlib
from html.parser import HTMLParser

import altair as alt
import numpy as np
import pytest
from PIL import Image

from robustgeom.errors import InputError, OutputError
from robustgeom.records import CheckResult, RemedyResult
from robustgeom.report import CLAIMS, compare, write_report
from robustgeom.report.charts import accuracy_chart, geometry_chart, histogram_chart
from robustgeom.report.images import examples
from robustgeom.report.marks import COLOURS
from robustgeom.report.tables import aggregates, histograms, stages
from robustgeom.stats import Interval

EVIL = '<script>alert(1)</script>"&'
RNG = np.random.default_rng(0)


class Page(HTMLParser):
    """Elements with their attributes, and the text of every script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[-1] += data

    def packed(self, index):
        return zlib.decompress(base64.b64decode(self.scripts[index])).decode()

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def _images(channels=1):
    clean = RNG.random((3, channels, 6, 5)).astype(np.float32)
    change = np.zeros_like(clean)
    change[:, :, 0, 0], change[:, :, 1, 1] = 0.1, -0.05
    names = {
        "sample_ids": np.array([10, 11, 12]),
        "labels": np.array([0, 1, 2]),
        "predictions": np.array([1, 1, 7]),
    }
    arrays = {"clean": clean, "adversarial": clean + change, **names}
    return {f"examples.{k}": v for k, v in arrays.items()}


@pytest.fixture
def comparison(make_record, make_geometry, make_logits):
    tables = {
        "geometry": make_geometry({"conv": ([0.2, 0.3], [0.1, 0.1]), "fc": ([0.4, 0.4], [0.1, 0.1])}),
        "logits": make_logits(RNG.random(4), RNG.random(4)),
        "logit_summary": make_geometry({"logits": ([0.03], [0.4])}, "calibration_error"),
    }
    check = CheckResult(
        name="masked", status="fail", value=0.64, message="64 % zero gradients", action="use soft-gates"
    )
    fooled = {"pgd": (0.01, 0.05, 9.0, 9.0)}
    first = make_record(
        EVIL, fooled=fooled, tables=tables, arrays=_images(), checks=[check], model={"stages": ["conv"]}
    )
    return compare([first, make_record("plain", fooled={}, status="interrupted")], claims=CLAIMS)


@pytest.fixture
def text(comparison, tmp_path):
    return write_report(comparison, tmp_path / "deep" / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def page(text):
    return Page(text)


def test_the_page_is_the_same_every_time(comparison, text, tmp_path):
    assert write_report(comparison, tmp_path / "again.html").read_text(encoding="utf-8") == text


def test_untrusted_names_never_become_markup(text, page):
    assert "<script>alert" not in text
    assert len(page.all("script")) == 3
    assert all(a.get("onerror") is None for _, a in page.tags)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    specs = json.loads(page.packed(0))
    assert EVIL in json.dumps(specs["accuracy"], ensure_ascii=False).replace('\\"', '"')


def test_nothing_is_fetched(page):
    references = [
        v for _, a in page.tags for k, v in a.items() if k in {"src", "href", "srcset", "action", "data"}
    ]
    assert references
    assert [r for r in references if not r.startswith(("#", "data:"))] == []
    policy = page.all("meta")[1]["content"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert re.search(r"url\(|@import", "".join(page.scripts[2:])) is None


def test_the_chart_library_is_there_once_and_the_policy_lets_just_it_and_the_page_run(text, page):
    library = page.packed(1)
    assert "window.vegaEmbed" in library
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'"
        for s in (library, *re.findall("<script>(.*?)</script>", text, re.DOTALL))
    ]
    assert f"script-src {' '.join(hashes)};" in page.all("meta")[1]["content"]
    assert len(text) < 750_000


def test_every_chart_has_a_spec_a_name_and_a_table(page):
    places = [a for a in page.all("div") if "data-chart" in a]
    named = [a for a in page.all("div") if a.get("class") == "chart"]
    specs = json.loads(page.packed(0))
    assert sorted(a["data-chart"] for a in places) == sorted(specs) != []
    assert {"accuracy", "geometry-0", "logits-2"} <= specs.keys()
    assert len(named) == len(places)
    assert all(a["role"] == "img" and len(a["aria-label"]) > 30 for a in named)
    assert len(page.all("details")) >= len(places) + 2
    assert all(spec["width"] == "container" for spec in specs.values())
    assert max(len(v) for s in specs.values() for v in _datasets(s)) <= 120


def _datasets(spec):
    layers = [layer.get("data", {}).get("values", []) for layer in spec["layer"]]
    return [*layers, spec.get("data", {}).get("values", []), *spec.get("datasets", {}).values()]


def test_headers_have_scope_and_pictures_have_words(page):
    assert all(a.get("scope") in {"col", "row"} for a in page.all("th"))
    assert len(page.all("img")) == 9
    assert all(a["alt"] for a in page.all("img"))
    assert {tag for tag, _ in page.tags} >= {"header", "main", "nav", "footer", "noscript"}


def test_the_words_on_the_page(text):
    flat = _flat(text)
    for expected in (
        "FAILED 0.64 64 % zero gradients Next: use soft-gates",
        "75.0 % [30.1, 95.4]",
        "partial",
        "an upper bound",
        "pgd 3 3 2 2 16 8 6 0.8",
        ": suspicious because masked: 64 % zero gradients. Robust accuracy 25.0 % [5, 70] at linf 0.1, clean 75.0 %.",
        "plain : not evaluated because the run is interrupted",
        "At the last stage, fc, capacity goes from 0.4 clean to 0.1 attacked (-75 %); higher is better.",
        "attacked 0.400 \N{PLUS-MINUS SIGN} 0.010 15",
        "not tested",
        "Rule: in every family with both",
        "arXiv:2108.12001",
        "difference, at most 25.5/255",
        "read as class 7",
        "The record keeps no examples.",
        "robustgeom evaluate plain --data toy --split test --suite quick-linf --norm linf --n 4 --seed 0",
        "d" * 64,
    ):
        assert expected in flat, expected


def test_the_reading_of_one_bare_record(make_record, tmp_path):
    text = write_report(compare([make_record("bare")]), tmp_path / "r.html").read_text()
    for expected in (
        "No check was run.",
        "No record holds geometry",
        "No claim was judged.",
        "no attack ran",
    ):
        assert expected in text


def _flat(text):
    body = text[text.index("<body") : text.index('<script type="application/octet-stream"')]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_verdicts_come_before_everything_else(text):
    flat = _flat(text)
    places = [
        flat.index(t) for t in ("suspicious because masked", "plain : not evaluated", "2 models on 4 samples")
    ]
    assert places == sorted(places)
    assert "is suspicious because" not in flat  # said once, in the verdict line


def test_of_many_models_the_doubtful_and_the_largest_differences_are_on_top(make_record, tmp_path):
    broken = [CheckResult(name="step", status="fail", value=0.5, message="loss falls")]
    nets = [make_record(f"net-{i}", checks=broken if i == 4 else ()) for i in range(8)]
    text = write_report(compare(nets), tmp_path / "p.html").read_text()
    top, folded, more = text.partition("<nav")[0].partition('id="main"')[0].split("<details>")
    listed = re.compile('<li data-model="net-."><strong>(net-.)</strong>')
    assert (listed.findall(top), len(listed.findall(folded))) == (["net-4"], 7)
    assert "7 of 8 models: " in folded
    against = re.compile("net-. .* than net-.")
    assert "1 more comparison at linf 0.1" in more
    assert len(against.findall(folded)) == 6
    assert len(against.findall(more)) == 1


def test_failed_checks_come_first_and_passed_ones_open_on_their_number(make_record, tmp_path):
    def check(name, status):
        action = "" if status == "pass" else f"mend {name}"
        return CheckResult(name=name, status=status, value=0.5, message=f"what {name} found", action=action)

    first = make_record("a", checks=[check("one", "pass"), check("two", "warn"), check("three", "pass")])
    second = make_record("b", checks=[check("one", "pass"), check("two", "pass"), check("three", "fail")])
    text = write_report(compare([first, second]), tmp_path / "r.html").read_text()
    table = text[text.index('<table class="matrix">') :].partition("</table>")[0]
    assert re.findall(r'<tr><th scope="row">(\w+)', table) == ["three", "two", "one"]
    assert table.count("<details>") == 4
    assert "Next: mend three" in table
    assert "Next: mend one" not in table
    assert "(1 warning, failure checks not run)" in text
    assert "<strong>a, b.</strong> The failure checks did not run" in text


def test_what_the_checks_cost_and_which_were_left_out(make_record, tmp_path):
    left_out = {"eot_convergence": "does not apply", "black_box": "too few passes in the budget"}
    diagnosis = {"samples": {"standing": 3, "fallen": 1}, "passes": 6, "allowed": 12, "left_out": left_out}
    check = CheckResult(name="gradients", status="pass", value=0.0, message="all well")
    record = make_record(fooled={"pgd": (9.0,) * 4}, checks=[check], diagnosis=diagnosis)
    flat = _flat(write_report(compare([record]), tmp_path / "r.html").read_text())
    # The record's attacks took 8 forward and 4 backward passes for each of 4 samples.
    assert "The checks took 6 passes, 12.5 % of the attacks', on 3 standing and 1 fallen samples." in flat
    assert "Left out: EOT convergence (does not apply); black box (too few passes in the budget)." in flat


def test_remedies_are_shown_before_and_after(make_record, tmp_path):
    fooled = {"pgd": (0.01, 9.0, 9.0, 9.0), "remedy: square": (9.0, 0.01, 0.05, 9.0)}
    answer = {"attack": "remedy: square", "answers": ["transfer"]}
    remedies = [RemedyResult(radius=8 / 255, before=2, after=1, **answer)]
    remedies.append(RemedyResult(radius=0.1, before=2, after=0, **answer))
    check = CheckResult(name="transfer", status="fail", value=0.5, message="1 of 2 fooled")
    record = make_record("mended", fooled=fooled, remedies=remedies, checks=[check])
    flat = _flat(write_report(compare([record, make_record("plain")]), tmp_path / "r.html").read_text())
    assert "remedy: square 8/255 transfer 50.0 % [15.0, 85.0] 25.0 % [4.6, 69.9] -25.0 points" in flat
    assert "At linf 0.1: 50.0 % before the remedies, 0.0 % after (square felled 2)." in flat
    assert "Still flagged: transfer (fail)." in flat
    assert "Remedies" not in _flat(write_report(compare([make_record()]), tmp_path / "p.html").read_text())


def test_an_unwritable_place_leaves_nothing_behind(comparison, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="a place that can be written"):
        write_report(comparison, tmp_path / "file" / "report.html")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def _pixels(picture):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.uri.split(",")[1]))))


def test_difference_pictures_show_the_sign_and_the_size(make_record):
    shown, _ = examples(make_record(arrays=_images()))
    clean, _, difference = (_pixels(p) for p in shown[0].pictures)
    source = _images_of(make_record, 1)
    assert clean.shape == (6, 5)
    assert difference[0, 0] == 255
    assert difference[1, 1] == 64
    assert difference[3, 3] == 128
    assert source == (6, 5)
    assert _images_of(make_record, 3) == (6, 5, 3)


def _images_of(make_record, channels):
    shown, _ = examples(make_record(arrays=_images(channels)))
    return _pixels(shown[0].pictures[0]).shape


def test_sounds_and_damaged_examples_are_named_not_drawn(make_record):
    sounds = _images() | {"examples.clean": np.zeros((3, 800), np.float32)}
    assert "shape 800 are not images" in examples(make_record(arrays=sounds))[1]
    short = _images() | {"examples.labels": np.array([1])}
    assert "do not fit together" in examples(make_record(arrays=short))[1]
    assert examples(make_record(arrays=_images(2)))[0] == []


def test_charts_say_which_model_by_shape_and_dash_too(comparison):
    chart = accuracy_chart({m.name: m.curve for m in comparison.models}, norm="linf")
    encodings = [layer.get("encoding", {}) for layer in chart.to_dict()["layer"]]
    assert {"color", "strokeDash", "shape"} <= {key for e in encodings for key in e}
    assert isinstance(chart, alt.LayerChart)
    with pytest.raises(InputError):
        accuracy_chart({}, norm="linf")
    with pytest.raises(InputError):
        geometry_chart([])


def test_the_last_bin_of_a_histogram_has_its_width(make_record, make_logits):
    record = make_record(tables={"logits": make_logits([0.0, 40.0], [0.0])})
    panel = histograms([record], "logit_gap")[0]
    layer = histogram_chart(panel, "logit_gap").to_dict()
    rows = [r for values in _datasets(layer) for r in values if r["condition"] == "clean" and "from" in r]
    assert (rows[-1]["from"], rows[-1]["share"], rows[-2]["share"]) == (40.0, 0.5, 0.5)


def _luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_stand_out_on_white_and_on_dark(colour):
    dark, own = _luminance("#1d2127"), _luminance(colour)
    assert 1.05 / (own + 0.05) >= 3
    assert (own + 0.05) / (dark + 0.05) >= 3


def test_aggregates_average_repeats_and_drop_missing_values(make_record, make_geometry):
    tables = {"a": make_geometry({"fc": ([0.2], [0.1])}), "b": make_geometry({"fc": ([0.4], [float("nan")])})}
    clean, attacked = aggregates(make_record(tables=tables), "capacity")
    assert clean["value"] == pytest.approx(0.3)
    assert clean["se"] == pytest.approx(0.01 / np.sqrt(2))
    assert attacked["value"] == pytest.approx(0.1)


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], list(RNG.normal(0, 50, 300)), [0.0, 1e-9, 1e6]])
def test_histograms_count_every_sample_once(make_record, make_logits, values):
    record = make_record(tables={"logits": make_logits(values, values[:1])})
    panel, nothing = histograms([record, make_record()], "logit_gap")
    assert nothing is None
    assert panel.shares["clean"].sum() == pytest.approx(1)
    assert panel.means["clean"] == pytest.approx(np.mean(values))
    assert panel.counts == {"clean": len(values), "attacked": 1}
    assert len(panel.edges) <= 61


def test_the_input_comes_first_and_the_last_stage_is_the_networks(make_record, make_geometry, tmp_path):
    geometry = make_geometry({"input": ([0.3], [0.3]), "fc": ([0.4], [0.2]), "logits": ([0.5], [0.1])})
    record = make_record(tables={"geometry": geometry}, model={"stages": ["fc", "logits"]})
    assert stages(record, "capacity") == ["input", "fc", "logits"]
    text = write_report(compare([record]), tmp_path / "report.html").read_text()
    assert "At the last stage, logits, capacity goes from 0.5 clean to 0.1 attacked (-80 %)" in text


def _with_arguments(record, **arguments):
    return type(record)(record.header.model_copy(update={"arguments": arguments}), record.samples)


def test_the_command_makes_the_record_again_or_is_not_given(make_record, tmp_path):
    def page(**arguments):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        record = _with_arguments(make_record(fooled={}), **arguments)
        return write_report(compare([record]), folder / "report.html").read_text()

    mine = page(data="mine.npz", suite="mine.toml", data_dir="there", eps="8/255", analyze=False)
    for part in ("--data mine.npz", "--suite mine.toml", "--data-dir there", "--eps 8/255", "--no-analyze"):
        assert part in mine
    assert "--surrogate net.py:f --remedy" in page(surrogate="net.py:f", remedy=True)
    assert "evaluated from Python; no command" in page(data="object:tuple", suite="quick-linf")


def test_up_to_64_models_are_told_apart(make_record):
    names = [f"net-{i}" for i in range(20)]
    curve = [(0.0, Interval(0.5, 0.4, 0.6, 50))]
    layers = accuracy_chart(dict.fromkeys(names, curve), norm="linf").to_dict()["layer"]
    ranges = {}
    for layer in layers:
        for channel in ("color", "strokeDash", "shape"):
            if channel in layer.get("encoding", {}):
                ranges[channel] = layer["encoding"][channel]["scale"]["range"]
    looks = list(zip(ranges["color"], map(str, ranges["strokeDash"]), ranges["shape"], strict=True))
    assert len(set(looks)) == 20


def test_examples_are_drawn_in_their_own_domain(make_record):
    record = make_record(arrays=_images())
    data = record.header.data.model_copy(update={"domain": (-1.0, 1.0)})
    wide = type(record)(record.header.model_copy(update={"data": data}), record.samples, {}, record.arrays)
    clean, _, difference = examples(wide)[0][0].pictures
    expected = np.round((record.arrays["examples.clean"][0, 0] + 1) / 2 * 255)
    assert np.array_equal(_pixels(clean), expected)
    assert "/255" not in difference.caption
