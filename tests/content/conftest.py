"""A page's records and analyses as rows, read without our code, and what its claims are held against."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import bootstrap

from robustgeom.content import content_root

REPORTS = content_root() / "reports"
SEEDS = ("", "-s1", "-s2")
SOFT = "apgd-margin-soft-gates"


class Page:
    """The records of one report: samples attacked, and whatever tables came with them."""

    def __init__(self, name):
        self.root = REPORTS / name
        facts = json.loads((self.root / "comparison.json").read_text(encoding="utf-8"))
        self.headlines = facts["headlines"]
        self.claims = {c["claim"]["id"]: c for c in facts["claims"]}
        self.tables = {}

    def table(self, network, name):
        key = network, name
        if key not in self.tables:
            self.tables[key] = pq.read_table(self.root / "runs" / network / f"{name}.parquet").to_pylist()
        return self.tables[key]

    def ids(self, network):
        return json.loads((self.root / "runs" / network / "header.json").read_text())["data"]["sample_ids"]

    def fell(self, network, radius, *, soft=True):
        """Return which samples (n,) are wrong, or fell to an attack within the radius."""
        rows = self.table(network, "samples")
        lost = {
            r["sample_id"]
            for r in rows
            if r["clean_prediction"] != r["label"]
            or (
                r["success"]
                and r["radius"] <= radius + 1e-9
                and r["radius"] > 0
                and (soft or r["attack"] != SOFT)
            )
        }
        return np.array([i in lost for i in self.ids(network)])

    def kept(self, name, radius, **more):
        """Return how many seeds stand on each sample."""
        return np.mean([~self.fell(name + seed, radius, **more) for seed in SEEDS], axis=0)

    def right(self, name):
        return self.kept(name, 0.0)

    def column(self, network, name):
        by = {r["sample_id"]: r[name] for r in self.table(network, "samples")}
        return np.array([by[i] for i in self.ids(network)])

    def measured(self, name, measure, condition):
        """Return a measure at the features of each stimulus, {stimulus: value}, seeds averaged."""
        each = []
        for network in (name + seed for seed in SEEDS):
            stages = json.loads((self.root / "runs" / network / "header.json").read_text())["model"]["stages"]
            files = (self.root / "analyses" / network).glob("*/geometry.parquet")
            rows = [row for file in files for row in pq.read_table(file).to_pylist()]
            wanted = stages[-2], condition, measure
            each.append(
                {
                    r["manifold"]: r["value"]
                    for r in rows
                    if (r["stage"], r["condition"], r["measure"]) == wanted and r["manifold"] != "all"
                }
            )
        return {one: np.mean([e[one] for e in each]) for one in set.intersection(*map(set, each))}

    def limit(self, network, name):
        by = {r["sample_id"]: r["prediction"] for r in self.table(network, "limits") if r["limit"] == name}
        return np.array([by[i] for i in self.ids(network)])

    def limit_right(self, name, limit):
        hits = [self.limit(name + s, limit) == self.column(name + s, "label") for s in SEEDS]
        return np.mean(hits, axis=0)

    def angle(self, network, state, stage, width=0):
        rows = self.table(network, "signals")
        wanted = state, stage, width
        return {r["sample_id"]: r["angle"] for r in rows if (r["state"], r["stage"], r["width"]) == wanted}

    def angles(self, name, state, stage, width=0):
        each = [self.angle(name + s, state, stage, width) for s in SEEDS]
        shared = sorted(set.intersection(*map(set, each)))
        assert len(shared) >= 150
        return np.array([np.mean([e[i] for e in each]) for i in shared])

    def holds(self, claim, findings):
        """Hold a claim against findings, each the values (n,) whose mean's interval is to lie above 0."""
        told = self.claims[claim]
        each = [interval(np.asarray(values, dtype=float)) for values in findings]
        worst = min(each, key=lambda f: (f[1] > 0, f[1]))
        near = [f for f in each if abs(f[1] - worst[1]) < 0.02]
        spread = max(0.004, 0.06 * (worst[2] - worst[1]))
        assert any(told["effect"] == pytest.approx(f[0], abs=1e-9) for f in near), (told["effect"], each)
        assert told["interval"]["low"] == pytest.approx(worst[1], abs=spread)
        clear = [f for f in each if abs(f[1]) < 0.002]
        if not clear:  # else which side of 0 it lies on is up to the draws
            status = "reproduced" if all(f[1] > 0 for f in each) else "not reproduced"
            assert told["status"] == status


def interval(values):
    """Return the mean of values (n,) and its 95 % bootstrap interval."""
    if np.ptp(values) == 0:
        return values.mean(), values.mean(), values.mean()
    found = bootstrap(
        (values,), np.mean, method="percentile", n_resamples=4000, rng=0, batch=500
    ).confidence_interval
    return values.mean(), found.low, found.high


@pytest.fixture(scope="session")
def read_page():
    return Page


@pytest.fixture(scope="session", name="interval")
def _interval():
    return interval
