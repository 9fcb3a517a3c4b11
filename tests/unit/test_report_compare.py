"""Comparisons against numbers worked out by hand."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binomtest

from robustgeom.errors import InputError, OutputError, UnknownNameError
from robustgeom.records import CheckResult, RemedyResult
from robustgeom.report import CLAIMS, compare, write_report

NEVER = 9.0
# Ten samples; the last two are wrong without attack.
CLEAN = [True] * 8 + [False] * 2
WEAK = {
    "pgd": [0.01] * 6 + [0.05, NEVER, 0.01, NEVER],
    "square": [NEVER] * 5 + [0.01, NEVER, 0.05, NEVER, NEVER],
}
STRONG = {"pgd": [NEVER] * 7 + [0.05, NEVER, NEVER], "square": [NEVER] * 10}


@pytest.fixture
def pair(make_record, make_geometry, make_logits):
    tables = {
        "geometry": make_geometry({"fc": ([0.2, 0.3], [0.1, 0.1])}),
        "logits": make_logits([1, 2], [0, 1]),
    }
    check = CheckResult(
        name="converged", status="warn", value=float("nan"), message='a, "b"', action="more steps"
    )
    weak = make_record("weak", clean=CLEAN, fooled=WEAK, tables=tables, checks=[check])
    return [weak, make_record("strong", clean=CLEAN, fooled=STRONG)]


def test_robust_accuracy_and_intervals(pair):
    comparison = compare(pair)
    weak, strong = comparison.models
    assert weak.accuracy.value == 0.8
    assert weak.robust[8 / 255].value == 0.2
    assert weak.robust[0.1].value == 0.0
    assert strong.robust[0.1].value == 0.7
    reference = binomtest(7, 10).proportion_ci(method="wilson")
    assert strong.robust[0.1].low == pytest.approx(reference.low)
    assert strong.robust[0.1].high == pytest.approx(reference.high)
    assert [(r, i.value) for r, i in weak.curve] == [(0.0, 0.8), (8 / 255, 0.2), (0.1, 0.0)]
    assert comparison.strictest == 0.1


def test_yields_count_clean_correct_samples_in_suite_order(pair):
    weak = compare(pair).models[0]
    assert [(y.attack, y.met, y.first, y.at_all) for y in weak.yields] == [
        ("pgd", 8, 7, 7),
        ("square", 8, 1, 2),
    ]


def test_costs_are_sums_over_samples_and_radii_up_to_the_strictest_headline(make_record):
    record = make_record("net", clean=CLEAN, fooled=WEAK, grid=[0.0, 8 / 255, 0.1, 0.3])
    pgd = compare([record]).models[0].yields[0]
    # Two radii of the three, ten samples each, wrong ones too: a row costs 2 forward, 1 backward and 0.1 s.
    assert (pgd.forward_calls, pgd.backward_calls) == (2 * 20, 20)
    assert pgd.seconds == pytest.approx(2.0)
    assert pgd.passes_per_sample == 6


def test_an_attack_that_spares_the_fallen_met_fewer(pair):
    weak = pair[0]
    fallen = np.isin(np.asarray(weak.samples["sample_id"]), [10, 11, 12])
    spared = weak.samples.filter(pa.array(~(fallen & (np.asarray(weak.samples["attack"]) == "square"))))
    square = compare([type(weak)(weak.header, spared)]).models[0].yields[1]
    assert (square.met, square.first, square.at_all) == (5, 1, 2)
    assert (square.forward_calls, square.backward_calls, square.passes_per_sample) == (2 * 14, 14, 6)


def test_paired_difference_and_exact_test(pair):
    small, large = compare(pair).paired
    assert (small.name, small.baseline, small.radius) == ("strong", "weak", 8 / 255)
    assert small.difference.value == pytest.approx(0.6)
    assert small.p_value == pytest.approx(2 * 0.5**6)
    assert large.difference.value == pytest.approx(0.7)
    assert large.p_value == pytest.approx(2 * 0.5**7)
    # Seven samples of ten are gained, none lost: the mean of ten 0/1 draws.
    low, high = np.quantile(np.random.default_rng(3).binomial(10, 0.7, 50_000) / 10, [0.025, 0.975])
    assert (large.difference.low, large.difference.high) == pytest.approx((low, high), abs=0.1)


def test_summary_is_a_sentence_about_the_winner(pair):
    text = compare(pair, baseline="strong").summary
    assert text.startswith(
        "strong is more robust than weak at linf 0.1: 70.0 % against 0.0 % (difference 70.0 points"
    )
    assert "p = 0.016, n = 10)." in text
    assert text == compare(pair).summary


def test_a_tie_is_not_called_a_win(make_record):
    same = [make_record(n, clean=CLEAN, fooled=STRONG) for n in "ab"]
    comparison = compare(same)
    assert "b is not measurably more robust than a" in comparison.summary
    assert comparison.paired[0].p_value == 1.0


def test_a_suspicious_winner_is_not_praised(make_record):
    failed = CheckResult(name="masked", status="fail", value=1.0, message="no gradient")
    records = [make_record("base", clean=CLEAN, fooled=WEAK)]
    records.append(make_record("trick", clean=CLEAN, fooled={}, checks=[failed]))
    records.append(make_record("solid", clean=CLEAN, fooled=STRONG))
    sentences = compare(records).sentences
    assert sentences[0].startswith("solid is more robust than base")
    assert sentences[1].startswith("trick scores higher than base")
    assert "not to be relied on while trick is suspicious" in sentences[1]
    assert sentences[2] == "trick is suspicious because masked: no gradient."


def test_one_record_alone(make_record):
    comparison = compare([make_record("net", clean=CLEAN, fooled=STRONG)])
    assert comparison.summary.startswith("net keeps 70.0 % [39.7, 89.2] (n=10) at linf 0.1")
    assert comparison.paired == ()


def test_duplicate_names_are_told_apart(make_record):
    names = [m.name for m in compare([make_record(n, fooled={}) for n in ("a", "a", "a-2", "a")]).models]
    assert names[0] == "a"
    assert len(set(names)) == 4
    assert names[2] == "a-2"


def test_partial_records_are_marked(make_record):
    record = make_record("net", clean=CLEAN, fooled=STRONG, status="interrupted")
    cut = type(record)(record.header, record.samples.slice(3))
    model = compare([cut]).models[0]
    assert (model.status, model.partial, model.covered) == ("partial", True, 9)
    with pytest.raises(InputError, match="clean predictions of net"):
        compare([type(record)(record.header, record.samples.slice(0, 0))])


def test_an_unfinished_run_does_not_narrow_the_finished_ones(make_record, tmp_path):
    short = make_record(
        "short", clean=CLEAN, fooled=WEAK, grid=[0.0, 8 / 255], headlines=[8 / 255], status="interrupted"
    )
    comparison = compare([short, make_record("full", clean=CLEAN, fooled=STRONG)])
    assert comparison.headlines == (8 / 255, 0.1)
    assert list(comparison.models[0].robust) == [8 / 255]
    assert [p.radius for p in comparison.paired] == [8 / 255]
    assert comparison.summary.startswith("full keeps 70.0 %")
    assert comparison.sentences[1] == "short did not reach linf 0.1."
    assert len(_read(comparison.to_csv(tmp_path)[0])) == 3
    assert "not reached" in write_report(comparison, tmp_path / "report.html").read_text()


def test_runs_that_were_all_cut_off_are_compared_where_all_have_been(make_record):
    cut = {"clean": CLEAN, "fooled": WEAK, "status": "interrupted"}
    early = make_record("early", grid=[0.0, 8 / 255], headlines=[8 / 255], **cut)
    late = make_record("late", headlines=[0.1], **cut)
    comparison = compare([early, late])
    assert comparison.headlines == (8 / 255,)
    assert "not to be relied on while late is not evaluated and early is not evaluated" in comparison.summary
    nothing = make_record("nothing", grid=[0.0], headlines=[0.0], clean=CLEAN, status="interrupted")
    assert compare([nothing]).summary.startswith("nothing finished no attack")


def test_a_radius_that_a_cut_off_run_has_skipped_is_not_made_up(make_record):
    whole = make_record("whole", clean=CLEAN, fooled=STRONG, grid=[0.0, 0.05], headlines=[0.05])
    cut = make_record("cut", clean=CLEAN, fooled=WEAK, headlines=[0.1], status="interrupted")
    comparison = compare([whole, cut])
    assert comparison.headlines == (0.05,)
    assert list(comparison.models[1].robust) == []


def test_two_that_met_different_attacks_are_not_called_more_or_less_robust(make_record):
    first, second = (make_record(n, clean=CLEAN, fooled=f) for n, f in (("a", WEAK), ("b", STRONG)))
    suite = second.header.suite.model_copy(update={"name": "weak", "digest": "o" * 64})
    other = type(second)(second.header.model_copy(update={"suite": suite}), second.samples)
    summary = compare([first, other]).summary
    assert "b scores higher than a" in summary
    assert "the two met different attacks (weak/pgd/square and quick-linf/pgd/square)" in summary
    assert "is more robust than" in compare([first, second]).summary
    remedy = RemedyResult(attack="square", radius=0.1, answers=["transfer"], before=7, after=7)
    met = type(second)(second.header.model_copy(update={"remedies": [remedy]}), second.samples)
    assert "b scores higher than a" in compare([first, met]).summary
    assert "; the two met different remedies" in compare([first, met]).summary


def test_a_single_draw_is_reported_with_noise_only(make_record, tmp_path):
    noisy = make_record("noisy", clean=CLEAN, fooled=WEAK, model={"noise": "keyed"})
    rates = np.where(np.asarray(noisy.samples["attack"]) == "clean", 0.9, 0.35)
    column = noisy.samples.column_names.index("correct_rate")
    samples = noisy.samples.set_column(column, "correct_rate", pa.array(rates))
    # Sample 16 fell at 0.1 only because its draws decided nothing.
    ids, radii = np.asarray(samples["sample_id"]), np.asarray(samples["radius"])
    ties = pa.array((ids == 16) & (radii == 0.1))
    samples = samples.set_column(samples.column_names.index("near_tie"), "near_tie", ties)
    comparison = compare([type(noisy)(noisy.header, samples), make_record("plain", clean=CLEAN, fooled=WEAK)])
    assert comparison.models[0].single_draw == pytest.approx({0.0: 0.9, 8 / 255: 0.35, 0.1: 0.35})
    assert comparison.models[0].undecided == pytest.approx({0.0: 0, 8 / 255: 0, 0.1: 0.1})
    assert comparison.models[1].single_draw == comparison.models[1].undecided == {}
    rows = _read(comparison.to_csv(tmp_path)[0])
    assert [r["single_draw"][:4] for r in rows] == ["0.35", "0.35", "", ""]
    assert [r["undecided"] for r in rows] == ["0.0", "0.1", "", ""]
    content = json.loads(comparison.save_json(tmp_path / "c.json").read_text())
    assert [d["radius"] for d in content["models"][0]["single_draw"]] == [0.0, 8 / 255, 0.1]
    page = write_report(comparison, tmp_path / "report.html").read_text()
    assert page.count("<small>single draw 35.0 %</small>") == 1
    assert page.count("<small>single draw 35.0 %, undecided 10.0 %</small>") == 1
    assert "at linf 0.1 (single draw 35.0 %, undecided 10.0 %), clean" in page
    assert page.count("<small>single draw 90.0 %</small>") == 1


def test_tables_without_rows_still_name_their_columns(make_record, tmp_path):
    paths = compare([make_record("net", fooled={})]).to_csv(tmp_path)
    heads = {p.stem: p.read_text().splitlines()[0] for p in paths}
    assert heads["attacks"].startswith("model,attack,met,first,at_all,forward_calls,backward_calls,seconds")
    assert heads["geometry"].startswith("model,seed,stage,condition,manifold,measure,value")
    assert heads["logits"].startswith("model,seed,condition,sample_id")


def test_mismatches_are_refused(make_record):
    base = make_record("base", fooled={})
    with pytest.raises(InputError, match="at least one run record"):
        compare([])
    with pytest.raises(InputError, match=r"same samples, got base on toy dddd.* and other on toy eeee"):
        compare([base, make_record("other", data_hash="e" * 64)])
    with pytest.raises(InputError, match="n=3"):
        compare([base, make_record("other", clean=[True] * 3)])
    with pytest.raises(InputError, match="base under linf and other under l2"):
        compare([base, make_record("other", norm="l2")])
    with pytest.raises(InputError, match="headline radius that all records share"):
        compare([base, make_record("other", grid=[0.0, 0.3], headlines=[0.3])])
    with pytest.raises(UnknownNameError, match=r"'bsae'.*base"):
        compare([base], baseline="bsae")


def test_json_holds_every_number_and_no_nan(pair, tmp_path):
    path = compare(pair, claims=CLAIMS).save_json(tmp_path / "new" / "comparison.json")
    content = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert content["models"][0]["robust"][1]["value"] == 0.0
    assert content["models"][0]["checks"][0]["value"] is None
    assert content["paired"][1]["p_value"] == pytest.approx(2 * 0.5**7)
    assert content["models"][1]["fingerprint"] == pair[1].fingerprint()
    assert content["claims"][0]["status"] == "not tested"


def _read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_files_are_tidy(pair, tmp_path):
    paths = compare(pair).to_csv(tmp_path / "out")
    names = ["models.csv", "curves.csv", "attacks.csv", "checks.csv", "geometry.csv", "logits.csv"]
    assert [p.name for p in paths] == names
    models, curves, attacks, checks, geometry, logits = map(_read, paths)
    assert [(r["model"], r["attack"], r["first"]) for r in attacks[1:3]] == [
        ("weak", "square", "1"),
        ("strong", "pgd", "1"),
    ]
    assert {(r["forward_calls"], r["passes_per_sample"]) for r in attacks} == {("40", "6.0")}
    assert {r["verdict"] for r in models} == {"trustworthy"}
    assert [(r["model"], r["radius"], r["robust"]) for r in models][-1] == ("strong", "0.1", "0.7")
    assert models[0]["p_value"] == ""
    assert float(models[-1]["p_value"]) == pytest.approx(2 * 0.5**7)
    assert float(models[0]["forward_calls_per_sample"]) == 8
    assert len(curves) == 6
    assert checks[0]["message"] == 'a, "b"'
    assert {r["model"] for r in geometry} == {"weak"}
    assert [float(r["value"]) for r in geometry if r["manifold"] == "all"] == pytest.approx([0.25, 0.1])
    assert len(logits) == 4
    assert logits[0]["model"] == "weak"


def test_unwritable_places_leave_nothing_behind(pair, tmp_path):
    (tmp_path / "file").write_text("mine")
    comparison = compare(pair)
    with pytest.raises(OutputError):
        comparison.to_csv(tmp_path / "file")
    with pytest.raises(OutputError):
        comparison.save_json(tmp_path / "file" / "comparison.json")
    with pytest.raises(OutputError):
        comparison.save_json(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_table_of_another_kind_is_not_taken_for_geometry(make_record, tmp_path):
    record = make_record(fooled={}, tables={"notes": pa.table({"stage": ["fc"], "value": [1.0]})})
    assert _read(compare([record]).to_csv(tmp_path)[4]) == []


def test_reports_never_import_torch():
    code = "import sys, robustgeom.report as r; print(sorted(r.__all__) == r.__all__, 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True", "False"]


def test_a_comparison_is_a_table_in_notebooks_and_a_frame_in_pandas(make_record):
    records = [make_record("<i>", fooled={"pgd": (9.0,) * 4}), make_record("b", fooled={"pgd": (0.05,) * 4})]
    made = compare(records)
    frame = made.to_pandas()
    assert list(frame["model"]) == ["<i>", "<i>", "b", "b"]
    assert frame["robust"].tolist() == [0.75, 0.75, 0.75, 0.0]
    shown = made._repr_html_()
    assert "<td>&lt;i&gt;</td>" in shown
    assert "<i>" not in shown
    assert shown.count("<tr>") == 3
