"""`robustgeom train`: from a recipe to a zoo folder that loads, evaluates and keeps its promises."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from robustgeom import content
from robustgeom.models.card import parse_card

pytestmark = pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(), reason="needs the package dataset-fashion-mnist"
)

RECIPE = """
name = "tiny"
family = "tiny"
[architecture]
name = "cnn"
[objective]
name = "standard"
[optimiser]
epochs = 2
"""


def command(folder, recipe="tiny.toml", out="tiny"):
    return [sys.executable, "-m", "robustgeom", "train", str(recipe), "--out", str(folder / out)]


def test_a_cut_run_goes_on_and_ends_in_a_zoo_folder(tmp_path):
    (tmp_path / "tiny.toml").write_text(RECIPE)
    with subprocess.Popen(command(tmp_path), cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("epoch 1 of 2")
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "tiny").exists()
    done = subprocess.run(command(tmp_path), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "epoch 1" not in done.stderr
    assert "epoch 2 of 2" in done.stderr
    card = parse_card(tmp_path / "tiny" / "card.toml")
    facts = json.loads((tmp_path / "tiny" / "expected.json").read_text())
    assert card.family == "tiny"
    assert facts["test_correct"] > 7_000
    assert not (tmp_path / "tiny.checkpoint").exists()
    again = subprocess.run(command(tmp_path), cwd=tmp_path, capture_output=True, text=True)
    assert again.returncode == 2
    assert "does not exist yet" in again.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("epochs = 2", "epochs = 0"), "optimiser.epochs"),
        (('name = "cnn"', 'name = "rnn"'), "architecture.name"),
        (("[optimiser]", "[optimizer]"), "expected a valid recipe"),
        (("epochs = 2", "epochs = "), "expected a readable recipe.toml"),
    ],
)
def test_bad_recipes_end_in_one_message(tmp_path, change, said):
    (tmp_path / "tiny.toml").write_text(RECIPE.replace(*change))
    done = subprocess.run(command(tmp_path), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_training_a_zoo_model_again_gives_its_accuracy(tmp_path):
    folder = content.find("model", "fmnist-cnn-standard").parent
    run = command(tmp_path, folder / "recipe.toml", "again")
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    promised, found = (json.loads((f / "expected.json").read_text()) for f in (folder, tmp_path / "again"))
    assert abs(promised["test_correct"] - found["test_correct"]) <= 60
