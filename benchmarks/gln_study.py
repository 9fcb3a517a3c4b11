"""The study of gated linear networks: networks of two classes and 500 images, and where gradient descent takes them.

`python benchmarks/gln_study.py MODELS RUNS` trains every network into the folder MODELS, evaluates it into RUNS and
solves the convex programs of its limits, leaving what is there; a command that was cut off goes on, and several share
the work. Then `robustgeom report RUNS --baseline fmnist-gln-h50 --out reports/gated-linear` writes the page. `--plan`
lists the networks.
"""

import numpy as np
import pyarrow as pa
import torch
from _study import Network, run_study, suffixed

import robustgeom as rg
from robustgeom.models.build import build
from robustgeom.models.gln import GLN
from robustgeom.models.gln_limit import infinite_time_limit, normalised_margin
from robustgeom.training.recipe import Recipe

SEEDS = (0, 1, 2)
SUITE = "gated-linf"
DATA = "fashion-mnist-halves"
FAMILY = "fmnist-gln"
PAPER = "Lippl, Abbott and Chung 2022, arXiv:2202.02649"
HYPERPLANES = (0, 2, 4, 6, 8)
WIDTHS = (10, 50)
FEW, STEPS, RATE, FALL = 100, (500, 2_000, 8_000, 20_000), 0.1, 0.75  # of the path to the limit


def plan(models):
    """Return all networks, three seeds of each."""
    del models
    for seed in SEEDS:
        for count in HYPERPLANES:
            gates = {"hidden": [], "hyperplanes": count}
            yield network(f"fmnist-gln-shallow-{count}", "gln", gates, seed, shallow)
        for width in WIDTHS:
            yield network(f"fmnist-gln-h{width}", "gln", {"hidden": [width]}, seed, deep)
            random = {"hidden": [width], "median": False}
            yield network(f"fmnist-gln-h{width}-random", "gln", random, seed)
        yield network("fmnist-gated-relu-h50", "gated_relu", {"hidden": 50}, seed, frozen)


def network(name, architecture, arguments, seed, tables=None):
    """Return a network of the study; gradient descent at a constant rate, as long as the source has it."""
    name = suffixed(name, seed)
    fields = {
        "name": name,
        "family": FAMILY,
        "paper": PAPER,
        "seed": seed,
        "data": DATA,
        "architecture": {"name": architecture, "arguments": {**arguments, "classes": 2}},
        "objective": {"name": "standard"},
        "optimiser": {
            "epochs": 800,
            "batch_size": 128,
            "lr": 0.04,
            "weight_decay": 0.0,
            "schedule": "constant",
        },
        "augmentation": {"flip": False},
        "validation": {"images": 100},
    }
    return Network(name, Recipe.model_validate(fields), tables=tables, extra=("limits",) if tables else ())


class Task:
    """Training and evaluation images as features, and the signs of the former."""

    def __init__(self):
        data = [rg.load_dataset(DATA, split=split) for split in ("train", "eval")]
        self.images, self.held = (d.inputs for d in data)
        self.features, self.others = (GLN.features(d.inputs).double().numpy() for d in data)
        self.signs, self.ids = 2 * data[0].labels.numpy() - 1, data[1].ids

    def rows(self, limit, decision):
        """Return the rows of the table of limits for the decisions f (n,) on evaluation images."""
        return [
            {"limit": limit, "sample_id": i, "prediction": int(f > 0)}
            for i, f in zip(self.ids, decision, strict=True)
        ]


def deep(reference):
    """Return the limits of a two-layer network by both norms, and the path of a smaller task to its limit."""
    model, task = rg.load_model(reference), Task()
    (layer,) = model.layers
    seen, held = (layer.context(model.features(x)).numpy() for x in (task.images, task.held))
    rows = []
    for norm in ("gln", "l2"):
        found = infinite_time_limit(seen, task.features, task.signs, norm=norm, count=layer.contexts)
        rows += task.rows(norm, found.decision(held, task.others))
    tables = {"limits": pa.Table.from_pylist(rows)}
    return tables | ({"margins": path(model, task)} if layer.units == min(WIDTHS) else {})


def shallow(reference):
    """Return the limit of a shallow network: a machine a context; contexts without images guess."""
    model, task = rg.load_model(reference), Task()
    (layer,) = model.layers
    seen, held = (layer.context(model.features(x)).numpy()[:, 0] for x in (task.images, task.held))
    weights = np.zeros((layer.contexts, task.features.shape[1]))
    for context in np.unique(seen):
        own = seen == context
        inside = np.zeros((own.sum(), 1))
        found = infinite_time_limit(inside, task.features[own], task.signs[own], norm="shallow")
        weights[context] = found.weights[0, 0]
    guesses = np.random.default_rng(0).choice([-1.0, 1.0], len(held))
    decision = np.where(np.isin(held, seen), np.einsum("nf,nf->n", weights[held], task.others), guesses)
    return {"limits": pa.Table.from_pylist(task.rows("shallow", decision))}


def frozen(reference):
    """Return what a ReLU network's gates are worth: learned ones and random ones with a machine, and by themselves."""
    model, task = rg.load_model(reference), Task()
    learned = model.layer.weight.detach().double().numpy()
    random = np.random.default_rng(0).standard_normal(learned.shape)
    rows = []
    for name, sides in (("learned gates", learned), ("random gates", random)):
        seen, held = ((x @ sides.T > 0).astype(int) for x in (task.features, task.others))
        found = infinite_time_limit(seen, task.features, task.signs, count=2, closed=True)
        rows += task.rows(name, found.decision(held, task.others))
    seen, held = (
        np.c_[x @ learned.T > 0, np.ones(len(x))].astype(float) for x in (task.features, task.others)
    )
    alone = np.linalg.lstsq(seen, task.signs, rcond=None)[0]
    return {"limits": pa.Table.from_pylist(rows + task.rows("gates alone", held @ alone))}


def path(model, task):
    """Return how far gradient descent from scratch has come towards its limit on a few of the images, by step.

    Steps of the exponential loss are normalised by the loss itself (its logarithm descends), at a rate that falls as
    a power of time, slowly enough to get there and fast enough not to swing: the same limit, which plain steps approach
    only as the logarithm of time.
    """
    (gates,) = model.layers
    few = np.linspace(0, len(task.signs) - 1, FEW).astype(int)
    images, signs = task.images[few].double(), task.signs[few]
    x, contexts = task.features[few], gates.context(model.features(task.images[few])).numpy()
    best = 1 / infinite_time_limit(contexts, x, signs, count=gates.contexts).objective
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = build("gln", {"hidden": [gates.units], "classes": 2}).double()
    fresh.load_state_dict(
        {k: v for k, v in model.state_dict().items() if "sides" in k or "thresholds" in k}, strict=False
    )
    fresh.readout.bias = None
    optimiser = torch.optim.SGD(fresh.parameters(), RATE)
    slower = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: (1 + step) ** -FALL)
    rows, targets = [], torch.from_numpy(signs).double()
    for step in range(1, max(STEPS) + 1):
        optimiser.zero_grad()
        torch.logsumexp(-targets * fresh.decision(images)[:, 0], 0).backward()
        optimiser.step()
        slower.step()
        if step in STEPS:
            products = fresh.readout.weight.detach().T[:, :, None] * fresh.layers[0].weight.detach().view(
                gates.units, gates.contexts, -1
            )
            rows.append(
                {
                    "step": step,
                    "margin": normalised_margin(products.numpy(), contexts, x, signs),
                    "best": best,
                }
            )
    return pa.Table.from_pylist(rows)


if __name__ == "__main__":
    run_study(__doc__, plan, SUITE)
