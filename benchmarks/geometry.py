"""Capacity and manifold geometry against an interior-point solve per probe (cvxopt), on the same probes: CPU time.

The reference code of both theories solves one quadratic program per probe to a tolerance of 1e-12; that loop alone,
without a centre step or anything else around it, is the yardstick. Where it would take minutes it solves a part, and
its time is scaled up. Ours is the whole call, medians over repeats: with the centre step, and for all manifolds
together with the shuffled baseline, a second set of solves. One thread; about a minute.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from _common import seconds

import robustgeom as rg
from robustgeom.geometry import (
    anchor_points,
    center_basis,
    manifold_geometry,
    mean_field_capacity,
    reduced_points,
)

try:
    from cvxopt import matrix, solvers
except ImportError:
    sys.exit(
        "the yardstick of this benchmark is cvxopt, which is missing; try pip install 'robustgeom[bench]'"
    )

REPEATS, SIZE, TOLERANCE = 5, 50, 1e-12


@dataclass
class Row:
    """One line of the table: CPU seconds of both, how many programs the yardstick solved, and the largest gap."""

    name: str
    ours: float
    theirs: float
    solves: int
    part: float
    repeats: int
    gap: float

    def __str__(self) -> str:
        total = self.theirs / self.part
        part = "" if self.part == 1 else f", scaled up from {self.part:.0%}"
        return (
            f"{self.name}: {self.ours:.3f} s (median of {REPEATS}) against {total:.1f} s "
            f"(median of {self.repeats}{part}), {total / self.ours:.0f} x; "
            f"{1e3 * self.theirs / self.solves:.2f} ms a solve; largest difference {self.gap:.1e}"
        )


@lru_cache
def identity(width):
    return matrix(np.eye(width))


def nearest(rows, probe):
    """The nearest v to a probe with `row . v <= 0` for all rows, by an interior-point method."""
    conditions = matrix(rows), matrix(np.zeros(len(rows)))
    return np.array(solvers.qp(identity(len(probe)), matrix(-probe), *conditions)["x"])[:, 0]


def distances(problems):
    """Squared distances of (rows, probe) problems, those at once where nothing is violated, and how many were not."""
    found, solves = [], 0
    for rows, probe in problems:
        violated = bool((rows @ probe > 0).any())
        found.append(np.square(nearest(rows, probe) - probe).sum() if violated else 0.0)
        solves += violated
    return np.array(found), solves


def measured(name, ours, squared, problems, part, repeats=3):
    """Time our whole call and the yardstick's loop, and compare their squared distances."""
    ours()
    spent = seconds(ours, REPEATS)
    kept = []
    theirs = seconds(lambda: kept.append(distances(problems())), repeats)
    found, solves = kept[-1]
    return Row(name, spent, theirs, solves, part, repeats, np.abs(found - squared()).max())


def mean_field(name, manifolds, n_t, solved):
    """The yardstick takes all probes of the first `solved` manifolds."""
    centers = np.array([m.mean(axis=0) for m in manifolds])
    points = reduced_points(manifolds, center_basis(centers).basis)
    rng = np.random.default_rng(1)
    probes = [rng.normal(size=(n_t, p.shape[1])) for p in points]
    chosen = list(zip(points, probes, strict=True))[:solved]
    return measured(
        name,
        lambda: mean_field_capacity(manifolds, probes=probes),
        lambda: np.concatenate([anchor_points(p, t).squared_distance for p, t in chosen]),
        lambda: ((p, t) for p, part in chosen for t in part),
        solved / len(manifolds),
    )


def together(name, manifolds, n_t, solved):
    """Uniform labels; the yardstick takes the first `solved` draws, in the span of the points as ours."""
    rng = np.random.default_rng(1)
    labels = rng.choice([-1.0, 1.0], size=(n_t, len(manifolds)))
    probes = rng.normal(size=(n_t, manifolds[0].shape[1]))
    basis, triangle = np.linalg.qr(np.concatenate(manifolds).T)
    signs = np.repeat(labels, [len(m) for m in manifolds], axis=1)
    return measured(
        name,
        lambda: manifold_geometry(manifolds, labels=labels, probes=probes),
        lambda: manifold_geometry(manifolds, labels=labels, probes=probes).cone[:solved],
        lambda: (
            (s[:, None] * triangle.T, t) for s, t in zip(signs[:solved], probes[:solved] @ basis, strict=True)
        ),
        solved / n_t,
        repeats=1,
    )


def clouds(count, features, spread):
    rng = np.random.default_rng(0)
    return [rng.normal(size=features) + spread * rng.normal(size=(SIZE, features)) for _ in range(count)]


def noise(count, features):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(SIZE, features)) for _ in range(count)]


def images():
    data = rg.load_dataset("fashion-mnist", split="eval")
    pixels = data.inputs.flatten(1).double().numpy()
    return [pixels[(data.labels == c).numpy()][:SIZE] for c in range(10)]


def main():
    torch.set_num_threads(1)
    exact = dict.fromkeys(("abstol", "reltol", "feastol"), TOLERANCE)
    solvers.options.update(exact, maxiters=1_000_000, show_progress=False)
    print(
        "ours, the whole call, against the interior-point loop alone; differences of squared distances",
        flush=True,
    )
    print(
        mean_field("mean field, Gaussian noise, P=50 M=50 N=2000 n_t=300", noise(50, 2000), 300, 5),
        flush=True,
    )
    print(mean_field("mean field, Fashion-MNIST, P=10 M=50 N=784 n_t=300", images(), 300, 10), flush=True)
    print(
        together("together, Gaussian clouds, P=10 M=50 N=512 n_t=200", clouds(10, 512, 0.5), 200, 20),
        flush=True,
    )
    print(together("together, Fashion-MNIST, P=10 M=50 N=784 n_t=200", images(), 200, 20), flush=True)


if __name__ == "__main__":
    main()
