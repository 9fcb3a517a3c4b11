"""Teachers: what they say of a batch, who is refused, and students that learn from them."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from robustgeom.errors import ContentError, InputError
from robustgeom.training import loop as loop_module
from robustgeom.training.loop import fit
from robustgeom.training.manipulations import MANIPULATIONS
from robustgeom.training.recipe import Recipe, read_recipe
from robustgeom.training.run import Run
from robustgeom.training.teacher import lessons, lineage

spec = importlib.util.spec_from_file_location("loop_toys", Path(__file__).with_name("test_training_loop.py"))
toys = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toys)

THREAT = {"norm": "linf", "eps": 0.1}
TEACHER = """
import torch
from torch import nn

class Bars(nn.Module):
    def __init__(self, classes=3, gain=30.0):
        super().__init__()
        rows = torch.zeros(classes, 8, 8)
        for label in range(classes):
            rows[label, 3 * label % 8 : 3 * label % 8 + 2] = gain / 16
        self.rows = nn.Parameter(rows.flatten(1))

    def forward(self, x):
        return x.flatten(1) @ self.rows.T

def build(): return Bars().eval()
def rough(): return Bars(gain=3.0).eval()
def four(): return Bars(4).eval()
def probabilities(): return nn.Sequential(Bars(), nn.Softmax(1)).eval()
def broken():
    model = Bars()
    model.rows.data[:] = torch.nan
    return model.eval()
def large(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 3)).eval()
def clueless():
    model = Bars()
    model.rows.data[:] = 0
    return model.eval()
"""


@pytest.fixture
def teacher(tmp_path):
    (tmp_path / "teachers.py").write_text(TEACHER)
    return str(tmp_path / "teachers.py")


def recipe(objective, reference, manipulations=(), other="", **sections):
    asked = {"model": reference, "other": other, "manipulations": list(manipulations)}
    return toys.recipe(objective=objective, teacher=asked, **sections)


def clean(**arguments):
    return {"name": "kd_clean", "arguments": arguments}


def robust(name="rslad"):
    return {"name": name, **THREAT, "arguments": {"steps": 2}}


def test_manipulations_follow_one_another_and_go_by_what_those_before_have_left(teacher):
    chain = [{"name": "scale", "arguments": {"by": 0.5}}, {"name": "class_mean"}, {"name": "uniform_rest"}]
    found = lessons(recipe(clean(), f"{teacher}:build", chain), toys.DATA, "cpu")
    told = found.about(toys.HELD.labels, 0)(toys.HELD.inputs)
    with torch.no_grad():
        seen, asked = (found.network(data.inputs) * 0.5 for data in (toys.DATA, toys.HELD))
    by_hand = MANIPULATIONS["uniform_rest"](MANIPULATIONS["class_mean"](asked, reference=seen))
    torch.testing.assert_close(told, by_hand)


def test_two_networks_are_compared_on_the_same_rows(teacher):
    asked = [{"name": "match_gap"}, {"name": "other_order"}]
    found = lessons(recipe(clean(), f"{teacher}:build", asked, f"{teacher}:rough"), toys.DATA, "cpu")
    x = toys.HELD.inputs
    with torch.no_grad():
        ours, theirs = found.network(x), found.other(x)
    torch.testing.assert_close(
        found.about(toys.HELD.labels, 0)(x), theirs
    )  # the second is a tenth of the first
    assert not torch.allclose(ours, theirs)


def test_a_teacher_says_the_same_all_through_a_step_and_draws_afresh_in_the_next(teacher):
    asked = [{"name": "permute_rest", "arguments": {"per": "sample"}}]
    found = lessons(recipe(clean(), f"{teacher}:build", asked), toys.DATA, "cpu")
    first, again, other = (found.about(toys.HELD.labels, seed)(toys.HELD.inputs) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not any(p.requires_grad for p in found.network.parameters())


def test_a_student_says_what_its_teacher_says(teacher):
    long = {"epochs": 12, "batch_size": 10, "lr": 0.05}
    taught = fit(recipe(clean(), f"{teacher}:rough", optimiser=long), toys.DATA, toys.HELD).model
    plain = fit(toys.recipe(optimiser=long), toys.DATA, toys.HELD).model
    network = lessons(recipe(clean(), f"{teacher}:rough"), toys.DATA, "cpu").network
    with torch.no_grad():
        said = network(toys.HELD.inputs).softmax(1)
        ours, theirs = ((m(toys.HELD.inputs).softmax(1) - said).abs().mean() for m in (taught, plain))
    assert ours < theirs / 2


@pytest.mark.parametrize("name", ["adaad", "ard", "iad", "rslad"])
def test_a_taught_run_that_was_cut_off_ends_as_if_it_had_not_been(name, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(loop_module, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    asked = [{"name": "permute_rest", "arguments": {"per": "sample"}}]
    one = recipe(robust(name), f"{teacher}:build", asked, validation={"images": 10, "steps": 2})
    whole = fit(one, toys.DATA, toys.HELD)
    with pytest.raises(toys.Cut):
        fit(one, toys.DATA, toys.HELD, checkpoint=tmp_path / "state", tick=toys.cut_at(4))
    assert toys.same(fit(one, toys.DATA, toys.HELD, checkpoint=tmp_path / "state").model, whole.model)
    with pytest.raises(toys.Cut):
        fit(one, toys.DATA, toys.HELD, checkpoint=tmp_path / "new", tick=toys.cut_at(4))
    other = recipe(robust(name), f"{teacher}:rough", asked, validation={"images": 10, "steps": 2})
    with pytest.raises(ContentError, match="recipe"):
        fit(other, toys.DATA, toys.HELD, checkpoint=tmp_path / "new")


def test_a_teacher_is_graded_on_validation_images_clean_and_under_the_attack(teacher):
    told = lineage(recipe(robust(), f"{teacher}:build"), toys.DATA, toys.HELD, "cpu")
    assert told.accuracy == 1
    assert 0.8 < told.robust_accuracy <= 1
    assert told.model == "teachers.py:build"
    assert (told.other, told.manipulations) == ("", [])
    assert lineage(recipe(clean(), f"{teacher}:build"), toys.DATA, toys.HELD, "cpu").robust_accuracy is None
    assert lineage(toys.recipe(), toys.DATA, toys.HELD, "cpu") is None


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("four", "expected 3 logits, one a class, got 4"),
        ("probabilities", r"a teacher that returns logits, got .*probabilities; try removing"),
        ("broken", "finite float logits"),
        ("large", r"a teacher that takes inputs \(1, 8, 8\), got .*teachers.py:large"),
    ],
)
def test_teachers_that_do_not_fit_are_refused_before_the_first_step(teacher, reference, said):
    with pytest.raises(InputError, match=said):
        Run(recipe(clean(), f"{teacher}:{reference}"), toys.DATA, toys.HELD, "cpu")


def test_teachers_that_know_nothing_or_fall_are_refused(teacher):
    said = "a teacher that is right more often than by chance, got 33.3 % of 30 validation samples"
    with pytest.raises(InputError, match=said):
        lineage(recipe(clean(), f"{teacher}:clueless"), toys.DATA, toys.HELD, "cpu")
    weak = recipe({**robust(), "eps": 0.9}, f"{teacher}:build")
    with pytest.raises(
        InputError, match=r"under attack a teacher .*; try an adversarially trained one, or kd_clean"
    ):
        lineage(weak, toys.DATA, toys.HELD, "cpu")


BAD = {
    "kd_clean takes a teacher, got none": {"objective": clean()},
    "standard takes no teacher, got t": {"teacher": {"model": "t"}},
    "unknown manipulation 'permute'": {"manipulations": [{"name": "permute"}]},
    "unknown argument of scale 'times'": {"manipulations": [{"name": "scale", "arguments": {"times": 2}}]},
    "top_k cannot do with these: expected 1 <= k < 10, got 10": {
        "manipulations": [{"name": "top_k", "arguments": {"k": 10}}]
    },
    "match_gap compares two networks, got no teacher.other": {"manipulations": [{"name": "match_gap"}]},
    "no manipulation takes teacher.other, got 'u'": {"other": "u"},
    "should have at least 1 character": {"model": ""},
}


@pytest.mark.parametrize("said", BAD)
def test_recipes_that_cannot_teach_are_refused_with_the_reason(said):
    given = BAD[said]
    whole = {"objective": clean(), "teacher": {"model": "t", **given}}
    if "objective" in given or "teacher" in given:
        whole = given
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        Recipe.model_validate({**toys.BASE, **whole})


def test_a_recipe_with_a_teacher_is_read_from_a_file(tmp_path):
    (tmp_path / "recipe.toml").write_text(
        """
name = "student"
family = "toys"

[architecture]
name = "cnn"

[objective]
name = "kd_clean"
arguments = { temperature = 2.0 }

[teacher]
model = "fmnist-cnn-pgd-at"
other = "fmnist-cnn-standard"
manipulations = [{ name = "scale", arguments = { by = 0.25 } }, { name = "other_order" }]

[optimiser]
epochs = 1
"""
    )
    found = read_recipe(tmp_path / "recipe.toml")
    assert found.teacher.model == "fmnist-cnn-pgd-at"
    assert [(m.name, m.arguments) for m in found.teacher.manipulations] == [
        ("scale", {"by": 0.25}),
        ("other_order", {}),
    ]


def test_a_noisy_teacher_repeats_within_a_step():
    asked = Recipe.model_validate(
        {**toys.BASE, "objective": clean(), "teacher": {"model": "fmnist-cnn-gaussian"}}
    )
    from robustgeom.data.load import load_dataset

    data = load_dataset("fashion-mnist", split="eval").take(torch.arange(8))
    found = lessons(asked, data, "cpu")
    first, again, other = (found.about(data.labels, seed)(data.inputs) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert isinstance(found.network, nn.Module)
