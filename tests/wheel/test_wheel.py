"""The wheel: one top-level name, content inside, works from an empty folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    # Without isolation: hatchling is in the environment, and nothing needs to be fetched.
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    place = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(place),
    ]
    done = subprocess.run([*command, str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return place


def run(place, folder, *arguments):
    environment = {k: v for k, v in os.environ.items() if k != "ROBUSTGEOM_CONTENT"} | {
        "PYTHONPATH": str(place)
    }
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_only_top_level_name_is_ours(wheel):
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {n for n in names if not n.endswith(".dist-info")} == {"robustgeom"}


def test_content_and_typing_travel_and_reports_do_not(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "robustgeom/py.typed" in names
    assert "robustgeom/data/fashion_mnist_eval.npz" in names
    assert "robustgeom/_content/attacks/suites/quick-linf.toml" in names
    assert "robustgeom/_content/zoo/fmnist-cnn-standard/model.safetensors" in names
    assert not any("reports/" in name for name in names)


def test_it_runs_from_an_empty_folder(installed, tmp_path):
    where = run(installed, tmp_path, "-c", "import robustgeom; print(robustgeom.__file__)")
    assert where.stdout.startswith(str(installed))
    done = run(
        installed,
        tmp_path,
        "-m",
        "robustgeom",
        "evaluate",
        "fmnist-cnn-standard",
        "--n",
        "32",
        "--eps",
        "0.05",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "quick-linf" / "report.html").is_file()


def test_every_public_name_imports(installed, tmp_path):
    code = (
        "import robustgeom as r; [getattr(r, n) for n in r.__all__]\n"
        "print(r.__all__ == sorted(r.__all__), len(r.__all__))"
    )
    done = run(installed, tmp_path, "-c", code)
    flag, count = done.stdout.split()
    assert flag == "True"
    assert int(count) <= 30
