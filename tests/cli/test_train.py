"""`robustgeom train`: from a recipe to a zoo folder that loads, evaluates and keeps its promises."""

import fcntl
import json
import signal
from pathlib import Path

import pytest
import torch

from robustgeom import content
from robustgeom.models.card import parse_card
from robustgeom.models.load import load_model
from robustgeom.stats import wilson

pytestmark = pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(), reason="needs the package dataset-fashion-mnist"
)

RECIPE = """
name = "tiny"
family = "tiny"
[architecture]
name = "pooled_cnn"
arguments = { widths = [8, 16, 16] }
[objective]
name = "standard"
[optimiser]
epochs = 2
"""


def arguments(folder, recipe="tiny.toml", out="tiny"):
    return ["train", recipe, "--out", folder / out]


def test_a_cut_run_goes_on_and_ends_in_a_zoo_folder(run, start, tmp_path):
    (tmp_path / "tiny.toml").write_text(RECIPE)
    with start(*arguments(tmp_path), cwd=tmp_path) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("tiny: epoch 1 of 2: loss ")
        process.send_signal(signal.SIGINT)
        assert process.stderr.read().strip() == "interrupted"
    assert process.returncode == 130
    assert not (tmp_path / "tiny").exists()
    assert len((tmp_path / "tiny.jsonl").read_text().splitlines()) == 1
    done = run(*arguments(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "epoch 1" not in done.stderr
    assert "tiny: epoch 2 of 2" in done.stderr
    card = parse_card(tmp_path / "tiny" / "card.toml")
    facts = json.loads((tmp_path / "tiny" / "expected.json").read_text())
    assert (card.family, card.training.epochs, card.training.objective) == ("tiny", 2, "standard")
    assert facts["test_correct"] > 7_000
    assert {f.name for f in tmp_path.iterdir()} == {"tiny", "tiny.toml"}
    assert load_model(str(tmp_path / "tiny"))(torch.zeros(1, 1, 28, 28)).shape == (1, 10)
    again = run(*arguments(tmp_path), cwd=tmp_path)
    assert again.returncode == 2
    assert "does not exist yet" in again.stderr


def test_a_family_leaves_alone_what_is_there_and_what_another_process_trains(run, tmp_path):
    (tmp_path / "all.toml").write_text(
        f"{RECIPE}[[models]]\nname = 'one'\nseeds = 2\n[[models]]\nname = 'two'\n"
    )
    for name in ("one", "two"):
        (tmp_path / "zoo" / name).mkdir(parents=True)
    with (tmp_path / "zoo" / "one-s1.lock").open("w") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        done = run(*arguments(tmp_path, "all.toml", "zoo"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    first, second, third = done.stderr.splitlines()
    assert (first, third) == ("one: there already", "two: there already")
    assert second.startswith("one-s1: expected a folder of our own, got one that another process trains")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("epochs = 2", "epochs = 0"), "optimiser.epochs"),
        (('name = "pooled_cnn"', 'name = "rnn"'), "unknown architecture 'rnn'"),
        (("[optimiser]", "[optimizer]"), "got the unknown field 'optimizer' in tiny.toml; try optimiser"),
        (
            ("widths = [8, 16, 16]", "size = 28, classes = 7"),
            "and tells 10 classes, got pooled_cnn with outputs (7,)",
        ),
        (("epochs = 2", "epochs = "), "expected a readable recipe.toml"),
    ],
)
def test_bad_recipes_end_in_one_message(run, tmp_path, change, said):
    (tmp_path / "tiny.toml").write_text(RECIPE.replace(*change))
    done = run(*arguments(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_device_that_is_not_there_leaves_nothing_behind(run, tmp_path):
    (tmp_path / "tiny.toml").write_text(RECIPE)
    done = run(*arguments(tmp_path), "--device", "gpu", cwd=tmp_path)
    assert done.returncode == 2
    assert "expected a device that this machine has, got 'gpu'" in done.stderr
    assert [f.name for f in tmp_path.iterdir()] == ["tiny.toml"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_training_a_zoo_model_again_gives_its_accuracy(run, tmp_path):
    folder = content.find("model", "fmnist-vone-off").parent
    done = run(*arguments(tmp_path, folder / "recipe.toml", "again"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    promised, found = (json.loads((f / "expected.json").read_text()) for f in (folder, tmp_path / "again"))
    stated = wilson(promised["test_correct"], promised["test_n"])
    assert stated.low <= found["test_correct"] / found["test_n"] <= stated.high
