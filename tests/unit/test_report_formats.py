"""Exports, read back by what others read them with."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml
from click.testing import CliRunner
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from robustgeom.cli.export import export
from robustgeom.errors import InputError, UnknownNameError
from robustgeom.records import CheckResult
from robustgeom.report import compare
from robustgeom.report.formats import FORMATS

EVIL = '[a|b*_`<script>\\&%$#{~^"'
FALLS = {"pgd": (0.01, 0.05, 9.0, 9.0)}
PASSED = CheckResult(name="masked", status="pass", value=0.0, message="fine")
FAILED = CheckResult(name="masked", status="fail", value=1.0, message="masked", action="look")


@pytest.fixture
def comparison(make_record):
    return compare(
        [
            make_record("net", fooled=FALLS, checks=[PASSED]),
            make_record(EVIL, fooled={"pgd": (9.0,) * 4}, checks=[FAILED]),
            make_record("noisy 😀", fooled=FALLS, model={"noise": "keyed", "rho": 1.0}),
        ]
    )


def _cells(table):
    tokens = MarkdownIt("commonmark").enable("table").parse(table)
    rows, inside = [], False
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        inside = token.type in ("td_open", "th_open") or (inside and token.type == "inline")
        if token.type == "inline" and inside:
            rows[-1].append("".join(child.content for child in token.children))
    return rows


def test_markdown_is_a_table_whatever_the_names(comparison):
    head, *body = _cells(FORMATS["markdown"](comparison)["comparison.md"])
    assert head == ["model", "clean", "linf 8/255", "linf 0.1", "verdict"]
    assert body[0] == ["net", "75.0 [30.1, 95.4]", "50.0 [15.0, 85.0]", "25.0 [4.6, 69.9]", "trustworthy"]
    assert body[1][0] == EVIL
    assert body[1][-1] == "suspicious"


def test_latex_has_as_many_cells_in_each_row_and_every_special_character_escaped(comparison):
    text = FORMATS["latex"](comparison)["comparison.tex"]
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert {line.replace(r"\&", "").count("&") for line in rows} == {4}
    assert rows[1].startswith("net & 75.0 {[}30.1, 95.4] & 50.0")
    name = rows[2].split(" & 75.0")[0]
    assert name == (
        r"{[}a\textbar{}b{*}\_`\textless{}script\textgreater{}\textbackslash{}\&\%\$\#\{\textasciitilde{}"
        r"\textasciicircum{}\textquotedbl{}"
    )
    assert text.count(r"\begin{") == text.count(r"\end{") == 2


def test_the_hub_reads_the_results_from_a_card(comparison):
    cards = FORMATS["huggingface"](comparison)
    card = ModelCard(cards["net.md"])
    found = {r.metric_name: r.metric_value for r in card.data.eval_results}
    assert found == {
        "accuracy": 0.75,
        "robust accuracy, linf 8/255": 0.5,
        "robust accuracy, linf 0.1": 0.25,
    }
    assert {r.task_type for r in card.data.eval_results} == {"image-classification"}
    assert _cells(card.text)[1][0] == "net"
    assert "Verdict of robustgeom: suspicious" in cards[f"{EVIL}.md"]


def test_a_card_gives_leaderboards_no_robust_accuracy_that_cannot_be_relied_on(comparison):
    cards = FORMATS["huggingface"](comparison)
    for name in (EVIL, "noisy 😀"):  # suspicious, and without checks
        facts = yaml.safe_load(cards[f"{name}.md"].split("\n---\n")[0])["model-index"][0]
        assert facts["name"] == name
        assert [m["type"] for m in facts["results"][0]["metrics"]] == ["accuracy"]


def test_robustbench_entries_have_its_fields_and_claim_no_autoattack_that_was_not_run(comparison):
    net, evil, noisy = (json.loads(text) for text in FORMATS["robustbench"](comparison).values())
    fields = "link name authors additional_data number_forward_passes dataset venue architecture eps clean_acc reported"
    assert set(fields.split()) <= net.keys()
    assert (net["eps"], net["clean_acc"], net["reported"], net["unreliable"]) == (
        "0.1",
        "75.00",
        "25.00",
        False,
    )
    assert "autoattack_acc" not in net
    assert evil["unreliable"] is True
    assert (noisy["robustgeom"]["verdict"], noisy["unreliable"]) == ("trustworthy (checks not run)", True)


@pytest.mark.parametrize(
    ("name", "attacks", "entered"),
    [
        ("autoattack-linf", ("apgd-ce", "apgd-t", "fab-t", "square"), True),
        ("autoattack-linf", ("apgd-ce", "apgd-t", "fab-t", "square", "mine"), False),
        ("autoattack-lite", ("apgd-ce", "apgd-t", "fab-t", "square"), False),
    ],
)
def test_only_the_whole_of_autoattack_and_nothing_else_is_entered_as_such(
    make_record, name, attacks, entered
):
    record = make_record("net", fooled=dict.fromkeys(attacks, FALLS["pgd"]))
    suite = record.header.suite.model_copy(update={"name": name})
    made = replace(record, header=record.header.model_copy(update={"suite": suite}))
    entry = json.loads(FORMATS["robustbench"](compare([made]))["net.json"])
    assert entry.get("autoattack_acc") == ("25.00" if entered else None)


def test_what_no_attack_has_met_gives_no_robust_accuracy(make_record):
    record = make_record("net", fooled={}, grid=[0.0], headlines=[0.0], status="interrupted")
    made = compare([record])
    assert json.loads(FORMATS["robustbench"](made)["net.json"])["reported"] is None
    assert _cells(FORMATS["markdown"](made)["comparison.md"])[0] == ["model", "clean", "verdict"]
    assert "robust_accuracy" not in FORMATS["huggingface"](made)["net.md"]


def test_tables_say_what_speaks_against_quoting_them(make_record):
    records = [make_record("net", fooled=FALLS), make_record("cut", fooled=FALLS, status="interrupted")]
    suite = records[0].header.suite.model_copy(update={"name": "strong-linf", "digest": "o" * 64})
    records[0] = replace(records[0], header=records[0].header.model_copy(update={"suite": suite}))
    text = FORMATS["markdown"](compare(records))["comparison.md"]
    assert "worst of strong-linf, version 1 or quick-linf, version 1" in text
    assert "Models met different attacks or remedies. A first look, not figures to quote." in text
    body = _cells(text)[1:]
    assert body[0][-1] == "trustworthy (checks not run)"
    assert body[1][2].startswith("at most 50.0")


def test_corruptions_have_another_leaderboard(make_record):
    record = make_record("net", fooled=FALLS, norm="corruption")
    with pytest.raises(InputError, match="evaluations in linf or l2, got corruption"):
        FORMATS["robustbench"](compare([record]))


def test_the_command_prints_one_file_and_writes_several(make_record, tmp_path):
    for name in ("net", "other"):
        make_record(name, fooled=FALLS).save(tmp_path / "runs" / name)
    run = CliRunner().invoke
    table = run(export, [str(tmp_path / "runs"), "--as", "markdown"], catch_exceptions=False)
    assert table.stdout.startswith("| model | clean |")
    with pytest.raises(InputError, match="--out FOLDER for more than one file, got 2 files"):
        run(export, [str(tmp_path / "runs"), "--as", "robustbench"], catch_exceptions=False)
    out = tmp_path / "out"
    run(export, [str(tmp_path / "runs"), "--as", "robustbench", "--out", str(out)], catch_exceptions=False)
    assert sorted(f.name for f in out.iterdir()) == ["net.json", "other.json"]
    with pytest.raises(UnknownNameError, match="markdown"):
        run(export, [str(tmp_path / "runs"), "--as", "markdwon"], catch_exceptions=False)


def test_files_stay_in_their_folder_whatever_a_model_is_called(make_record, tmp_path):
    make_record("../../nets.py:build", fooled=FALLS).save(tmp_path / "run")
    out = tmp_path / "deep" / "out"
    CliRunner().invoke(
        export, [str(tmp_path / "run"), "--as", "huggingface", "--out", str(out)], catch_exceptions=False
    )
    assert [f.relative_to(tmp_path).as_posix() for f in tmp_path.rglob("*.md")] == [
        "deep/out/nets.py-build.md"
    ]
