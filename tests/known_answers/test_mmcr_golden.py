"""Maximum manifold capacity, LARS, the moving average and the neighbour monitor against recorded numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robustgeom.training.lars import LARS
from robustgeom.training.mmcr import capacity_loss
from robustgeom.training.neighbours import neighbour_votes

DATA = Path(__file__).parent / "data" / "mmcr"
CASES = ("B12_n8_D24_l0p1", "B16_n2_D8_l0", "B16_n4_D32_l0", "B32_n40_D16_l0", "B8_n3_D20_l1")


@pytest.fixture(scope="module")
def stored():
    with np.load(DATA / "loss_cases.npz") as file:
        return dict(file)


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_the_recorded_ones(stored, case, other):
    z = torch.from_numpy(stored[f"{case}_z"]).requires_grad_()
    views, weight = int(stored[f"{case}_B_n_D"][1]), float(stored[f"{case}_lmbda"])
    second, end = (torch.from_numpy(stored[f"{case}_z_mom"]), "_momentum") if other else (None, "")
    loss = capacity_loss(z, views, weight, second)
    assert loss.item() == pytest.approx(float(stored[f"{case}_loss{end}"]), rel=1e-10)
    slope = torch.autograd.grad(loss, z)[0].numpy()
    np.testing.assert_allclose(slope, stored[f"{case}_grad_z{end}"], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("case", ["perfect_B32_D16", "perfect_B8_D16"])
def test_perfect_embeddings_reach_the_bound(stored, case):
    z = torch.from_numpy(stored[f"{case}_z"])
    images, width = (int(part[1:]) for part in case.split("_")[1:])
    loss = capacity_loss(z, len(z) // images).item()
    assert loss == pytest.approx(float(stored[f"{case}_loss"]), rel=1e-10)
    assert -loss == pytest.approx((images * min(images, width)) ** 0.5, rel=1e-10)


def test_rows_of_the_second_network_that_are_not_finite_are_left_out():
    z = torch.randn(8, 5, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    other = z.clone()
    other[2] = torch.nan
    left = torch.cat([z[:2], z[4:]])
    assert capacity_loss(z, 2, 0.0, other).item() == pytest.approx(capacity_loss(left, 2).item())


def test_steps_and_their_moving_average_are_the_recorded_ones():
    with np.load(DATA / "lars_ema.npz") as file:
        steps = dict(file)
    weights = [nn.Parameter(torch.from_numpy(steps[f"p{i}_step0"])) for i in range(5)]
    average = [w.detach().clone() for w in weights]
    optimiser = LARS(weights, lr=4.8)
    for step in (1, 2, 3):
        for i, weight in enumerate(weights):
            weight.grad = torch.from_numpy(steps[f"g{i}_step{step}"])
        optimiser.step()
        average = [a.lerp(w.detach(), 1 - 0.99) for a, w in zip(average, weights, strict=True)]
        for i in range(5):
            np.testing.assert_allclose(weights[i].detach().numpy(), steps[f"p{i}_step{step}"], rtol=1e-10)
            np.testing.assert_allclose(
                average[i].numpy(), steps[f"ema{i}_step{step}"], rtol=1e-10, atol=1e-14
            )


def test_neighbours_score_as_recorded():
    with np.load(DATA / "knn.npz") as file:
        bank, known, queries, labels = (
            torch.from_numpy(file[name])
            for name in ("memory_feat", "memory_label", "test_feat", "test_label")
        )
        scores = float(file["top1"]), float(file["top5"])
    votes = neighbour_votes(bank, known, queries, classes=int(known.max()) + 1)
    right = votes.topk(5).indices == labels[:, None]
    assert (100 * right[:, 0].double().mean().item(), 100 * right.any(1).double().mean().item()) == scores
