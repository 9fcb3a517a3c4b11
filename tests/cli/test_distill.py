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


@pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(), reason="needs the package dataset-fashion-mnist"
)
def test_a_student_its_twin_without_a_teacher_and_their_page(run, tmp_path):
    (tmp_path / "tiny.toml").write_text(STUDENT)
    (tmp_path / "glance-linf.toml").write_text(SUITE)
    asked = (*TEACHER, "--student", "tiny.toml", "--method", "kd_clean", "--set", "temperature=2")
    asked += ("--manipulate", "scale:by=0.5", "--manipulate", "top_k:k=3", "--suite", "glance-linf.toml")
    done = run("distill", *asked, "--out", "student", cwd=tmp_path)
    assert done.returncode in (0, 3), done.stderr  # so short an attack may fail a check
    told = done.stderr.splitlines()
    assert told[0].startswith("student: taught by fmnist-cnn-pgd-at, right on 8")
    assert any(line.startswith("student: epoch 1 of 1: loss ") for line in told)
    assert any(line.startswith("student-untaught: epoch 1 of 1: loss ") for line in told)
    card = parse_card(tmp_path / "student" / "card.toml")
    assert (card.teacher.model, card.teacher.manipulations) == (
        "fmnist-cnn-pgd-at",
        ["scale:by=0.5", "top_k:k=3"],
    )
    assert (card.training.objective, card.threat) == ("kd_clean", "none")
    alone = parse_card(tmp_path / "student-untaught" / "card.toml")
    assert (alone.teacher, alone.training.objective) == (None, "standard")
    headers = (tmp_path / "student-page" / "runs").glob("*/header.json")
    models = {h.parent.name: json.loads(h.read_text())["model"] for h in headers}
    assert {name for name, m in models.items() if m["teacher"] is None} == {
        "fmnist-cnn-pgd-at",
        "student-untaught",
    }
    assert models["student"]["teacher"] == {
        "model": "fmnist-cnn-pgd-at",
        "digest": models["fmnist-cnn-pgd-at"]["digest"],
        "other": "",
        "other_digest": "",
        "settings": "temperature=2",
        "manipulations": ["scale:by=0.5", "top_k:k=3"],
    }
    assert (tmp_path / "student-page" / "report.html").is_file()
    again = run("distill", *asked, "--out", "student", cwd=tmp_path)
    assert "student: there already" in again.stderr
    assert "epoch" not in again.stderr


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
    found = distillation("fmnist-resnet-pgd-at", "fmnist-cnn-standard", name="s", eps="8/255", epochs=3)
    assert (found.objective.name, found.objective.norm) == ("rslad", "linf")
    assert found.objective.eps == pytest.approx(8 / 255)
    assert (found.optimiser.epochs, found.optimiser.batch_size, found.family) == (3, 256, "fmnist-cnn")
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
