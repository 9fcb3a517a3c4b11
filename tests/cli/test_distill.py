"""`robustgeom distill`: from a teacher to a student and the page that compares them."""

import json
from pathlib import Path

import pytest

from robustgeom.models.card import parse_card
from robustgeom.training.distill import companions, distillation, untaught

STUDENT = """
name = "tiny"
family = "tiny"
[architecture]
name = "pooled_cnn"
arguments = { widths = [4, 8, 8] }
[objective]
name = "standard"
[optimiser]
epochs = 1
batch_size = 500
"""
SUITE = """
name = "glance-linf"
version = 1
description = "One attack, to see the page."
norm = "linf"
n = 40
radii = "headlines"
[[attacks]]
name = "fgsm"
attack = "fgsm"
[analysis]
points = 4
images = 4
versions = 4
features = 50
n_t = 10
steps = 2
"""
TEACHER = ("--teacher", "fmnist-cnn-pgd-at")


ASKED = (*TEACHER, "--student", "tiny.toml", "--method", "kd_clean", "--set", "temperature=2")
ASKED += ("--manipulate", "scale:by=0.5", "--manipulate", "top_k:k=3", "--suite", "glance-linf.toml")
trained = pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(), reason="needs the package dataset-fashion-mnist"
)


@pytest.fixture
def distilled(run, tmp_path):
    def distil(*more):
        (tmp_path / "tiny.toml").write_text(STUDENT)
        (tmp_path / "glance-linf.toml").write_text(SUITE)
        done = run("distill", *ASKED, *more, "--out", "student", cwd=tmp_path)
        assert done.returncode in (0, 3), done.stderr  # so short an attack may fail a check
        headers = (tmp_path / "student-page" / "runs").glob("*/header.json")
        return done.stderr, {h.parent.name: json.loads(h.read_text())["model"] for h in headers}

    return distil


@trained
def test_a_student_and_the_page_that_compares_it(distilled, tmp_path):
    said, models = distilled("--against", "fmnist-cnn-standard")
    told = said.splitlines()
    assert told[0].startswith("student: taught by fmnist-cnn-pgd-at, right on 8")
    assert any(line.startswith("student: epoch 1 of 1: loss ") for line in told)
    card = parse_card(tmp_path / "student" / "card.toml")
    done = ["scale:by=0.5", "top_k:k=3"]
    assert (card.teacher.model, card.teacher.manipulations) == ("fmnist-cnn-pgd-at", done)
    assert (card.training.objective, card.threat) == ("kd_clean", "none")
    assert set(models) == {"fmnist-cnn-pgd-at", "fmnist-cnn-standard", "student"}
    assert [name for name, m in models.items() if m["teacher"]] == ["student"]
    assert models["student"]["teacher"] == {
        "model": "fmnist-cnn-pgd-at",
        "digest": models["fmnist-cnn-pgd-at"]["digest"],
        "other": "",
        "other_digest": "",
        "settings": "temperature=2",
        "manipulations": done,
    }
    page = (tmp_path / "student-page" / "report.html").read_text()
    assert "tiny taught by fmnist-cnn" in page
    again, _ = distilled("--against", "fmnist-cnn-standard")
    assert [line.partition(": ")[2] for line in again.splitlines()] == ["there already"] * 2


@pytest.mark.slow
@trained
def test_a_student_that_nothing_is_like_gets_a_twin_without_a_teacher(distilled, tmp_path):
    said, models = distilled()
    assert "student-untaught: epoch 1 of 1: loss " in said
    alone = parse_card(tmp_path / "student-untaught" / "card.toml")
    assert (alone.teacher, alone.training.objective) == (None, "standard")
    assert set(models) == {"fmnist-cnn-pgd-at", "student-untaught", "student"}


BAD = {
    "known method, got 'rslat'; try rslad": ("--method", "rslat"),
    "known student, got 'cn'; try cnn": ("--student", "cn"),
    "unknown manipulation 'permute'": ("--manipulate", "permute"),
    "expected NAME=VALUE, got 'steps'; try steps=5": ("--set", "steps"),
    "unknown argument of rslad 'step'": ("--set", "step=5"),
    "no radius, as kd_clean perturbs no inputs": ("--method", "kd_clean", "--eps", "8/255"),
    "match_gap compares two networks, got no teacher.other": ("--manipulate", "match_gap"),
}


@pytest.mark.parametrize("said", BAD)
def test_what_cannot_be_distilled_is_refused_before_training(run, tmp_path, said):
    done = run("distill", *TEACHER, "--student", "cnn", *BAD[said], "--out", "s", cwd=tmp_path)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert not list(tmp_path.iterdir())


def test_the_student_is_trained_like_the_network_that_is_named():
    found = distillation(
        "fmnist-resnet-pgd-at", "fmnist-cnn-standard", name="s", eps="8/255", epochs=3, lr=0.02
    )
    assert (found.objective.name, found.objective.norm) == ("rslad", "linf")
    assert found.objective.eps == pytest.approx(8 / 255)
    optimiser = found.optimiser
    assert (optimiser.epochs, optimiser.lr, optimiser.batch_size, found.family) == (
        3,
        0.02,
        256,
        "fmnist-cnn",
    )
    assert (found.augmentation.shift, found.teacher.model) == (1, "fmnist-resnet-pgd-at")
    assert companions(found) == ["fmnist-cnn-pgd-at", "fmnist-cnn-standard"]
    alone = untaught(found, "alone")
    assert (alone.objective.name, alone.objective.eps, alone.teacher) == ("pgd_at", found.objective.eps, None)


def test_an_architecture_is_sized_to_the_data():
    found = distillation("fmnist-cnn-pgd-at", "preact_resnet", name="s")
    assert found.architecture.arguments == {"classes": 10, "channels": 1, "size": 28}
    assert companions(found) == []
    heard = distillation("speech-cochcnn-standard", "cochlear", name="s", method="kd_clean")
    assert heard.architecture.arguments == {"classes": 20, "samples": 8000, "rate": 8000}
    assert (heard.data, heard.augmentation.flip) == ("spoken-words", False)
