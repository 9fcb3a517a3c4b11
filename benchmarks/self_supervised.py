"""What learning without labels costs over bare passes and the loss, and what simulated retinal waves cost.

`python benchmarks/self_supervised.py [images] [pairs]`; on one core about six minutes. A step of training, with views,
probe and optimiser, is timed in turns with a forward pass of as many views that are there already, the same loss, and
the backward pass. The bars are 1.3, and 0.06 processor seconds per simulated second and 32 x 32 sheet, of 16 at once;
beyond them the command fails.
"""

import sys
from functools import partial
from statistics import median
from time import perf_counter, process_time

import torch

from robustgeom.data.dataset import Dataset
from robustgeom.data.views import views
from robustgeom.data.waves.reaction_diffusion import advance, resting_sheets
from robustgeom.training.barlow_twins import _redundancy
from robustgeom.training.mmcr import capacity_loss
from robustgeom.training.recipe import Recipe
from robustgeom.training.run import Before, Run
from robustgeom.training.simclr import _contrast
from robustgeom.training.wave_contrast import _contrast as over_time

BAR, SIMULATED = 1.3, 0.06
FRAMES = 16


def frames_loss(z):
    """Return the contrast over time of embeddings of clips of different waves."""
    clips = torch.arange(len(z)) // FRAMES
    z = torch.nn.functional.normalize(z, dim=1)
    return over_time(z, clips, clips, separation=1, temperature=0.5, chopped=True)


OBJECTIVES = {
    "simclr": (2, lambda z: _contrast(z, 0.5)),
    "barlow_twins": (2, lambda z: _redundancy(z, 0.005)),
    "mmcr": (4, lambda z: capacity_loss(z, 4)),
    "wave_contrast": (FRAMES, frames_loss),
}


def prepared(name, images):
    """Return a run of an objective and what it sees in a step: views or frames (k, 1, h, w)."""
    architecture = {"name": "self_supervised", "arguments": {"projector": [256, 64]}}
    optimiser = {"name": "adamw", "epochs": 100, "batch_size": images, "lr": 1e-4, "schedule": "constant"}
    fields = {"name": name, "family": "bench", "architecture": architecture, "objective": {"name": name}}
    recipe = Recipe.model_validate({**fields, "optimiser": optimiser})
    g, count = torch.Generator().manual_seed(0), OBJECTIVES[name][0]
    if name == "wave_contrast":
        images = images // FRAMES
        recipe = recipe.model_copy(
            update={"optimiser": recipe.optimiser.model_copy(update={"batch_size": images})}
        )
        inputs, labels = torch.rand(images, FRAMES, 32, 32, generator=g), torch.arange(images)
        seen = inputs.flatten(0, 1)[:, None]
    else:
        inputs, labels = torch.rand(images, 1, 28, 28, generator=g), torch.arange(images) % 10
        seen = views(inputs, count, g)
    names = tuple(map(str, range(max(int(labels.max()) + 1, 10))))
    data = Dataset("bench", "train", inputs, labels, tuple(range(images)), names)
    return Run(recipe, data, data, "cpu", Before(grade=lambda _: 0.0)), seen


def whole(run):
    """Take a step of training; return the seconds."""
    began = perf_counter()
    run.one_step()
    return perf_counter() - began


def bare(run, seen, loss):
    """Pass forward and back through the same loss; return the seconds."""
    began = perf_counter()
    run.model.train()
    run.model.zero_grad(set_to_none=True)
    loss(run.model.embed(seen)).backward()
    return perf_counter() - began


def ratio(name, images, pairs):
    """Return the median of a step's seconds over bare ones, and of the latter."""
    run, seen = prepared(name, images)
    steps = partial(whole, run), partial(bare, run, seen, OBJECTIVES[name][1])
    found = []
    for turn in range(pairs + 2):
        took = {one: one() for one in (steps if turn % 2 else steps[::-1])}
        found.append((took[steps[0]], took[steps[1]]))
    found = found[2:]
    return median(ours / theirs for ours, theirs in found), median(theirs for _, theirs in found)


def simulation(sheets=16, seconds=2.0):
    """Return the processor seconds per simulated second and sheet, the median of five times."""
    state, took = advance(resting_sheets(sheets), 100, 0.2), []
    for _ in range(5):
        began = process_time()
        state = advance(state, round(1000 * seconds), 0.2)
        took.append((process_time() - began) / sheets / seconds)
    return median(took)


def main():
    torch.set_num_threads(1)
    images, pairs = (int(v) for v in [*sys.argv[1:], *("128", "10")[len(sys.argv) - 1 :]])
    worst = 0.0
    for name, (count, _) in OBJECTIVES.items():
        found, seconds = ratio(name, images, pairs)
        worst = max(worst, found)
        of = f"{images} frames" if name == "wave_contrast" else f"{images} images, {count} views each"
        print(
            f"{name}, {of}: a step takes {found:.2f} x the {1e3 * seconds:.0f} ms of passes and loss "
            f"(median of {pairs} pairs)",
            flush=True,
        )
    cost = simulation()
    print(f"waves: {cost:.3f} processor seconds per simulated second and sheet, 16 at once", flush=True)
    sys.exit(worst > BAR or cost > SIMULATED)


if __name__ == "__main__":
    main()
