"""What a step of global error-vector broadcasting costs over one of backpropagation, on the same network, in turns.

`python benchmarks/gevb.py [batch] [pairs]`; on one core about three minutes. A step is the loss, its slope, SGD's step
and the clamping of weights, on a batch that is already there. The bar is 1.5; beyond it the command fails.
"""

import sys
from functools import partial
from statistics import median
from time import perf_counter

import torch

from robustgeom.models.vnn import VNN
from robustgeom.training.objectives import OBJECTIVES

NETWORKS = {
    "dense 256-128": {"hidden": (256, 128)},
    "conv 32-16, 64": {"kind": "conv", "maps": (32, 16), "hidden": (64,)},
    "local 8-8, 64": {"kind": "local", "maps": (8, 8), "hidden": (64,)},
}
BAR = 1.5


def step(name, model, optimiser, data):
    """Train a network by one step of an objective; return the seconds."""
    began = perf_counter()
    loss = OBJECTIVES[name](model, *data, generator=torch.Generator().manual_seed(0))
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    for part in model.modules():
        if hasattr(part, "constrain"):
            part.constrain()
    return perf_counter() - began


def ratio(arguments, batch, pairs):
    """Return the median of gevb's seconds over backpropagation's, step by step, and of the latter."""
    torch.manual_seed(0)
    data = torch.rand(batch, 1, 28, 28), torch.randint(0, 10, (batch,))
    steps = []
    for name in ("standard", "gevb"):
        model = VNN(**arguments).train()
        optimiser = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
        steps.append(partial(step, name, model, optimiser, data))
    found = []
    for turn in range(pairs + 3):
        order = steps if turn % 2 else steps[::-1]
        took = {one: one() for one in order}
        found.append((took[steps[0]], took[steps[1]]))
    found = found[3:]
    return median(ours / theirs for theirs, ours in found), median(theirs for theirs, _ in found)


def main():
    torch.set_num_threads(1)
    batch, pairs = (int(v) for v in [*sys.argv[1:], *("128", "20")[len(sys.argv) - 1 :]])
    worst = 0.0
    for name, arguments in NETWORKS.items():
        found, seconds = ratio(arguments, batch, pairs)
        worst = max(worst, found)
        print(
            f"vnn {name}, batch {batch}: gevb takes {found:.2f} x backpropagation's {1e3 * seconds:.0f} ms a step "
            f"(median of {pairs} pairs)",
            flush=True,
        )
    sys.exit(worst > BAR)


if __name__ == "__main__":
    main()
