"""Losses over the frames of waves against recorded numbers, gradients and pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robustgeom.training.wave_contrast import _contrast
from robustgeom.training.wave_mmcr import _capacity_loss

DATA = Path(__file__).parent / "data" / "waves" / "wave_losses.npz"
CASES = {"chop0_fs1": (False, 1), "chop1_fs1": (True, 1), "chop1_fs2": (True, 2)}


@pytest.fixture(scope="module")
def stored():
    with np.load(DATA) as file:
        return dict(file)


@pytest.fixture(scope="module")
def frames(stored):
    waves = np.repeat(np.arange(len(stored["wave_lengths"])), stored["wave_lengths"])
    return torch.from_numpy(stored["z"]).double(), torch.from_numpy(waves)


@pytest.mark.parametrize("case", CASES)
def test_contrasts_and_their_gradients_are_the_recorded_ones(stored, frames, case):
    (z, waves), (chopped, separation) = frames, CASES[case]
    z = z.clone().requires_grad_()
    loss = _contrast(z, waves, waves, separation=separation, temperature=0.5, chopped=chopped)
    assert loss.item() == pytest.approx(float(stored[f"simclr_{case}"]), rel=1e-6)
    slope = torch.autograd.grad(loss, z)[0].numpy()
    np.testing.assert_allclose(slope, stored[f"simclr_{case}_grad"], rtol=1e-4, atol=1e-7)


def test_waves_of_one_length_are_the_recorded_blocks(stored):
    blocks = torch.arange(4).repeat_interleave(5)
    z = torch.from_numpy(stored["z_fixed_B4_n5"])
    loss = _contrast(z, blocks, blocks, separation=1, temperature=0.5, chopped=False)
    assert loss.item() == pytest.approx(float(stored["simclr_fixed"]), rel=1e-6)


@pytest.mark.parametrize(
    ("case", "settings"),
    [
        ("implicit1_nuclear_norm", {"lmbda": 0.0, "pairs": False}),
        ("implicit0_nuclear_norm", {"lmbda": 0.1, "pairs": False}),
        ("implicit0_dot_product", {"lmbda": 0.1, "pairs": True}),
    ],
)
def test_capacities_are_the_recorded_ones(stored, frames, case, settings):
    found = _capacity_loss(*frames, **settings).item()
    assert found == pytest.approx(float(stored[f"mmcr_{case}"]), rel=1e-6)
