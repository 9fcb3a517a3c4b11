"""Nuclear norm of centroids: recorded numbers, and cases that can be worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robustgeom.errors import InputError
from robustgeom.geometry import nuclear_norm_measure

DATA = Path(__file__).parent / "data" / "mmcr" / "centroids.npz"
CASES = ["B16_n2_D8_l0", "B16_n4_D32_l0", "B12_n8_D24_l0p1", "B8_n3_D20_l1"]


def recorded(name):
    with np.load(DATA) as stored:
        return {k.removeprefix(name + "_"): stored[k] for k in stored.files if k.startswith(name + "_")}


@pytest.mark.parametrize("name", CASES)
def test_recorded_norms(name):
    case = recorded(name)
    expected = float(case["global_nuc"] / case["bound_nuc_centroid"])
    assert nuclear_norm_measure(case["z"].reshape(case["B_n_D"])) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("name", "images"), [("perfect_B8_D16", 8), ("perfect_B32_D16", 32)])
def test_recorded_perfect_cases_reach_one(name, images):
    case = recorded(name)
    assert nuclear_norm_measure(case["z"].reshape(images, -1, 16)) == pytest.approx(1, rel=1e-10)


def test_equal_views_with_orthogonal_or_tight_centroids_reach_one():
    frame = np.vstack([np.eye(3), -np.eye(3)])
    assert nuclear_norm_measure(frame[:3, None].repeat(4, axis=1)) == pytest.approx(1)
    assert nuclear_norm_measure(frame[:, None].repeat(2, axis=1)) == pytest.approx(1)


@pytest.mark.parametrize("angle", [0.3, 1.0, 1.5])
def test_views_at_an_angle_shorten_orthogonal_centroids_by_its_half(angle):
    plane = np.array([[np.cos(angle / 2), np.sin(angle / 2)], [np.cos(angle / 2), -np.sin(angle / 2)]])
    views = np.zeros((5, 2, 10))
    for i in range(5):
        views[i, :, 2 * i : 2 * i + 2] = plane
    assert nuclear_norm_measure(views) == pytest.approx(np.cos(angle / 2))


def test_one_direction_for_all_images_and_opposite_views():
    assert nuclear_norm_measure(np.ones((9, 2, 16))) == pytest.approx(1 / 3)
    assert nuclear_norm_measure(np.array([[[1.0, 2.0], [-1.0, -2.0]]])) == pytest.approx(0, abs=1e-15)


def test_length_rotation_and_tensors_change_nothing():
    rng = np.random.default_rng(0)
    views = rng.normal(size=(6, 3, 8))
    rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    plain = nuclear_norm_measure(views)
    assert nuclear_norm_measure(views @ rotation * rng.uniform(0.1, 9, (6, 3, 1))) == pytest.approx(plain)
    assert nuclear_norm_measure(torch.from_numpy(views).float().requires_grad_()) == pytest.approx(
        plain, rel=1e-5
    )
    assert nuclear_norm_measure(1e-200 * views) == pytest.approx(plain)


@pytest.mark.parametrize(
    ("views", "words"),
    [
        (np.ones((3, 4)), "images, views, features"),
        (np.ones((3, 0, 4)), "images, views, features"),
        (np.full((2, 2, 2), np.nan), "4 NaN|8 NaN"),
        (np.zeros((2, 2, 2)), "a zero one"),
    ],
)
def test_bad_views_are_refused(views, words):
    with pytest.raises(InputError, match=words):
        nuclear_norm_measure(views)
