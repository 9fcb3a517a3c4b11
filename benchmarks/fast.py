"""The suite `fast` beside `autoattack`: robust accuracy at both headlines and passes, on every zoo model.

`python benchmarks/fast.py [samples] [models...]`; 200 samples of all models take about half an hour.
"""

import sys

import robustgeom as rg
from robustgeom import content
from robustgeom.words import radius_text


def spent(record):
    """Return the attacks' forward and backward passes, without those of the judge."""
    header = record.header
    clean = sum(r["forward_calls"] for r in record.samples.to_pylist() if r["attack"] == "clean")
    judged = clean + sum(job["judge_passes"] for job in header.plan["jobs"])
    return header.totals.forward_calls - judged, header.totals.backward_calls


def main():
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    options = rg.RunOptions(n=samples, analyze=False)
    print(f"{samples} images; passes: forward + backward an image, over both radii, without the judge's")
    total = [0.0, 0.0]
    for name in sys.argv[2:] or content.names("model"):
        full, fast = (
            rg.evaluate(name, "fashion-mnist", f"{suite}-linf", options=options)
            for suite in ("autoattack", "fast")
        )
        costs = [sum(spent(r)) / samples for r in (full, fast)]
        total = [t + c for t, c in zip(total, costs, strict=True)]
        print(f"{name}: {costs[1]:.1f} passes against {costs[0]:.1f}, {costs[1] / costs[0]:.3f} of them")
        for radius in full.header.threat.headlines:
            values = [100 * r.robust_accuracy_at(radius).value for r in (full, fast)]
            place = radius_text(radius, "linf")
            print(
                f"  linf {place:<6} autoattack {values[0]:5.1f} %  fast {values[1]:5.1f} %"
                f"  {values[1] - values[0]:+.1f} points",
                flush=True,
            )
    print(f"in all: {total[1] / total[0]:.3f} of the passes")


if __name__ == "__main__":
    main()
