"""Exports, read back by what others read them with."""

from __future__ import annotations

import json

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

EVIL = 'a|b*_`<script>\\&%$#{~^"'
FALLS = {"pgd": (0.01, 0.05, 9.0, 9.0)}
FAILED = CheckResult(name="masked", status="fail", value=1.0, message="masked", action="look")


@pytest.fixture
def comparison(make_record):
    return compare(
        [
            make_record("net", fooled=FALLS),
            make_record(EVIL, fooled={"pgd": (9.0,) * 4}, checks=[FAILED]),
            make_record("noisy", fooled=FALLS, model={"noise": "keyed", "rho": 1.0}),
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
    assert rows[1].startswith("net & 75.0 [30.1, 95.4] & 50.0")
    name = rows[2].split(" & 75.0")[0]
    assert name == (
        r"a|b*\_`\textless{}script\textgreater{}\textbackslash{}\&\%\$\#\{\textasciitilde{}\textasciicircum{}"
        '"'
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
    evil = yaml.safe_load(cards[f"{EVIL}.md"].split("---")[1])
    assert evil["model-index"][0]["name"] == EVIL
    assert "Verdict of robustgeom: suspicious" in cards[f"{EVIL}.md"]


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
    assert noisy["robustgeom"]["verdict"] == "trustworthy"


def test_a_run_of_autoattack_is_an_entry_with_its_accuracy(make_record):
    record = make_record("net", fooled=FALLS)
    suite = record.header.suite.model_copy(update={"name": "autoattack-linf"})
    made = type(record)(record.header.model_copy(update={"suite": suite}), record.samples)
    entry = json.loads(FORMATS["robustbench"](compare([made]))["net.json"])
    assert entry["autoattack_acc"] == "25.00"


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
