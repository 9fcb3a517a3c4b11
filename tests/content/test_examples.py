"""Examples and the code in the README run as written."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import robustgeom
from robustgeom.records import load_record

ROOT = Path(__file__).resolve().parents[2]


def run(name, folder):
    path = ROOT / "examples" / f"{name}.py"
    done = subprocess.run([sys.executable, str(path)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def shares(text):
    return [float(x) for x in re.findall(r"([\d.]+) % \[", text)]


def test_the_example_of_a_defense_finds_that_it_is_none(tmp_path):
    said = run("evaluate_own_defense", tmp_path)
    plain, through = shares(said)
    assert "suspicious because gradients" in said
    assert through < plain


@pytest.mark.slow
def test_the_example_of_a_comparison_writes_its_page(tmp_path):
    said = run("compare", tmp_path)
    assert "fmnist-cnn-pgd-at is more robust than fmnist-cnn-standard at linf 8/255" in said
    assert (tmp_path / "compared" / "report.html").is_file()


@pytest.mark.slow
def test_the_example_of_distillation_makes_a_student_between_the_two(tmp_path):
    teacher, _, plain, weak, _, student = shares(run("distill", tmp_path))
    assert weak < student
    assert teacher < plain


def test_every_example_is_run_here():
    names = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert names == {"evaluate_own_defense", "compare", "distill"}


def test_the_defense_of_the_readme_evaluates_as_shown(tmp_path):
    code = re.search(r"```python\n(# my_defense\.py.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert code is not None
    (tmp_path / "my_defense.py").write_text(code.group(1))
    command = "evaluate my_defense.py:build --data fashion-mnist --suite quick-linf --n 32"
    done = subprocess.run(
        [sys.executable, "-m", "robustgeom", *command.split()], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 3, done.stderr
    assert (tmp_path / "runs" / "quick-linf" / "report.html").is_file()
    assert (tmp_path / "runs" / "quick-linf" / "runs" / "my_defense" / "header.json").is_file()


@pytest.mark.slow
def test_the_attack_of_the_readme_is_judged_like_the_rest(tmp_path):
    """Fooled samples are those that its images fool; without it in the suite they would have met the rest only."""
    readme = (ROOT / "README.md").read_text()
    code = re.search(r"```python\n( *# my_attack\.py.*?)```", readme, re.DOTALL)
    assert code is not None
    (tmp_path / "my_attack.py").write_text(textwrap.dedent(code.group(1)))
    command = (
        "evaluate fmnist-cnn-standard --suite quick-linf --attack my_attack.py:attack "
        "--n 40 --eps 1/255 --no-analyze"
    )
    done = subprocess.run(
        [sys.executable, "-m", "robustgeom", *command.split()], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    record = load_record(tmp_path / "runs/quick-linf/runs/fmnist-cnn-standard")
    rows = [r for r in record.samples.to_pylist() if r["attack"] == "attack"]
    assert rows
    assert all(r["linf"] <= r["radius"] + 1e-6 for r in rows)
    assert all(r["backward_calls"] == 1 for r in rows)
    assert all(r["success"] == (r["prediction"] != r["label"]) for r in rows)
    assert record.header.resolved["attacks"][-1] == "attack"


def test_links_in_the_documents_lead_somewhere():
    for page in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        *ROOT.glob("[a-z]*/README.md"),
    ]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_site_has_every_page_and_every_public_name():
    docs = ROOT / "docs"
    listed = set(re.findall(r"^[\w/-]+$", (docs / "index.md").read_text(), re.MULTILINE))
    pages = {page.relative_to(docs).with_suffix("").as_posix() for page in docs.glob("*.md")} - {"index"}
    assert pages <= listed
    shown = re.findall(r"autoapi\w+:: [\w.]+\.(\w+)$", (docs / "api.md").read_text(), re.MULTILINE)
    assert sorted(shown) == sorted(robustgeom.__all__)
