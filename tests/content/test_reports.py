"""Every number on the shipped pages follows from the shipped records, worked out again here without our code."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest

from robustgeom.cli.report import records_in
from robustgeom.content import content_root
from robustgeom.report import CLAIMS, compare

REPORTS = content_root() / "reports"
NAMES = sorted(file.parent.name for file in REPORTS.glob("*/comparison.json"))


class Tables(HTMLParser):
    """Rows of the tables of a page, as {name of the table: [[text of a cell]]}; small print is left out."""

    def __init__(self, text):
        super().__init__()
        self.found, self.rows, self.cell, self.small = {}, [], None, 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        facts = dict(attrs)
        if tag == "div" and facts.get("role") == "region":
            self.rows = self.found.setdefault(facts["aria-label"], [])
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.cell = ""
        elif tag == "small":
            self.small += 1

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self.cell is not None:
            self.rows[-1].append(" ".join(self.cell.split()))
            self.cell = None
        elif tag == "small":
            self.small -= 1

    def handle_data(self, data):
        if self.cell is not None and not self.small:
            self.cell += data


def samples(name):
    """Return {model: (clean, {radius: robust})}, masks (n,) from the rows of the sample tables."""
    found = {}
    for folder in sorted((REPORTS / name / "runs").iterdir()):
        header = json.loads((folder / "header.json").read_text())
        table = pq.read_table(folder / "samples.parquet").to_pydict()
        columns = {key: np.array(values) for key, values in table.items()}
        ids = header["data"]["sample_ids"]
        first = columns["attack"] == "clean"
        right = dict(
            zip(columns["sample_id"][first], (columns["prediction"] == columns["label"])[first], strict=True)
        )
        clean = np.array([right[i] for i in ids])
        robust = {}
        for radius in header["threat"]["headlines"]:
            fell = set(columns["sample_id"][columns["success"] & (columns["radius"] <= radius + 1e-9)])
            robust[radius] = clean & np.array([i not in fell for i in ids])
        found[header["model"]["name"]] = clean, robust
    return found


def share(mask):
    bounds = binomtest(int(mask.sum()), len(mask)).proportion_ci(method="wilson")
    return f"{100 * mask.mean():.1f} % [{100 * bounds.low:.1f}, {100 * bounds.high:.1f}]"


@pytest.fixture(scope="module", params=NAMES)
def report(request):
    text = (REPORTS / request.param / "report.html").read_text(encoding="utf-8")
    return request.param, Tables(text).found, samples(request.param)


def test_there_are_reports():
    assert len(NAMES) >= 3


def test_accuracies_and_their_intervals(report):
    _, tables, masks = report
    head, *rows = tables["Table of verdicts"]
    assert {row[0] for row in rows} == set(masks)
    places = [i for i, text in enumerate(head) if text.startswith("robust, ")]
    assert places
    for row in rows:
        clean, robust = masks[row[0]]
        assert row[1] == share(clean)
        assert [row[i] for i in places] == [share(robust[r]) for r in sorted(robust)][-len(places) :]


def test_differences_and_p_values(report):
    name, tables, masks = report
    facts = json.loads((REPORTS / name / "comparison.json").read_text())
    base = facts["baseline"]
    radii = sorted(facts["headlines"])
    rows = tables["Paired comparison"][1:]
    assert len(rows) == len(radii) * (len(masks) - 1)
    seen = {}
    for row in rows:
        radius = radii[seen.setdefault(row[0], 0)]
        seen[row[0]] += 1
        ours, theirs = masks[row[0]][1][radius], masks[base][1][radius]
        assert float(row[2].split()[0]) == pytest.approx(100 * (ours.mean() - theirs.mean()), abs=0.0501)
        low, high = map(float, re.findall(r"\[([-+\d.]+), ([-+\d.]+)\]", row[2])[0])
        spread = 100 * np.std(ours.astype(float) - theirs) / len(ours) ** 0.5
        assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.2, abs=0.5)
        only = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
        p = binomtest(only[0], sum(only)).pvalue if sum(only) else 1.0
        said = row[3]
        assert (
            p < 0.001 if said.startswith("p <") else float(said.split()[-1]) == pytest.approx(p, abs=5.1e-4)
        )


def test_the_tables_beside_the_page_say_the_same(report):
    name, _, masks = report
    rows = list(csv.DictReader((REPORTS / name / "models.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["model"] for row in rows} == set(masks)
    for row in rows:
        clean, robust = masks[row["model"]]
        assert float(row["clean"]) == pytest.approx(clean.mean())
        assert float(row["robust"]) == pytest.approx(robust[float(row["radius"])].mean())


@pytest.mark.parametrize(
    "name", [n if n == NAMES[0] else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_pages_are_what_is_written_from_their_records_now(name, tmp_path):
    facts = json.loads((REPORTS / name / "comparison.json").read_text(encoding="utf-8"))
    places = [p for p in (REPORTS / name / "runs", REPORTS / name / "analyses") if p.is_dir()]
    found = {r.name: r for r in records_in(*places)}
    records = [found[m["name"]] for m in facts["models"]]
    comparison = compare(records, baseline=facts["baseline"], claims=CLAIMS, study=facts["study"])
    text = comparison.save_json(tmp_path / "comparison.json").read_text(encoding="utf-8")
    assert json.loads(text) == facts
    for file in comparison.to_csv(tmp_path):
        assert file.read_bytes() == (REPORTS / name / file.name).read_bytes()


def test_the_index_leads_to_every_report():
    text = (REPORTS / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'href="([^"]+/report\.html)"', text)
    assert links == [f"{name}/report.html" for name in NAMES]
    assert all((REPORTS / Path(link)).is_file() for link in links)


@pytest.mark.parametrize("name", NAMES)
def test_pages_are_small_enough_to_mail(name):
    assert (REPORTS / name / "report.html").stat().st_size <= 2_000_000
