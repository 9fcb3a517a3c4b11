"""A target that serves rows of no sample in particular, as attacks of other libraries send them."""

import pytest
import torch

from robustgeom.errors import InputError
from robustgeom.harness.target import Target

WEIGHT = torch.arange(12.0).view(4, 3) / 12


def forward(x):
    return x @ WEIGHT


def target(n=5, noise="none"):
    return Target(forward, range(n), noise, seed=0, classes=3)


@pytest.mark.parametrize("count", [1, 3, 5, 7, 300])
def test_any_number_of_rows_gets_the_models_answers(count):
    x = torch.rand(count, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(target().any_rows(x), forward(x))


def test_no_call_is_lost_and_none_falls_on_one_sample_alone():
    asked = target()
    for count in (1, 1, 1, 4, 6):
        asked.any_rows(torch.zeros(count, 4))
    assert int(asked.forward_calls.sum()) == 13
    assert asked.forward_calls.tolist() == [3, 3, 3, 2, 2]
    assert int(asked.backward_calls.sum()) == 0
    asked.any_rows(torch.zeros(2, 4, requires_grad=True)).sum().backward()
    assert asked.backward_calls.tolist() == [0, 0, 0, 1, 1]
    assert int(asked.forward_calls.sum()) == 15


@pytest.mark.parametrize("noise", ["keyed", "batch"])
def test_noise_that_is_drawn_for_a_sample_is_refused(noise):
    asked = target(noise=noise)
    with pytest.raises(
        InputError, match=f"deterministic model and samples, got {noise} noise; try an attack of"
    ):
        asked.any_rows(torch.zeros(1, 4))
    assert int(asked.forward_calls.sum()) == 0


def test_a_target_of_no_samples_has_nobody_to_charge():
    with pytest.raises(InputError, match="got no samples"):
        target(0).any_rows(torch.zeros(1, 4))
