"""What the graph of 500 units costs: all measures and twenty rewired graphs; and the memory of many images.

`python benchmarks/graphs.py [units] [repeats]`; about two minutes. The bar is 10 s; beyond it, or where ten
times as many images take more memory than their responses, the command fails.
"""

import sys
import tracemalloc
from statistics import median
from time import perf_counter

import torch

from robustgeom.geometry.graphs import functional_graph
from robustgeom.harness.graph_measures import _by_chance, _of, _responses, graph
from robustgeom.harness.measures import Head

BAR = 10.0
HEAD = Head(model="m", seed=0, stage="s", condition="clean")


def responses(units, images=500):
    """Return what units respond to ten classes of images: forty shared causes, and noise."""
    g = torch.Generator().manual_seed(0)
    shared = torch.randn(images, 40, generator=g) @ torch.randn(40, units, generator=g)
    return (shared + 0.5 * torch.randn(images, units, generator=g)).double()


def seconds(units):
    """Measure a graph and twenty rewired ones, then with errors over images too; return the seconds of both."""
    manifolds, generator = list(responses(units).split(50)), torch.Generator().manual_seed(0)
    rows, labels = _responses(manifolds)
    began = perf_counter()
    _of(rows, labels, generator)
    _by_chance(rows, generator)
    between = perf_counter()
    graph(manifolds, names=[str(i) for i in range(10)], n_t=0, generator=generator, head=HEAD)
    return between - began, perf_counter() - between


def peak(units, images):
    """Return the bytes that building a graph takes beyond its responses."""
    x = responses(units, images).numpy()
    tracemalloc.start()
    functional_graph(x)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found - 3 * x.nbytes


def main():
    torch.set_num_threads(1)
    units, repeats = (int(v) for v in [*sys.argv[1:], *("500", "3")[len(sys.argv) - 1 :]])
    took, whole = (median(each) for each in zip(*(seconds(units) for _ in range(repeats)), strict=True))
    print(f"{units} units, 500 images: {took:.1f} s for all measures and 20 rewired graphs", flush=True)
    print(f"with errors over ten groups of images: {whole:.1f} s", flush=True)
    few, many = peak(units, 500), peak(units, 5000)
    print(f"memory beyond responses: {few / 1e6:.0f} MB for 500 images, {many / 1e6:.0f} MB for 5,000")
    sys.exit(took > BAR or many > 2 * max(few, 10**7))


if __name__ == "__main__":
    main()
