"""What the journal costs: the strong suite with and without one, in turns, wall time; and what going on costs.

`python benchmarks/journal.py [samples] [repeats]`; 64 samples and 3 repeats take about eight minutes.
"""

import sys
import tempfile
from statistics import median
from time import perf_counter

import torch
from _common import MODELS

import robustgeom as rg


def timed(name, options, journal):
    """Return the seconds of one evaluation."""
    began = perf_counter()
    rg.evaluate(name, suite="strong-linf", options=options, journal=journal)
    return perf_counter() - began


def main():
    torch.set_num_threads(1)
    samples, repeats = [int(a) for a in (*sys.argv[1:], *("64", "3")[len(sys.argv) - 1 :])]
    options = rg.RunOptions(n=samples, analyze=False)
    for name in MODELS:
        times = []
        for turn in range(repeats + 1):
            with tempfile.TemporaryDirectory() as folder:
                ways = [None, folder] if turn % 2 else [folder, None]
                found = {way: timed(name, options, way) for way in ways}
                times.append((found[None], found[folder], timed(name, options, folder)))
        without, kept, again = (median(column) for column in zip(*times[1:], strict=True))
        ratios = sorted(b / a for a, b, _ in times[1:])
        print(
            f"{name}, strong-linf, {samples} images: {without:.1f} s without a journal, {kept:.1f} s with one, "
            f"{kept / without:.3f} x (pairs {', '.join(f'{r:.3f}' for r in ratios)}); going on {again:.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
