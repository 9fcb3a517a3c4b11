"""What manifold geometry refuses, and in which words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robustgeom.errors import InputError, UnknownNameError
from robustgeom.geometry import manifold_geometry


def clouds(counts=(5,) * 5, features=40):
    rng = np.random.default_rng(0)
    return [rng.normal(size=features) + rng.normal(size=(m, features)) for m in counts]


REFUSALS = [
    ({"manifolds": clouds()[:1]}, "2 manifolds or more, got 1"),
    ({"manifolds": []}, "2 manifolds or more, got 0"),
    ({"manifolds": [*clouds()[:2], clouds(features=5)[0]]}, r"equally many features.*\[5, 40\]"),
    ({"manifolds": [*clouds()[:2], np.full((2, 40), np.nan)]}, "finite numbers in manifold 2"),
    ({"manifolds": [*clouds()[:2], np.zeros((0, 40))]}, "manifold 2 of shape"),
    (
        {"manifolds": [np.zeros((2, 40))] * 2},
        "points that differ from the origin, got none; try another stage",
    ),
    ({"manifolds": [np.full((2, 40), 0.3)] * 2, "centering": "global"}, "points that differ from the origin"),
    ({"manifolds": [np.full((2, 40), 0.3)] * 2, "centering": "affine"}, "points that differ from the origin"),
    ({"manifolds": [np.eye(40), -np.eye(40)], "centering": "affine"}, "mean that differs from the origin"),
    (
        {"manifolds": [np.eye(40) + 1e-8, -np.eye(40)], "centering": "affine"},
        "mean that differs from the origin",
    ),
    ({"labels": np.ones(5)}, "labels of both signs, got all equal"),
    ({"labels": -np.ones((20, 5))}, "labels of both signs"),
    ({"labels": np.ones(4)}, r"labels of shape \(5,\) or \(20, 5\), got \(4,\)"),
    ({"labels": np.ones((19, 5))}, r"labels of shape \(5,\) or \(20, 5\), got \(19, 5\)"),
    ({"labels": np.array([0, 1, 0, 1, 1])}, "labels of 1 and -1"),
    ({"labels": torch.tensor([True, False, True, False, True])}, "labels of 1 and -1"),
    ({"labels": np.array([1, -1, 1, -1, np.nan])}, "finite numbers in labels"),
    ({"n_t": 1}, "n_t >= 2 probes, got 1"),
    ({"n_t": 0}, "n_t >= 2 probes, got 0"),
    ({"n_t": -3}, "n_t >= 2 probes, got -3"),
    ({"n_t": 1, "labels": np.ones((20, 5))}, "n_t >= 2 probes"),
    ({"probes": np.ones((1, 40))}, "n_t >= 2 probes, got 1"),
    ({"probes": np.ones((20, 39))}, r"probes of 40 features, got shape \(20, 39\)"),
    ({"probes": np.ones((20, 40)), "centering": "affine"}, "41 features, the last for the constant"),
    ({"probes": np.ones(40)}, "probes of shape"),
    ({"probes": np.full((20, 40), np.inf)}, "finite numbers in probes"),
    ({"kappa": -0.1}, "kappa >= 0"),
    ({"kappa": np.nan}, "kappa >= 0"),
    ({"kappa": 0.1, "manifolds": clouds(counts=(21, 21))}, "linearly independent points for a margin"),
    ({"kappa": 0.1, "manifolds": [clouds()[0]] * 2}, "linearly independent points for a margin"),
    ({"kappa": 0.1, "centering": "global"}, "linearly independent points for a margin"),
]


@pytest.mark.parametrize(("change", "words"), REFUSALS)
def test_bad_input_is_refused(change, words):
    arguments = {"manifolds": clouds(), "n_t": 20} | change
    with pytest.raises(InputError, match=words):
        manifold_geometry(arguments.pop("manifolds"), **arguments)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": "unifrom"}, "a known label ensemble, got 'unifrom'; try uniform"),
        ({"labels": "one-vs-all"}, "a known label ensemble, got 'one-vs-all'; try one-vs-rest"),
        ({"centering": "globl"}, "a known centering, got 'globl'; try global"),
        ({"anchors": "suport"}, "a known anchor convention, got 'suport'; try support"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(change, words):
    with pytest.raises(UnknownNameError, match=words):
        manifold_geometry(clouds(), **change)
