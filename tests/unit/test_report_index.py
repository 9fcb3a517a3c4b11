"""Reports written again, and the index over a folder of them."""

from __future__ import annotations

import json
import re
from shutil import copytree, rmtree

import pytest
from click.testing import CliRunner

from robustgeom.cli.report import report
from robustgeom.errors import ContentError, InputError
from robustgeom.records import CheckResult
from robustgeom.report.index import write_index

EVIL = "<b>x</b>"
FALLS = {"pgd": (0.01, 0.05, 9.0, 9.0)}
FAILED = CheckResult(name="masked", status="fail", value=1.0, message="masked", action="look")


def run(*arguments):
    return CliRunner().invoke(report, list(map(str, arguments)), catch_exceptions=False).stdout.splitlines()


@pytest.fixture
def folder(make_record, tmp_path):
    """Two reports; the first has its records in another order than their folders."""
    for name, checks in (("b", ()), ("a", ()), (EVIL, [FAILED])):
        make_record(name, fooled=FALLS, checks=checks).save(tmp_path / "made" / f"run-{len(name)}-{name[-1]}")
    runs = sorted((tmp_path / "made").iterdir(), reverse=True)
    for name, chosen in (("first", runs), ("second", runs[:1])):
        for record in chosen:
            copytree(record, tmp_path / "reports" / name / "runs" / record.name)
        run(*chosen, "--baseline", _name(chosen[0]), "--out", tmp_path / "reports" / name)
    return tmp_path / "reports"


def _name(folder):
    return json.loads((folder / "header.json").read_text())["model"]["name"]


def contents(folder):
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_reports_written_again_are_the_same_and_get_an_index(folder):
    before = contents(folder)
    assert run(folder, "--again") == [
        str(folder / name) for name in ("first/report.html", "second/report.html", "index.html")
    ]
    after = contents(folder)
    assert after.pop("index.html")
    assert after == before


def test_the_index_says_what_came_out_and_whom_not_to_rely_on(folder):
    run(folder, "--again")
    text = (folder / "index.html").read_text()
    assert re.findall(r'href="([^"]+html)"', text) == ["first/report.html", "second/report.html"]
    assert "not to be relied on: &lt;b&gt;x&lt;/b&gt;" in text
    assert EVIL not in text
    assert "3 models on 4 samples of toy, norm linf" in text
    assert json.loads((folder / "first" / "comparison.json").read_text())["summary"] in text.replace(
        "&lt;", "<"
    ).replace("&gt;", ">")
    assert "without failure checks: a, b" in text or "without failure checks: b, a" in text
    assert "Claims:" not in text


def test_the_index_counts_the_claims_of_studies_that_were_tested(folder):
    file = folder / "second" / "comparison.json"
    facts = json.loads(file.read_text())
    mine = [c for c in facts["claims"] if c["claim"]["study"] == "stochastic"]
    mine[0]["status"] = "reproduced"
    file.write_text(json.dumps(facts))
    write_index(folder)
    said = f"Claims: 1 reproduced, {len(mine) - 1} not tested."
    assert said in (folder / "index.html").read_text()


def test_one_report_is_written_again_alone(folder):
    (folder / "second" / "report.html").unlink()
    assert run(folder / "second", "--again") == [str(folder / "second" / "report.html")]
    assert not (folder / "index.html").exists()


def test_two_records_of_one_name_keep_their_places(make_record, tmp_path):
    strong, weak = (
        make_record("net", fooled={"pgd": (9.0,) * 4}),
        make_record("net", fooled={"pgd": (0.01,) * 4}),
    )
    folder = tmp_path / "report"
    for record, place in ((strong, "z"), (weak, "a")):
        record.save(folder / "runs" / place)
    run(folder / "runs" / "z", folder / "runs" / "a", "--baseline", "net", "--out", folder)
    before = contents(folder)
    run(folder, "--again")
    assert contents(folder) == before


def test_a_report_without_its_records_is_left_as_it_is(folder):
    rmtree(folder / "first" / "runs")
    before = (folder / "first" / "report.html").read_bytes()
    assert run(folder, "--again") == [str(folder / "second" / "report.html"), str(folder / "index.html")]
    assert (folder / "first" / "report.html").read_bytes() == before


def test_what_is_no_report_is_refused(folder, tmp_path):
    with pytest.raises(ContentError, match="a folder of reports"):
        run(tmp_path / "made", "--again")
    with pytest.raises(InputError, match="no --out and no --baseline beside --again"):
        run(folder, "--again", "--baseline", "a")
    (folder / "second" / "comparison.json").write_text("[]")
    with pytest.raises(ContentError, match=r"an intact comparison.json"):
        run(folder, "--again")
