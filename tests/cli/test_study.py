"""`robustgeom study` as a person meets it: a study of one's own, a network added, what is kept and made again."""

import fcntl
import json
import signal
from pathlib import Path

import pytest

from robustgeom.content import content_root, find, names
from robustgeom.harness.study import load_study
from robustgeom.records import load_record

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
TWIN = """
import robustgeom as rg

def build():
    return rg.load_model("fmnist-resnet-standard")
"""


@pytest.fixture(scope="module")
def place(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    (folder / "mine.toml").write_text(STUDY)
    (folder / "guest.py").write_text(GUEST.format(seed=0))
    done = run("study", "mine.toml", "--with", "guest.py:build", "--out", "out", cwd=folder)
    assert done.returncode == 3, done.stderr  # the guest knows nothing, and its checks say so
    return folder, done


def test_all_networks_go_through_all_of_it(place):
    folder, done = place
    assert done.stdout.splitlines()[-1] == "out/report.html"
    assert done.stdout.startswith("guest: ")
    assert "attacks-are-strong" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    made = {str(p.parent.relative_to(folder / "out")) for p in (folder / "out").glob("*/**/*.json")}
    models = ("fmnist-resnet-standard", "fmnist-vone-gaussian-3", "guest")
    versions = [f"analyses/{m}/versions-{e}" for m in models for e in ("8_255", "0.1")]
    assert made == {*versions, *(f"runs/{m}" for m in models), "analyses/fmnist-vone-gaussian-3/own-noise"}
    assert {p.name for p in (folder / "out").iterdir() if p.is_dir()} == {"runs", "analyses"}
    shipped = content_root() / "reports" / "stochastic-vision" / "runs" / "fmnist-vone-gaussian-3"
    taken = folder / "out" / "runs" / "fmnist-vone-gaussian-3"
    assert (taken / "samples.parquet").read_bytes() == (shipped / "samples.parquet").read_bytes()


def test_the_guest_is_in_the_charts_and_the_tables(place):
    folder, _ = place
    page = (folder / "out" / "report.html").read_text()
    assert 'aria-label="Width, guest' in page
    facts = json.loads((folder / "out" / "comparison.json").read_text())
    assert (facts["study"], facts["baseline"]) == (
        "mine.toml --with guest.py:build",
        "fmnist-resnet-standard",
    )
    assert 'guest,0,logits,"attack, linf 8/255",all,overlap' in (folder / "out" / "geometry.csv").read_text()
    assert "guest,logits,attack,0.1,width," in (folder / "out" / "stimuli.csv").read_text()
    assert "robustgeom analyze guest.py:build --manifolds attack --geometry capacity,overlap" in page


def test_a_report_of_the_folder_is_written_again_without_change(place, run):
    folder, _ = place
    page = (folder / "out" / "report.html").read_bytes()
    (folder / "out" / "report.html").unlink()
    done = run("report", "--again", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "report.html").read_bytes() == page


def stamps(folder):
    return {p: p.stat().st_mtime_ns for p in (folder / "out").glob("*/**/*") if p.is_file()}


@pytest.fixture(scope="module")
def again(place, run):
    """Run the study again with guests; return what it said, and the files that it wrote."""
    folder, _ = place

    def again(*guests):
        before = stamps(folder)
        added = [word for guest in guests for word in ("--with", guest)]
        done = run("study", "mine.toml", *added, "--out", "out", cwd=folder)
        return done, {
            str(p.relative_to(folder / "out")) for p, t in stamps(folder).items() if before.get(p) != t
        }

    return again


def test_what_is_there_is_kept_and_damage_costs_one_network(place, again):
    folder, _ = place
    done, changed = again("guest.py:build")
    assert (done.returncode, done.stderr, changed) == (3, "", set())
    table = folder / "out" / "analyses" / "guest" / "versions-0.1" / "geometry.parquet"
    kept = table.read_bytes()
    table.unlink()
    done, changed = again("guest.py:build")
    table.write_bytes(kept)
    assert (done.returncode, changed) == (2, set())
    assert "guest.py:build: expected an intact analysis" in done.stderr
    facts = json.loads((folder / "out" / "comparison.json").read_text())
    assert [m["name"] for m in facts["models"]] == ["fmnist-resnet-standard", "fmnist-vone-gaussian-3"]


@pytest.mark.slow
def test_what_changed_is_made_again(place, again):
    folder, _ = place
    # Other weights are another network; a second guest of the same file's name gets a folder of its own, and so does a
    # copy of one of the study's networks.
    (folder / "out" / "analyses" / "guest" / "versions-0.1" / "analysis.json").unlink()
    (folder / "guest.py").write_text(GUEST.format(seed=1))
    (folder / "x").mkdir()
    (folder / "x" / "guest.py").write_text(TWIN)
    done, changed = again("guest.py:build", "x/guest.py:build")
    assert done.returncode == 3, done.stderr
    assert {Path(name).parts[1] for name in changed} == {"guest", "guest-2"}
    names = [m["name"] for m in json.loads((folder / "out" / "comparison.json").read_text())["models"]]
    assert names == ["fmnist-resnet-standard", "fmnist-vone-gaussian-3", "guest", "guest-2"]

    # An analysis of another name takes the place of the one before; another seed is another evaluation.
    renamed = STUDY.replace('name = "own-noise"', 'name = "draws"')
    (folder / "mine.toml").write_text(renamed)
    done, changed = again()
    assert (done.returncode, done.stderr.count("manifolds")) == (0, 1)
    assert {Path(name).parent.as_posix() for name in changed} == {"analyses/fmnist-vone-gaussian-3/draws"}
    assert not (folder / "out" / "analyses" / "fmnist-vone-gaussian-3" / "own-noise").exists()
    seeded = renamed.replace("n = 500", "n = 500\nseed = 1").replace(', "fmnist-vone-gaussian-3"]', "]")
    (folder / "mine.toml").write_text(seeded)
    done, changed = again()
    assert done.returncode == 0, done.stderr
    assert {Path(name).parts[:2] for name in changed} == {
        ("runs", "fmnist-resnet-standard"), ("analyses", "fmnist-resnet-standard")
    }  # fmt: skip

    # So is another radius, and with it the analyses stay.
    (folder / "mine.toml").write_text(seeded.replace("seed = 1", 'seed = 1\neps = "2/255"'))
    done, changed = again()
    assert done.returncode == 0, done.stderr
    assert {Path(name).parts[:2] for name in changed} == {("runs", "fmnist-resnet-standard")}
    assert load_record(folder / "out" / "runs" / "fmnist-resnet-standard").headline == 2 / 255


def test_two_commands_do_not_share_a_folder(run, tmp_path):
    (tmp_path / "mine.toml").write_text(STUDY)
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run("study", "mine.toml", "--out", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert "out, in which another is at work" in done.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == [".lock"]


@pytest.mark.slow
def test_an_interrupted_study_goes_on_also_two_networks_at_a_time(start, tmp_path):
    (tmp_path / "mine.toml").write_text(STUDY)
    (tmp_path / "guest.py").write_text(GUEST.format(seed=0))
    command = ("study", "mine.toml", "--with", "guest.py:build", "--out", "out")
    first = start(*command, cwd=tmp_path)
    for line in first.stderr:
        if "fmnist-vone-gaussian-3: " in line:
            first.send_signal(signal.SIGINT)
            break
    said = first.communicate()[1]  # closes its pipes
    assert first.returncode == 130
    assert "the same command goes on" in said
    second = start(*command, "--jobs", 2, cwd=tmp_path)
    out, err = second.communicate()
    assert second.returncode == 3, err
    assert out.splitlines()[-1] == "out/report.html"
    made = {p.parent.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").glob("*/**/*.json")}
    assert made >= {"runs/guest", "analyses/fmnist-vone-gaussian-3/own-noise", "analyses/guest/versions-0.1"}
    assert not (tmp_path / "out" / "journal").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('suite = "zoo-linf"', 'suite = "zo-linf"', "zoo-linf"),
        ('baseline = "fmnist-resnet-standard"', 'baseline = "x"', "expected a baseline among the models"),
        ('manifolds = ["attack"]', 'manifolds = ["atack"]', "attack"),
        ('eps = ["8/255", "0.1"]', "", "expected radii (eps = [...])"),
        ('eps = ["8/255", "0.1"]', 'eps = ["8/255", "16/510"]', "every kind of manifold once at a radius"),
        ('manifolds = ["own-noise"]', 'manifolds = ["class"]\neps = ["0.1", "0.2"]', "once at a radius"),
        ('manifolds = ["attack"]', 'manifolds = ["attack"]\nnorm = "l2"', "expected the suite's norm, linf"),
        ('manifolds = ["attack"]', 'manifolds = ["attack"]\nnorm = "linff"', "linf"),
        ("points = 8", "points = 1", "points >= 2"),
        ('data = "fashion-mnist"', 'data = "fashion-mnits"', "fashion-mnist"),
        ('name = "stochastic-vision"', 'name = "../x"', "with name:"),
        ('eps = ["8/255", "0.1"]', 'eps = ["8/0"]', "8/0"),
        ("n = 500", "n = 0", "with n:"),
        ("n = 500", 'n = 500\neps = "8"', "8/255"),
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
    assert len(groups) >= 4
    assert all({g, f"{g}-s1", f"{g}-s2"} <= set(study.models) for g in groups)
    assert find("study", name).is_file()
