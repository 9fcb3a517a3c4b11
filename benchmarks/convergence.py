"""Have the attacks on stochastic networks converged? Robust accuracy against EOT draws and against steps.

`python benchmarks/convergence.py OUT.csv MODEL... [--n 200] [--norm linf] [--eps 8/255] [--source NAME]`: Auto-PGD on
the margin with 50 steps and 1, 3, 10, 30 and 100 draws a gradient, then with 10 draws and 10 to 200 steps; rows of
OUT.csv are left alone. On one core a V1 front end takes about twenty minutes. `--table` prints what OUT.csv holds as
Markdown.
"""

import csv
import sys
from argparse import ArgumentParser
from pathlib import Path

import torch

import robustgeom as rg
from robustgeom.harness.spec import AttackSpec, Suite

DRAWS, STEPS = (1, 3, 10, 30, 100), (10, 25, 50, 100, 200)
COLUMNS = (
    "model",
    "norm",
    "eps",
    "source",
    "draws",
    "steps",
    "n",
    "value",
    "low",
    "high",
    "passes",
    "seconds",
)


def measured(name, norm, eps, source, draws, steps, n):
    """Return one row: what Auto-PGD leaves with so many draws and steps."""
    settings = {"steps": steps, "loss": "margin"}
    spec = AttackSpec(
        name="apgd-margin", attack="apgd", settings=settings, source=None if source == "own" else source
    )
    suite = Suite(
        name=f"convergence-{norm}",
        version=1,
        description="One attack.",
        norm=norm,
        radii="headlines",
        eot=draws,
        judge_draws=256,
        attacks=[spec],
    )
    record = rg.evaluate(name, suite=suite, options=rg.RunOptions(n=n, eps=eps, analyze=False))
    robust, totals = record.robust_accuracy, record.header.totals
    passes = totals.forward_calls + totals.backward_calls
    shares = (f"{v:.4f}" for v in (robust.value, robust.low, robust.high))
    return (name, norm, eps, source, draws, steps, n, *shares, passes, f"{totals.seconds:.0f}")


def share(row):
    """Return robust accuracy with its interval."""
    value, low, high = (100 * float(row[k]) for k in ("value", "low", "high"))
    return f"{value:.1f} % [{low:.0f}, {high:.0f}]"


def table(rows):
    """Return rows as a Markdown table: a line a model, robust accuracy by draws at 50 steps, by steps at 10 draws."""
    places = [(str(d), "50") for d in DRAWS] + [("10", str(s)) for s in STEPS if s != 50]
    heads = ["model", *(f"{d} draw{'s' * (d != '1')}, {s} steps" for d, s in places)]
    lines = [heads, ["---"] * len(heads)]
    for name in dict.fromkeys(row["model"] for row in rows):
        by = {(r["draws"], r["steps"]): r for r in rows if r["model"] == name}
        lines.append([name, *(share(by[place]) if place in by else "" for place in places)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main():
    torch.set_num_threads(1)
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--norm", default="linf")
    parser.add_argument("--eps", default="8/255")
    parser.add_argument("--source", default="own")
    parser.add_argument("--draws", default=",".join(map(str, DRAWS)))
    parser.add_argument("--steps", default=",".join(map(str, STEPS)))
    given = parser.parse_args()
    if given.table:
        print(table(list(csv.DictReader(given.out.open()))))
        return
    known = list(csv.reader(given.out.open())) if given.out.exists() else [list(COLUMNS)]
    done = {tuple(row[:7]) for row in known}
    if not given.out.exists():
        given.out.write_text(",".join(COLUMNS) + "\n")
    draws, steps = ([int(v) for v in text.split(",")] for text in (given.draws, given.steps))
    plan = [(count, 50) for count in draws] + [(10, count) for count in steps if count != 50]
    for name in given.models:
        for setting in plan:
            key = (name, given.norm, given.eps, given.source, *setting, given.n)
            if tuple(map(str, key)) in done:
                continue
            row = ",".join(map(str, measured(*key)))
            with given.out.open("a") as file:
                file.write(row + "\n")
            print(row, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
