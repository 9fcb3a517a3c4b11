"""The suite `fast` beside `autoattack`: robust accuracy and passes on every zoo model, linf 0.1.

`python benchmarks/fast.py [samples] [models...]`
"""

import sys

import robustgeom as rg
from robustgeom import content

EPS = 0.1


def spent(record):
    """Return the attacks' forward and backward passes, without those of the judge."""
    header = record.header
    judged = record.samples.num_rows * header.resolved["judge_draws"]
    return header.totals.forward_calls - judged, header.totals.backward_calls


def main():
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    options = rg.RunOptions(n=samples, eps=EPS, analyze=False)
    print(f"linf {EPS}, {samples} images; passes: forward + backward an image")
    for name in sys.argv[2:] or content.names("model"):
        full, fast = (
            rg.evaluate(name, "fashion-mnist", f"{suite}-linf", options=options)
            for suite in ("autoattack", "fast")
        )
        costs = [sum(spent(r)) / samples for r in (full, fast)]
        values = [100 * r.robust_accuracy.value for r in (full, fast)]
        print(
            f"{name:<22} autoattack {values[0]:5.1f} % ({costs[0]:7.1f})  fast {values[1]:5.1f} % ({costs[1]:6.1f})"
            f"  {values[1] - values[0]:+.1f} points at {costs[1] / costs[0]:.3f} of the passes"
        )


if __name__ == "__main__":
    main()
