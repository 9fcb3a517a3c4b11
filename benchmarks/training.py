"""What the training loop costs over a bare forward and backward pass, step by step in turns, at the same batch size.

`python benchmarks/training.py [device] [batch] [pairs]`; on one core about four minutes at batch 128 and 20 pairs. The
bare loop has the same network in train mode, the loss, the backward pass and SGD's step on a batch that is already
there; ours draws, augments, trains, averages. On a GPU it also prints images a second and how busy the device was.
"""

import sys
from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F

from robustgeom.content import content_root
from robustgeom.data.load import load_dataset
from robustgeom.models.build import build
from robustgeom.training.recipe import read_family
from robustgeom.training.run import Run

MODELS = ("fmnist-resnet-standard", "fmnist-vone-gaussian-3")


def bare_loop(run, batch):
    """Return a function that trains a network of the same architecture by one bare step."""
    model = build(run.recipe.architecture.name, run.recipe.architecture.arguments).to(run.device).train()
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    inputs, labels = run.inputs[:batch].clone(), run.labels[:batch]

    def step():
        loss = F.cross_entropy(model(inputs), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def seconds(step, device):
    """Return the seconds of one step."""
    began = perf_counter()
    step()
    if device != "cpu":
        torch.cuda.synchronize()
    return perf_counter() - began


def main():
    torch.set_num_threads(1)
    device, batch, pairs = [*sys.argv[1:], *("cpu", "128", "20")[len(sys.argv) - 1 :]]
    batch, pairs = int(batch), int(pairs)
    data, held = (
        load_dataset("fashion-mnist", split="train"),
        load_dataset("fashion-mnist", split="validation"),
    )
    recipes = {recipe.name: recipe for recipe in read_family(content_root() / "zoo" / "family.toml")}
    for name in MODELS:
        recipe = recipes[name]
        sized = recipe.optimiser.model_copy(update={"batch_size": batch})
        run = Run(recipe.model_copy(update={"optimiser": sized}), data, held, device)
        bare = bare_loop(run, batch)
        for _ in range(3):
            bare()
            run.one_step()
        times = []
        for turn in range(pairs):
            steps = (bare, run.one_step) if turn % 2 else (run.one_step, bare)
            found = {step: seconds(step, device) for step in steps}
            times.append((found[bare], found[run.one_step]))
        ratio = median(ours / theirs for theirs, ours in times)
        ours = median(column[1] for column in times)
        busy = f", device busy {torch.cuda.utilization(device)} %" if device != "cpu" else ""
        print(
            f"{name}, batch {batch}, {device}: {ratio:.3f} x the bare loop (median of {pairs} pairs), "
            f"{batch / ours:,.0f} images/s{busy}",
            flush=True,
        )


if __name__ == "__main__":
    main()
