"""The study of logits: teachers, and students taught by them with their logits manipulated, three seeds of each.

`python benchmarks/logit_study.py MODELS RUNS` trains every network into the folder MODELS (about 400 MB) and evaluates
it into RUNS, leaving what is there; a command that was cut off goes on, and several share the work. The teachers of
seed 0 are the zoo's. Then `robustgeom report RUNS --baseline fmnist-cnn-standard --out reports/logits` writes the page.
On two cores it takes about four hours. `--plan` lists the networks.
"""

import fcntl
import sys
import time
from argparse import ArgumentParser
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

import robustgeom as rg
from robustgeom.models.card import card_file
from robustgeom.training.distill import distillation
from robustgeom.training.recipe import Manipulation, read_recipe
from robustgeom.training.spelling import read_manipulation
from robustgeom.training.train import Hooks, train

SEEDS = (0, 1, 2)
STANDARD, ROBUST = "fmnist-cnn-standard", "fmnist-cnn-pgd-at"
EPOCHS = 8
SUITE = "students-linf"

# What students of either teacher are taught: manipulations, and whether they compare with the other teacher.
LESSONS = {
    ROBUST: (
        "",
        "one_hot",
        "uniform_rest",
        "permute_rest",
        "reverse_rest",
        "smoothed_label",
        "mean_profile",
        "swap_profiles",
        "class_mean",
        "class_gaussian",
        "other_order",
        "scale:by=0.25",
        "top_k:k=3",
        "uniform_rest:keep=gap",
        "match_gap",
    ),
    STANDARD: ("", "match_gap", "match_gap_distribution", "other_order"),
}
ATTACKING = {"steps": 3, "step_size": 0.05}
METHODS = {
    "rslad": {},
    "ard": {"lr": 0.03},
    "adaad": {},
}  # ard's loss is quadratic in the logits and diverges at 0.1
SPELLED = str.maketrans({"_": "-", ":": "-", "=": "-", ".": None})


@dataclass(frozen=True)
class Network:
    """One network of the study: its recipe, or what makes it, and the networks it needs first."""

    name: str
    recipe: object
    needs: tuple[str, ...] = ()
    analyze: bool = False


def suffixed(name, seed):
    """Return the name of a seed, as in the zoo."""
    return f"{name}-s{seed}" if seed else name


def again(model, **changes):
    """Return a zoo model's recipe with changes to its top level and its objective."""
    recipe = read_recipe(card_file(model).with_name("recipe.toml"))
    fields = recipe.model_dump(exclude_none=True)
    objective = fields["objective"] | changes.pop("objective", {})
    return type(recipe).model_validate({**fields, "objective": objective, **changes})


def teachers(seed):
    """Return both teachers of a seed."""
    for base in (STANDARD, ROBUST):
        name = suffixed(base, seed)
        yield Network(name, again(base, name=name, seed=seed), analyze=True)


def radii():
    """Return networks trained adversarially at smaller radii."""
    for eps in (0.025, 0.05):
        name = f"fmnist-cnn-pgd-at-{eps}"
        objective = {"eps": eps, "arguments": {"steps": 5, "step_size": 0.3 * eps}}
        yield Network(name, again(ROBUST, name=name, objective=objective), analyze=True)


def student(models, teacher, lesson, seed, method="kd_clean", **more):
    """Return a student of the teacher of its seed."""
    done = [Manipulation.model_validate(read_manipulation(lesson))] if lesson else []
    parts = [method, "of", teacher.removeprefix("fmnist-cnn-"), lesson]
    label = suffixed("-".join(p.translate(SPELLED) for p in parts if p), seed)
    compares = any(m.compares for m in done)
    other = suffixed(STANDARD if teacher == ROBUST else ROBUST, seed) if compares else ""
    needs = tuple(filter(None, (suffixed(teacher, seed), other)))

    def recipe():
        return distillation(
            reference(models, needs[0]),
            STANDARD,
            name=label,
            method=method,
            manipulations=[m.model_dump() for m in done],
            other=reference(models, other) if other else "",
            epochs=EPOCHS,
            seed=seed,
            **more,
        )

    return Network(label, recipe, needs)


def plan(models):
    """Return all networks, those first that most claims need."""
    for seed in SEEDS:
        yield from teachers(seed)
        yield from (student(models, t, lesson, seed) for t, lessons in LESSONS.items() for lesson in lessons)
    yield from radii()
    for seed in SEEDS:
        yield from (
            student(models, ROBUST, "", seed, m, arguments=ATTACKING, **own) for m, own in METHODS.items()
        )


def reference(models, name):
    """Return the folder of a network, or its name where it is the zoo's."""
    return name if name in (STANDARD, ROBUST) else str((models / name).absolute())


def there(models, name):
    """Return whether a network can be loaded."""
    return name in (STANDARD, ROBUST) or (models / name / "card.toml").is_file()


@contextmanager
def claimed(file):
    """Yield whether nobody else works on this."""
    with file.open("w") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def work(network, models, runs):
    """Train and evaluate one network as far as that can be done; return whether it is done."""
    if (runs / network.name / "header.json").is_file():
        return True
    if not all(there(models, need) for need in network.needs):
        return False
    with claimed(models / f"{network.name}.claim") as ours:
        if not ours:
            return False
        if not there(models, network.name):
            recipe = network.recipe() if callable(network.recipe) else network.recipe
            note(f"{network.name}: training")
            train(recipe, out=models / network.name, hooks=Hooks(note=note))
        options = rg.RunOptions(analyze=network.analyze)
        record = rg.evaluate(reference(models, network.name), suite=SUITE, options=options)
        record.save(runs / network.name)
        note(f"{record.name}: clean {record.accuracy}, robust {record.robust_accuracy}, {record.verdict}")
        return True


def note(text):
    """Tell how it goes."""
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def main():
    torch.set_num_threads(1)
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--plan", action="store_true")
    given = parser.parse_args()
    networks = list(plan(given.models))
    if given.plan:
        print("\n".join(network.name for network in networks))
        return
    for folder in (given.models, given.runs):
        folder.mkdir(parents=True, exist_ok=True)
    while left := [network for network in networks if not work(network, given.models, given.runs)]:
        note(f"{len(left)} of {len(networks)} left to others or to later")
        time.sleep(30)


if __name__ == "__main__":
    main()
