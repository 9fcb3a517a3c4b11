"""The command line as a person meets it: real processes, real messages, real exit codes."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robustgeom import content
from robustgeom.records import load_record

DEFENSE = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    def forward(self, x):
        return self.net(x)

def build():
    return Small().eval()

def softmax():
    return nn.Sequential(Small(), nn.Softmax(1)).eval()

class Nan(Small):
    def forward(self, x):
        return super().forward(x) * float("nan")

def nan():
    return Nan().eval()

class Pair(Small):
    def forward(self, x):
        return super().forward(x), x

def pair():
    return Pair().eval()

def five():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 5)).eval()

def training():
    return Small().train()

class Blocked(Small):
    def forward(self, x):
        return super().forward((x * 7).round() / 7)

def blocked():
    return Blocked().eval()

def leaves():
    raise SystemExit(5)

def raises():
    raise RuntimeError("no weights")

number = 3
"""


@pytest.fixture
def defense(tmp_path):
    (tmp_path / "my_defense.py").write_text(DEFENSE)
    return tmp_path


def test_help_starts_without_torch(tmp_path):
    code = (
        "import sys; sys.argv = ['robustgeom', '--help']\n"
        "from robustgeom.cli.main import cli\n"
        "try: cli()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "assert 'altair' not in sys.modules, 'altair was imported'"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for verb in (
        "evaluate",
        "analyze",
        "study",
        "report",
        "ls",
        "show",
        "cp",
        "check",
        "doctor",
        "train",
        "verify",
    ):
        assert verb in done.stdout


@pytest.mark.parametrize(
    "verb",
    ["evaluate", "analyze", "study", "report", "ls", "show", "cp", "check", "doctor", "train", "verify"],
)
def test_every_verb_has_help(run, verb, tmp_path):
    done = run(verb, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_a_defense_outside_the_repository_ends_in_a_record_and_a_page(run, defense):
    done = run(
        "evaluate",
        "my_defense.py:build",
        "--data",
        "fashion-mnist",
        "--suite",
        "quick-linf",
        "--n",
        32,
        cwd=defense,
    )
    out = defense / "runs" / "quick-linf"
    assert done.returncode == 3, done.stderr  # an untrained net is no better than chance: a check fired
    assert done.stdout.startswith("my_defense: not evaluated because clean accuracy is ")
    assert "fail  clean accuracy: " in done.stdout
    assert load_record(out / "runs" / "my_defense").header.model.reference == "my_defense.py:build"
    assert "my_defense" in (out / "report.html").read_text()
    assert done.stdout.strip().endswith("report.html")
    assert "stand" in done.stderr  # one plain line per finished job
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("nowhere.py:build", "expected a Python file, got nowhere.py, which does not exist"),
        ("my_defense.py:biuld", "try build"),
        ("my_defense.py:number", "expected a torch.nn.Module"),
        ("my_defense.py:raises", "RuntimeError: no weights"),
        ("my_defense.py:leaves", "SystemExit: 5"),
        ("my_defense.py:softmax", "expected logits, got rows in [0, 1]"),
        ("my_defense.py:nan", "expected finite float logits"),
        ("my_defense.py:five", "expected 10 logits"),
        ("my_defense.py:pair", "expected a model that returns one tensor"),
        ("my_defense.py:training", "expected a model in eval mode"),
        ("fmnist-cnn-standart", "try fmnist-cnn-standard"),
        ("no_such_module:build", "expected no_such_module to import"),
    ],
)
def test_bad_models_end_in_one_message_and_nothing_written(run, defense, reference, said):
    done = run("evaluate", reference, "--n", 32, cwd=defense)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert "; try " in done.stderr
    assert not (defense / "runs").exists() or not any((defense / "runs").iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--suite", "quick-lnif"], "try quick-linf"),
        (["--data", "fashion"], "fashion-mnist"),
        (["--eps", "-1"], "expected a finite radius"),
        (["--eps", "0"], "expected eps > 0"),
        (["--eps", "8"], "try --eps 8/255"),
        (["--norm", "l0"], "expected a threat in linf or l2 or l1, which this attack serves, got l0"),
        (["--device", "gpu"], "expected a device that this machine has"),
        (["--norm", "l7"], "expected the name of a known norm"),
        (["--split", "tset"], "expected split"),
        (["--n", "5000"], "expected 1 to 1000 samples"),
        (["--attack", "missing.py:attack"], "which does not exist"),
        (["--data", "missing.npz"], "expected an .npz"),
    ],
)
def test_bad_options_end_in_one_message(run, tmp_path, options, said):
    done = run("evaluate", "fmnist-cnn-standard", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


def test_an_existing_or_unwritable_output_folder_is_refused_at_once(run, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    done = run("evaluate", "fmnist-cnn-standard", "--out", "taken", cwd=tmp_path)
    assert done.returncode == 2
    assert "does not exist yet" in done.stderr
    assert (tmp_path / "taken" / "notes.txt").read_text() == "mine"
    done = run(
        "evaluate", "fmnist-cnn-standard", "--out", tmp_path / "taken" / "notes.txt" / "x", cwd=tmp_path
    )
    assert done.returncode == 2
    assert "can be created" in done.stderr


@pytest.fixture(scope="session")
def finished(run, tmp_path_factory):
    """A folder with a finished evaluation `a`; workers share it."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "finished"
    folder.mkdir(exist_ok=True)
    models = ("fmnist-cnn-standard", "fmnist-cnn-pgd-at")
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "a" / "report.html").is_file():
            suite = content.find("suite", "quick-linf").read_text(encoding="utf-8")
            few = "points = 6\nimages = 3\nversions = 4\nfeatures = 50\nn_t = 10\nsteps = 2"
            text = re.sub(r"(?<=\[analysis\]\n).*?(?=\n\n)", few, suite, flags=re.DOTALL)
            (folder / "quick-linf.toml").write_text(text, encoding="utf-8")
            own = ("--suite", "quick-linf.toml", "--eps", "8/255")
            done = run("evaluate", *models, *own, "--n", 40, "--out", "a", cwd=folder)
            assert done.returncode == 0, done.stderr
    return folder


def test_report_compares_records(run, finished):
    done = run("report", "a", "--baseline", "fmnist-cnn-standard", "--out", "b", cwd=finished)
    assert done.returncode == 0, done.stderr
    facts = json.loads((finished / "b" / "comparison.json").read_text())
    assert [m["name"] for m in facts["models"]] == ["fmnist-cnn-pgd-at", "fmnist-cnn-standard"]
    assert "fmnist-cnn-pgd-at is more robust" in facts["summary"]
    page = (finished / "b" / "report.html").read_text()
    kinds = page[page.index('id="kinds"') : page.index('id="claims"')]
    # The samples are read from the data set that the records name: eight that gain rank, eight that lose.
    assert kinds.count("<img") == 16


def test_a_report_runs_nothing_that_a_record_names(run, finished, tmp_path):
    for name in ("fmnist-cnn-standard", "fmnist-cnn-pgd-at"):
        shutil.copytree(finished / "a" / "runs" / name, tmp_path / "runs" / name)
        header = tmp_path / "runs" / name / "header.json"
        facts = json.loads(header.read_text())
        facts["data"]["name"] = "trap.py:load"
        header.write_text(json.dumps(facts))
    (tmp_path / "trap.py").write_text("open('sprung', 'w')\ndef load():\n    raise SystemExit\n")
    done = run("report", "runs", "--out", "page", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "sprung").exists()
    assert 'id="kinds"' in (tmp_path / "page" / "report.html").read_text()


def test_show_describes_records_models_suites_and_attacks(run, finished):
    record = run("show", "a/runs/fmnist-cnn-pgd-at", cwd=finished)
    assert record.stdout.startswith("fmnist-cnn-pgd-at: ")
    assert "clean accuracy" in record.stdout
    header = json.loads(run("show", "a/runs/fmnist-cnn-pgd-at", "--json", cwd=finished).stdout)
    assert header["arguments"]["eps"] == "8/255"
    assert "sha256" in run("show", "fmnist-cnn-standard", cwd=finished).stdout
    assert json.loads(run("show", "quick-linf", "--json", cwd=finished).stdout)["norm"] == "linf"
    assert 'name = "fmnist-cnn-standard"' in run("show", "recipe/fmnist-cnn-standard", cwd=finished).stdout
    assert 'suite = "' not in run("show", "zoo/fmnist-cnn-standard", cwd=finished).stderr
    wrong = run("show", "pgdd", cwd=finished)
    assert wrong.returncode == 2
    assert "try" in wrong.stderr
    assert "pgd" in wrong.stderr


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("header.json", lambda raw: raw[:100]),
        ("header.json", lambda raw: raw.replace(b'"schema_version": 1', b'"schema_version": 99')),
        ("samples.parquet", lambda raw: raw[:200]),
        ("arrays.safetensors", lambda raw: raw[:20]),
    ],
)
def test_a_damaged_record_is_refused(run, finished, tmp_path, name, damage):
    shutil.copytree(finished / "a" / "runs" / "fmnist-cnn-standard", tmp_path / "run")
    file = tmp_path / "run" / name
    file.write_bytes(damage(file.read_bytes()))
    done = run("report", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "; try evaluating again" in done.stderr
    assert not (tmp_path / "report").exists()


def test_report_refuses_folders_without_records_and_unknown_baselines(run, finished, tmp_path):
    done = run("report", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "header.json" in done.stderr
    done = run("report", "a", "--baseline", "fmnist-cnn-standart", "--out", tmp_path / "r", cwd=finished)
    assert done.returncode == 2
    assert "fmnist-cnn-standard" in done.stderr
    assert not (tmp_path / "r").exists()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"")
    done = run("report", "a", "--out", tmp_path / "photos", cwd=finished)
    assert done.returncode == 2
    assert "expected a new, an empty or a report's folder" in done.stderr
    assert [f.name for f in (tmp_path / "photos").iterdir()] == ["cat.png"]


def test_models_meet_their_own_data_where_none_is_named(run, tmp_path):
    done = run(
        *("evaluate", "speech-cochcnn-standard", "--eps", "40dB", "--norm", "snr", "--n", 6, "--no-analyze"),
        cwd=tmp_path,
    )
    assert done.returncode in (0, 3), done.stderr  # the failure checks have few samples
    header = json.loads((tmp_path / "runs/quick-linf/runs/speech-cochcnn-standard/header.json").read_text())
    assert (header["data"]["name"], header["arguments"]["data"]) == ("spoken-words", "spoken-words")
    both = run("evaluate", "speech-cochcnn-standard", "fmnist-cnn-standard", cwd=tmp_path)
    assert both.returncode == 2
    told = "got speech-cochcnn-standard of spoken-words, fmnist-cnn-standard of fashion-mnist"
    assert f"expected models of one data set, {told}; try a command for each, or --data" in both.stderr
    looked = run("check", "speech-cochcnn-standard", cwd=tmp_path)
    assert looked.returncode == 0, looked.stderr


def test_a_radius_may_be_a_ratio_in_decibels(run, tmp_path):
    asked = (
        "evaluate",
        "fmnist-cnn-standard",
        "--suite",
        "quick-l2",
        "--norm",
        "snr",
        "--n",
        "4",
        "--no-analyze",
    )
    done = run(*asked, "--eps", "20dB", "--out", tmp_path / "out", cwd=tmp_path)
    assert "snr 20 dB" in done.stdout, done.stderr
    bad = run(*asked, "--eps", "20 Hz", "--out", tmp_path / "bad", cwd=tmp_path)
    assert bad.returncode == 2
    assert "expected a signal-to-noise ratio in dB, got '20 Hz'" in bad.stderr


def test_ls_lists_and_prints_json(run, tmp_path):
    for kind, name in (
        ("models", "fmnist-cnn-standard"),
        ("studies", "stochastic-audio"),
        ("suites", "quick-linf"),
        ("attacks", "apgd"),
        ("data", "fashion-mnist"),
    ):
        assert name in run("ls", kind, cwd=tmp_path).stdout
        rows = json.loads(run("ls", kind, "--json", cwd=tmp_path).stdout)
        assert name in [row["name"] for row in rows]


def test_ls_zoo_shows_the_cards_figures_at_80_columns(run, tmp_path):
    lines = run("ls", "zoo", cwd=tmp_path, COLUMNS="80").stdout.splitlines()
    assert lines[0] == "fashion-mnist: accuracy in %, clean and, with 95 % intervals, under attack"
    assert lines[1].split() == ["name", "trained", "clean", "linf", "8/255", "linf", "0.1"]
    (shown,) = (line for line in lines if line.startswith("fmnist-resnet-at "))
    rows = json.loads(run("ls", "zoo", "--json", cwd=tmp_path).stdout)
    assert len(lines) == len(rows) + 2 * len({row["data"] for row in rows})  # no line is folded
    (row,) = (row for row in rows if row["name"] == "fmnist-resnet-at")
    low, high = row["robust"]["linf 8/255"][1:]
    assert f"[{100 * low:.0f}, {100 * high:.0f}]" in shown
    assert row["clean"][1] < row["clean"][0] < row["clean"][2]
    (gated,) = (row for row in rows if row["name"] == "fmnist-gln")  # the zoo's own suite did not meet it
    assert set(gated["robust"]) == {"linf 8/255", "linf 0.1"}


def test_check_takes_models_through_the_door_and_validates_files(run, defense, finished):
    good = run("check", "my_defense.py:build", cwd=defense)
    assert good.returncode == 0
    assert "pass  gradients" in good.stdout
    bad = run("check", "my_defense.py:softmax", cwd=defense)
    assert bad.returncode == 2
    (defense / "suite.toml").write_text('name = "x"\n')
    bad = run("check", "suite.toml", cwd=defense)
    assert bad.returncode == 2
    assert "expected a valid suite" in bad.stderr
    assert run("check", finished / "a" / "runs" / "fmnist-cnn-standard", cwd=defense).returncode == 0
    blocked = run("check", "my_defense.py:blocked", cwd=defense)
    assert blocked.returncode == 3
    assert "fail  gradients" in blocked.stdout
    assert "next: attack a differentiable surrogate" in blocked.stdout


def test_one_bad_model_does_not_cost_the_others(run, defense):
    done = run(
        "evaluate",
        "my_defense.py:softmax",
        "fmnist-cnn-standard",
        "--n",
        32,
        "--eps",
        "8/255",
        "--no-analyze",
        cwd=defense,
    )
    assert done.returncode == 2
    assert "my_defense.py:softmax: expected logits" in done.stderr
    assert "fmnist-cnn-standard" in done.stdout
    assert [f.name for f in (defense / "runs" / "quick-linf" / "runs").iterdir()] == ["fmnist-cnn-standard"]


def test_packages_are_found_from_their_folder(defense):
    (defense / "pack").mkdir()
    (defense / "my_defense.py").rename(defense / "pack" / "nets.py")
    script = Path(sys.executable).with_name("robustgeom")
    done = subprocess.run([script, "check", "pack.nets:build"], cwd=defense, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_one_broken_card_is_named_and_the_rest_is_listed(run, tmp_path):
    from robustgeom import content

    for part in ("attacks", "zoo"):
        shutil.copytree(content.content_root() / part, tmp_path / "content" / part)
    (tmp_path / "content" / "zoo" / "fmnist-cnn-standard" / "card.toml").write_text("name =")
    place = {"ROBUSTGEOM_CONTENT": str(tmp_path / "content")}
    listed = run("ls", cwd=tmp_path, **place)
    assert listed.returncode == 0
    assert "expected a readable model" in listed.stderr
    assert "fmnist-cnn-pgd-at" in listed.stdout
    asked = run("doctor", cwd=tmp_path, **place)
    assert asked.returncode == 1
    assert "FAIL  content: expected a readable card.toml" in asked.stdout


def test_damaged_weights_are_refused(run, tmp_path):
    from robustgeom import content

    root = content.content_root()
    for part in ("attacks", "zoo"):
        shutil.copytree(root / part, tmp_path / "content" / part)
    weights = tmp_path / "content" / "zoo" / "fmnist-cnn-standard" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    done = run("evaluate", "fmnist-cnn-standard", cwd=tmp_path, ROBUSTGEOM_CONTENT=str(tmp_path / "content"))
    assert done.returncode == 2
    assert "expected weights with sha256" in done.stderr


def test_doctor_says_what_works(run, tmp_path):
    done = run("doctor", cwd=tmp_path)
    assert done.returncode == 0
    assert "ok    content" in done.stdout


def test_ctrl_c_leaves_finished_jobs_usable(run, start, tmp_path):
    options = ["--n", 500, "--no-analyze", "--out", "cut"]
    process = start("evaluate", "fmnist-cnn-pgd-at", *options, cwd=tmp_path)
    assert process.stderr is not None
    assert "about" in process.stderr.readline()  # what it will take
    assert "stand" in process.stderr.readline()  # the first job has finished
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    record = load_record(tmp_path / "cut" / "runs" / "fmnist-cnn-pgd-at")
    assert record.header.status == "interrupted"
    assert "interrupted" in out
    assert Path(tmp_path / "cut" / "report.html").is_file()
    done = run("report", "cut", "--out", "again", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
