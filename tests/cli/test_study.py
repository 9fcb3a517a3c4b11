"""`robustgeom study` as a person meets it: a study of one's own, a network added, what is kept and made again."""

import json
from pathlib import Path

import pytest

from robustgeom.content import content_root, find, names
from robustgeom.harness.study import load_study

STUDY = """
name = "stochastic-vision"
description = "Two networks of the shipped study, whose records are taken over, and a guest."
data = "fashion-mnist"
suite = "zoo-linf"
n = 500
baseline = "fmnist-resnet-standard"
analyze = false
models = ["fmnist-resnet-standard", "fmnist-vone-gaussian-3"]

[[analyses]]
name = "own-noise"
manifolds = ["own-noise"]
n_images = 3
points = 8
features = 40
n_t = 10

[[analyses]]
name = "versions"
manifolds = ["attack"]
geometry = ["capacity", "overlap"]
eps = ["8/255", "0.1"]
n_images = 3
points = 8
features = 40
n_t = 10
"""
GUEST = """
import torch
from torch import nn

def build():
    torch.manual_seed({seed})
    front = nn.Sequential(nn.Flatten(), nn.Linear(784, 30), nn.ReLU())
    return nn.Sequential(front, nn.Linear(30, 10)).eval()
"""


@pytest.fixture(scope="module")
def place(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    (folder / "mine.toml").write_text(STUDY)
    (folder / "guest.py").write_text(GUEST.format(seed=0))
    done = run("study", "mine.toml", "--with", "guest.py:build", "--out", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_all_networks_go_through_all_of_it(place):
    folder, done = place
    assert done.stdout.splitlines()[-1] == "out/report.html"
    assert done.stdout.startswith("guest: ")
    assert "attacks-are-strong" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    made = {str(p.parent.relative_to(folder / "out")) for p in (folder / "out").glob("*/**/*.json")}
    versions = [f"analyses/{m}/versions-{e}" for m in ("fmnist-resnet-standard", "fmnist-vone-gaussian-3", "guest")
                for e in ("8_255", "0.1")]  # fmt: skip
    runs = [f"runs/{m}" for m in ("fmnist-resnet-standard", "fmnist-vone-gaussian-3", "guest")]
    assert made >= {*versions, *runs, "analyses/fmnist-vone-gaussian-3/own-noise"}
    assert not any(
        name.startswith("analyses") and name.endswith("own-noise")
        for name in made - {"analyses/fmnist-vone-gaussian-3/own-noise"}
    )
    shipped = content_root() / "reports" / "stochastic-vision" / "runs" / "fmnist-vone-gaussian-3"
    taken = folder / "out" / "runs" / "fmnist-vone-gaussian-3"
    assert (taken / "samples.parquet").read_bytes() == (shipped / "samples.parquet").read_bytes()
    assert {p.name for p in (folder / "out").iterdir() if p.is_dir()} == {"runs", "analyses"}


def test_the_guest_is_in_the_charts_and_the_tables(place):
    folder, _ = place
    page = (folder / "out" / "report.html").read_text()
    assert 'aria-label="Width, guest' in page
    facts = json.loads((folder / "out" / "comparison.json").read_text())
    assert (facts["study"], facts["baseline"]) == ("mine.toml", "fmnist-resnet-standard")
    assert 'guest,0,logits,"attack, linf 8/255",all,overlap' in (folder / "out" / "geometry.csv").read_text()
    assert "robustgeom analyze guest.py:build --data fashion-mnist --manifolds attack" in page


def stamps(folder):
    return {p: p.stat().st_mtime_ns for p in (folder / "out").glob("*/**/*") if p.is_file()}


def test_the_same_command_makes_nothing_again_and_other_weights_are_another_network(place, run):
    folder, _ = place
    before, page = stamps(folder), (folder / "out" / "report.html").read_bytes()
    again = run("study", "mine.toml", "--with", "guest.py:build", "--out", "out", cwd=folder)
    assert (again.returncode, again.stderr) == (0, "")
    assert stamps(folder) == before
    assert (folder / "out" / "report.html").read_bytes() == page
    (folder / "out" / "analyses" / "guest" / "versions-0.1" / "geometry.parquet").unlink()
    broken = run("study", "mine.toml", "--with", "guest.py:build", "--out", "out", cwd=folder)
    assert broken.returncode == 2
    assert "expected an intact analysis" in broken.stderr
    (folder / "guest.py").write_text(GUEST.format(seed=1))
    other = run("study", "mine.toml", "--with", "guest.py:build", "--out", "out", cwd=folder)
    assert other.returncode == 2  # what is damaged is for its owner to remove
    (folder / "out" / "analyses" / "guest" / "versions-0.1" / "analysis.json").unlink()
    other = run("study", "mine.toml", "--with", "guest.py:build", "--out", "out", cwd=folder)
    assert other.returncode == 0, other.stderr
    changed = {str(p.relative_to(folder / "out")) for p, t in stamps(folder).items() if before.get(p) != t}
    assert all("guest" in name for name in changed)
    assert {Path(name).parts[0] for name in changed} == {"runs", "analyses"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('suite = "zoo-linf"', 'suite = "zo-linf"', "zoo-linf"),
        ('baseline = "fmnist-resnet-standard"', 'baseline = "x"', "expected a baseline among the models"),
        ('manifolds = ["attack"]', 'manifolds = ["atack"]', "attack"),
        ('eps = ["8/255", "0.1"]', "", "expected radii (eps = [...])"),
        ('eps = ["8/255", "0.1"]', 'eps = ["8/255", "8/255"]', "named once each"),
        ('eps = ["8/255", "0.1"]', 'eps = ["8/0"]', "8/0"),
        ("n = 500", "n = 0", "with n:"),
        ("n = 500", "n = 500\nbudget = 3", "budget"),
        ('"fmnist-vone-gaussian-3"]', '"fmnist-vone-gausian-3"]', "fmnist-vone-gaussian-3"),
    ],
)
def test_mistakes_in_a_study_end_in_one_message_before_anything_runs(run, tmp_path, old, new, said):
    assert old in STUDY
    (tmp_path / "bad.toml").write_text(STUDY.replace(old, new))
    done = run("study", "bad.toml", "--out", "out", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_study_or_guest_is_named(run, tmp_path):
    done = run("study", "stochastic-visoin", cwd=tmp_path)
    assert done.returncode == 2
    assert "stochastic-vision" in done.stderr
    done = run("study", "stochastic-vision", "--with", "nowhere.py:build", cwd=tmp_path)
    assert done.returncode == 2
    assert "nowhere.py" in done.stderr
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize("name", names("study"))
def test_shipped_studies_are_of_networks_of_the_zoo_with_three_seeds(name):
    study = load_study(name)
    assert study.name == name
    assert set(study.models) <= set(names("model"))
    groups = {m.removesuffix("-s1") for m in study.models if m.endswith("-s1")}
    assert len(groups) >= 5
    assert all({g, f"{g}-s1", f"{g}-s2"} <= set(study.models) for g in groups)
    assert find("study", name).is_file()
