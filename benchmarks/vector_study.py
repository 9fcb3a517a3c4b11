"""The study of vectorised networks and their twins: zoo/gated.toml, three seeds of each, with signals of units.

`python benchmarks/vector_study.py MODELS RUNS` trains every network into the folder MODELS and evaluates it into RUNS,
leaving what is there; a command that was cut off goes on, and several share the work. Then `robustgeom report RUNS
--baseline fmnist-mlp --out reports/vectors` writes the page. `--plan` lists the networks.
"""

import pyarrow as pa
import torch
from _study import Network, run_study

import robustgeom as rg
from robustgeom.content import content_root
from robustgeom.models.build import build
from robustgeom.models.card import card_file
from robustgeom.models.vnn import VNN
from robustgeom.training.recipe import read_family, read_recipe
from robustgeom.training.signals import unit_signals

SUITE = "gated-linf"
SAMPLES = 200
WIDTHS = (32, 128, 512)  # of untrained networks, to see angles fall


def plan(models):
    """Return all networks."""
    del models
    for recipe in read_family(content_root() / "zoo" / "gated.toml"):
        vectors = recipe.architecture.name == "vnn"
        yield Network(
            recipe.name, recipe, tables=signals if vectors else None, extra=("signals",) if vectors else ()
        )


def signals(reference):
    """Return the table of signals of a network, of its untrained twin, and of wider ones where it is dense."""
    recipe = read_recipe(card_file(reference).with_name("recipe.toml"))
    given = recipe.architecture.arguments
    rows = _rows(rg.load_model(reference), "trained", 0) + _rows(_untrained(recipe, given), "untrained", 0)
    if given.get("kind", "dense") == "dense":
        for width in WIDTHS:
            wide = {**given, "hidden": [width] * 3}
            every = _rows(_untrained(recipe, wide), "untrained", width)
            rows += [row for row in every if row["stage"] == "blocks.0"]
    return {"signals": pa.Table.from_pylist(rows)}


def _untrained(recipe, arguments):
    """Return the network as training finds it."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        return build(recipe.architecture.name, arguments).eval()


def _rows(model, state, width):
    assert isinstance(model, VNN)
    data = rg.load_dataset("fashion-mnist", split="eval").balanced(SAMPLES)
    found = unit_signals(model, data.inputs)
    return [
        {"state": state, "width": width, "stage": stage, "sample_id": data.ids[i]}
        | {"angle": found.angles[i, j].item(), "negative": found.negative[i, j].item()}
        for j, stage in enumerate(found.stages)
        for i in range(len(data))
    ]


if __name__ == "__main__":
    run_study(__doc__, plan, SUITE)
