"""The study of logits: teachers, and students taught by them with their logits manipulated, three seeds of each.

`python benchmarks/logit_study.py MODELS RUNS` trains every network into the folder MODELS (about 400 MB) and evaluates
it into RUNS, leaving what is there; a command that was cut off goes on, and several share the work. The teachers of
seed 0 are the zoo's. Then `robustgeom report RUNS --baseline fmnist-cnn-standard --out reports/logits` writes the page.
On two cores it takes about four hours. `--plan` lists the networks.
"""

from _study import Network, run_study, suffixed

from robustgeom.models.card import card_file
from robustgeom.training.distill import distillation
from robustgeom.training.recipe import Manipulation, read_recipe
from robustgeom.training.spelling import read_manipulation

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
        yield Network(name, again(base, name=name, seed=seed), analyze=True, shipped=seed == 0)


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


if __name__ == "__main__":
    run_study(__doc__, plan, SUITE)
