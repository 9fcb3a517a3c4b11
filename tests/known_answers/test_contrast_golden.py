"""Losses of learning without labels against those of a kept-up library, and their slopes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from robustgeom.training.barlow_twins import _redundancy
from robustgeom.training.mmcr import capacity_loss
from robustgeom.training.simclr import _contrast

OURS = {
    "simclr": partial(_contrast, temperature=0.5),
    "barlow_twins": partial(_redundancy, weight=0.005),
    "mmcr": partial(capacity_loss, views=2),
}


@pytest.mark.parametrize("name", OURS)
def test_losses_and_slopes_are_the_librarys(name):
    with np.load(Path(__file__).parent / "data" / "contrast" / "losses.npz") as file:
        stored = dict(file)
    z = torch.from_numpy(stored["z"]).requires_grad_()
    loss = OURS[name](z)
    assert loss.item() == pytest.approx(float(stored[name]), rel=1e-12)
    slope = torch.autograd.grad(loss, z)[0].numpy()
    np.testing.assert_allclose(slope, stored[f"{name}_grad"], rtol=1e-9, atol=1e-13)
