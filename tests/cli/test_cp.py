"""`robustgeom cp`: copies that work where they land, and nothing overwritten or half-copied."""

import hashlib
import subprocess
import sys

import pytest
import tomli_w

from robustgeom import content
from robustgeom.cli.main import main
from robustgeom.models.card import read_card
from robustgeom.models.load import load_model, model_digest
from robustgeom.records import load_record

NAME = "fmnist-cnn-standard"
ONE_STEP = """
name = "one-step"
version = 1
description = "One attack of one step."
norm = "linf"
attacks = [{ name = "fgsm", attack = "fgsm" }]
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """The command line in a folder of its own: arguments in, exit code and both streams out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["robustgeom", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, end.value.code, said.out, said.err)

    return call


def test_a_process_of_its_own_copies(tmp_path):
    command = [sys.executable, "-m", "robustgeom", "cp", f"zoo/{NAME}", "mine"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"mine/{NAME}\n", "")
    assert files(tmp_path / "mine" / NAME) == files(content.find("model", NAME).parent)


def files(folder):
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}


def test_a_copied_model_is_evaluated_and_verified_like_the_zoos(run, tmp_path):
    assert run("cp", f"zoo/{NAME}", "mine").returncode == 0
    (tmp_path / "mine" / NAME).rename(tmp_path / "mine" / "other")
    (tmp_path / "one-step.toml").write_text(ONE_STEP)
    options = ("--n", 4, "--eps", "8/255", "--no-analyze", "--out", "run")
    done = run("evaluate", "mine/other", "--suite", "one-step.toml", *options)
    assert done.returncode in (0, 3), done.stderr
    record = load_record(tmp_path / "run" / "runs" / "other")
    model = record.header.model
    assert (model.name, model.reference, model.family) == ("other", "other", "fmnist-cnn")
    assert model.digest == model_digest(load_model(NAME))
    assert model.stages == [*load_model(NAME).stages, "logits"]
    done = run("verify", "run/runs/other", "--model", tmp_path / "mine" / "other")
    assert done.returncode == 0, done.stderr


def test_suites_and_recipes_are_copied_as_files_that_their_readers_take(run):
    for name, file, kind in (
        ("suite/quick-linf", "quick-linf.toml", "suite"),
        ("quick-l2", "quick-l2.toml", "suite"),
        (f"recipe/{NAME}", f"{NAME}.toml", "recipe"),
    ):
        done = run("cp", name, "new/folder")
        assert done.stdout == f"new/folder/{file}\n"
        checked = run("check", f"new/folder/{file}")
        assert checked.stdout == f"new/folder/{file}: a valid {kind}\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("epochs =", "epoks ="), "got the unknown field 'optimiser.epoks' in mine.toml; try epochs"),
        (("arguments]", "arguments]\nclasses = 3"), r"and tells 10 classes, got cnn with outputs (3,)"),
        (
            ("arguments]", "arguments]\nsize = 32"),
            "that takes inputs (1, 28, 28) and tells 10 classes, got cnn: R",
        ),
        (("shift = 1", "shift = 28"), "that leave something of (1, 28, 28), got augmentation.shift = 28"),
        (
            ('"standard"', '"pgd_at"\neps = 10.0'),
            "a linf radius within the domain [0, 1], got objective.eps = 10",
        ),
        (("epochs =", "epochs = ="), "expected a readable .toml file, got mine.toml: "),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_told_from_a_suite_and_refused(run, tmp_path, change, said):
    text = content.find("model", NAME).with_name("recipe.toml").read_text()
    assert change[0] in text.partition("family")[2]
    head, _, rest = text.partition("family")
    (tmp_path / "mine.toml").write_text(f"{head}family{rest.replace(*change, 1)}")
    done = run("check", "mine.toml")
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize("name", ["family", "speech"])
def test_the_zoos_families_are_valid(run, name):
    path = content.content_root() / "zoo" / f"{name}.toml"
    assert run("check", path).stdout == f"{path}: a valid family of recipes\n"


@pytest.mark.parametrize("name", [f"zoo/{NAME}", "suite/quick-linf", f"recipe/{NAME}"])
def test_nothing_is_overwritten(run, tmp_path, name):
    first = run("cp", name, ".")
    target = tmp_path / first.stdout.strip()
    edited = target / "card.toml" if target.is_dir() else target
    edited.write_text("edited")
    second = run("cp", name, ".")
    assert second.returncode == 2
    assert "expected a place that is free" in second.stderr
    assert edited.read_text() == "edited"


@pytest.mark.parametrize(
    ("name", "dest", "said"),
    [
        ("zoo/fmnist-cnn-standart", ".", "try fmnist-cnn-standard"),
        ("quik-linf", ".", "try suite/quick-linf"),
        (f"zoo/{NAME}", "file", "expected a place that can be written"),
        (f"recipe/{NAME}", "file", "expected a place that can be written"),
    ],
)
def test_mistakes_end_in_one_message_and_leave_nothing(run, tmp_path, name, dest, said):
    (tmp_path / "file").write_text("")
    done = run("cp", name, dest)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_meant_only_where_the_zoo_has_no_such_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).mkdir()
    card = read_card(NAME).model_dump(mode="json", exclude_none=True) | {"family": "edited"}
    (tmp_path / NAME / "card.toml").write_text(tomli_w.dumps(card))
    assert read_card(NAME).family == "fmnist-cnn"
    assert read_card(f"./{NAME}").family == "edited"


def test_damaged_folders_are_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    run("cp", NAME, ".")
    weights = tmp_path / NAME / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    for reference, said in (
        ("./empty", "expected a folder with card.toml and weights, got no ./empty/card.toml"),
        ("no/such", "expected a folder with card.toml and weights, got no no/such/card.toml"),
        (f"./{NAME}", "expected weights with sha256"),
    ):
        done = run("evaluate", reference, "--n", 4)
        assert done.returncode == 2
        assert said in done.stderr
