"""The failure checks on honest zoo models: what each counts, what they cost, and the verdict.

`python benchmarks/checks.py [split] [samples] [suite] [models...]`. The rates of bad luck that the checks allow were
set on the split validation; on the split eval every zoo model must come out trustworthy.
"""

import sys
from time import process_time

import torch

import robustgeom as rg
from robustgeom import content


def show(name, suite, options):
    """Evaluate and print one model."""
    began = process_time()
    record = rg.evaluate(name, "fashion-mnist", suite, options=options)
    cost = record.header.plan["checks"]
    share = 25 * cost["passes"] / max(cost["allowed"], 1)
    print(f"{name}, {suite}, {options.split}: robust {record.robust_accuracy}, {record.verdict.word}")
    print(
        f"  checks took {cost['passes']:,} passes, {share:.1f} % of the suite's, on {cost['samples']}; "
        f"{process_time() - began:.0f} CPU s in all; left out: {cost['left_out']}"
    )
    for check in record.checks:
        value = "" if check.value is None else f"{check.value:.3g}"
        print(f"  {check.status:<5} {check.name:<20} {value:>8}  {check.message}", flush=True)


def main():
    torch.set_num_threads(1)
    split, samples, *rest = sys.argv[1:] or ["eval", "100"]
    options = rg.RunOptions(n=int(samples), analyze=False, split=split)
    for suite in rest[:1] or ["quick-linf", "strong-linf"]:
        for name in rest[1:] or content.names("model"):
            show(name, suite, options)


if __name__ == "__main__":
    main()
