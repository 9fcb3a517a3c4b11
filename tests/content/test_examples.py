"""Examples and the code in the README run as written."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.stem)
def test_example_runs(path, tmp_path):
    done = subprocess.run([sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    plain, through = (float(x) for x in re.findall(r"^\w+ [\w ]+: +([\d.]+) %", done.stdout, re.MULTILINE))
    assert "suspicious because gradients" in done.stdout
    assert through < plain


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


def test_links_in_the_documents_lead_somewhere():
    for page in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        *ROOT.glob("[a-z]*/README.md"),
    ]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
