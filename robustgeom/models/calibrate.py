"""The level of a network's noise, set from given inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustgeom.errors import InputError
from robustgeom.models.noise import GaussianNoise, Noise, noise_context, noise_layers, noise_watched

__all__ = ["calibrate"]


def calibrate(model: nn.Module, inputs: Tensor, batch: int = 250) -> None:
    """Set the statistics of all noise modules to those that `inputs` (n, ...) cause at them, in eval mode.

    Afterwards the noise's variance is rho times the variance over these inputs, however the network was trained. Where
    there is noise ahead of a module, it counts, as in training: modules are set one after the other, so that it has its
    final level. Raises `InputError` on fewer than two inputs. Memory is that of one batch and two values a unit.

    >>> layer = GaussianNoise(1, rho=1.0, key="a")
    >>> calibrate(layer, torch.tensor([[0.0], [2.0], [4.0]]))
    >>> layer.variance.item()
    4.0
    """
    if len(inputs) < 2:
        raise InputError("at least two inputs", got=str(len(inputs)), fix="a few hundred images")
    training = model.training
    try:
        model.eval()
        for _ in range(max(sum(isinstance(m, GaussianNoise) for m in noise_layers(model)), 1)):
            for module, sums in _seen(model, inputs, batch).items():
                mean = sums.first / sums.rows
                variance = (sums.second - sums.first * mean) / (sums.rows - 1)
                module.follow(mean, variance.clamp(min=0))
    finally:
        model.train(training)


@dataclass
class _Sums:
    """Of the inputs of a module: how many, their sum and that of their squares, in double precision."""

    rows: int
    first: Tensor
    second: Tensor


def _seen(model: nn.Module, inputs: Tensor, batch: int) -> dict[GaussianNoise, _Sums]:
    """Pass inputs through a model, noise and all, and return what its noise modules were given."""
    found: dict[GaussianNoise, _Sums] = {}

    def watch(module: Noise, x: Tensor) -> None:
        if isinstance(module, GaussianNoise):
            x = x.double()
            sums = found.setdefault(module, _Sums(0, torch.zeros_like(x[0]), torch.zeros_like(x[0])))
            sums.rows += len(x)
            sums.first += x.sum(0)
            sums.second += x.square().sum(0)

    with torch.no_grad(), noise_watched(watch):
        for start in range(0, len(inputs), batch):
            part = inputs[start : start + batch]
            with noise_context(0, range(start, start + len(part))):
                model(part)
    return found
