"""`robustgeom analyze` as a person meets it."""

import json

import pyarrow.parquet as pq
import pytest

MODEL = """
import torch
from torch import nn

class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.front = nn.Sequential(nn.Flatten(), nn.Linear(784, 30), nn.ReLU())
        self.readout = nn.Linear(30, 10)
    def forward(self, x):
        return self.readout(self.front(x))

def build():
    return Mine().eval()
"""
QUICK = ["--n-images", 3, "--points", 4, "--features", 40, "--n-t", 10]


def test_a_users_own_model_by_its_own_module_names(run, tmp_path):
    (tmp_path / "my_model.py").write_text(MODEL)
    kinds = ["--manifolds", "class,attack, noise", "--eps", "8/255", "--out", "found"]
    done = run("analyze", "my_model.py:build", "--stages", "front.1,readout", *kinds, *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("my_model on fashion-mnist (eval); attacks in linf 8/255; 10 probes")
    assert "attack: 3 manifolds of 4 points; capacity floor 0.5" in lines
    assert sum(line.startswith("front.1 ") for line in lines) == 4  # three conditions, and attack over noise
    assert lines[-1] == "found"
    assert done.stderr.count("my_model: ") == 3  # one line a condition
    table = pq.read_table(tmp_path / "found" / "geometry.parquet")
    assert set(table["stage"].to_pylist()) == {"input", "front.1", "readout", "logits"}
    facts = json.loads((tmp_path / "found" / "analysis.json").read_text())
    assert facts["model"]["reference"] == "my_model.py:build"

    again = run("analyze", "my_model.py:build", "--out", "found", cwd=tmp_path)
    assert again.returncode == 2
    assert "expected a folder that does not exist yet, got found" in again.stderr
    assert again.stdout == ""


HEARING = """
from robustgeom.models.cochlear import CochlearNet

def build():
    return CochlearNet(back_end="pooled_cnn").eval()
"""


def test_a_ratio_is_told_with_the_ball_that_was_searched(run, tmp_path):
    (tmp_path / "hearing.py").write_text(HEARING)
    asked = ["--data", "spoken-words", "--manifolds", "attack", "--norm", "snr", "--eps", "20dB"]
    done = run("analyze", "hearing.py:build", "--stages", "conv", *asked, *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # A clip of 8,000 samples with a root mean square of 0.1 has the norm 8.94.
    told = " ".join(done.stdout.split())
    assert "attacks in l2 0.89" in told
    assert ", 20 dB below a clip of median norm; 10 probes" in told


def test_json_goes_to_stdout_alone(run, tmp_path):
    done = run("analyze", "fmnist-cnn-standard", "--stages", "conv1", "--json", *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["model"]["name"] == "fmnist-cnn-standard"
    assert found["arguments"]["manifolds"] == ["class"]
    assert {row["stage"] for row in found["rows"]} == {"input", "conv1", "logits"}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fmnist-cnn-standard", "--geometry", "capcity"], "try capacity"),
        (["fmnist-cnn-standard", "--manifolds", "class,atack"], "try attack"),
        (["fmnist-cnn-standard", "--manifolds", ","], "expected manifolds as a list of names"),
        (["fmnist-cnn-standard", "--stages", "conv3"], "try conv2, conv1"),
        (["fmnist-cnn-standard", "--manifolds", "own-noise"], "expected a network with noise for own-noise"),
        (["fmnist-cnn-standard", "--manifolds", "attack", "--eps", "8"], "try --eps 8/255"),
        (["fmnist-cnn-standard", "--norm", "l7"], "got 'l7'"),
        (["fmnist-cnn-standard", "--points", "1"], "expected points >= 2"),
        (["fmnist-cnn-standard", "--out", "taken/notes.txt/x"], "place that can be written"),
    ],
)
def test_mistakes_end_in_one_message(run, tmp_path, arguments, said):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    done = run("analyze", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert done.stdout == ""
    assert [f.name for f in tmp_path.iterdir()] == ["taken"]
