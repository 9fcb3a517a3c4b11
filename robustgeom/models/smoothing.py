"""Randomized smoothing: a network behind Gaussian noise, and the radius in which its most frequent class is certain."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor, nn

from robustgeom import checks
from robustgeom.errors import InputError
from robustgeom.models.build import build
from robustgeom.models.noise import FixedNoise, noise_context, noise_layers, noise_off
from robustgeom.models.variants import ahead
from robustgeom.stats import clopper_pearson

__all__ = ["ABSTAIN", "Certificate", "Smoothed", "certify", "smoothed"]

ABSTAIN = -1
"""The prediction where no class is certain to be the most frequent one."""


class Smoothed(nn.Module):
    """A network behind Gaussian noise: one pass is one draw, base(x + sigma z) (Cohen et al. 2019, arXiv:1902.02918).

    Inputs (n, ...) to logits (n, classes). `sigma` is in the input's units: the noise comes ahead of the base's own
    normalisation, and is not clipped to the domain. The smoothed classifier is the class that most draws predict,
    which is how an evaluation judges any network with noise; `certify` bounds how far that class holds. The wrapper
    starts in the base's mode. Raises `InputError` unless sigma >= 0.

    >>> Smoothed(nn.Linear(4, 3).eval(), sigma=0.25)(torch.rand(2, 4)).shape
    torch.Size([2, 3])
    """

    def __init__(self, base: nn.Module, sigma: float, *, seed: int = 0) -> None:
        super().__init__()
        self.noise = FixedNoise(sigma, key="smoothing", seed=seed)
        self.base = base
        self.train(base.training)

    @property
    def sigma(self) -> float:
        """The noise's standard deviation, in the input's units."""
        return self.noise.sigma

    @property
    def stages(self) -> list[str] | None:
        """The base's stages, by their names here; None where it declares none."""
        declared = getattr(self.base, "stages", None)
        return [f"base.{stage}" for stage in declared] if isinstance(declared, list | tuple) else None

    @property
    def variants(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """The base's own, behind the noise."""
        own = getattr(self.base, "variants", {})
        found = own.items() if isinstance(own, Mapping) else ()
        return {name: ahead(self.noise, variant) for name, variant in found}

    def prepare(self, inputs: Tensor) -> None:
        """Show the base training inputs (n, ...) where it wants to see some before the first step."""
        if callable(method := getattr(self.base, "prepare", None)):
            method(inputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (n, classes) of one draw."""
        logits: Tensor = self.base(self.noise(x))
        return logits


def smoothed(
    *, sigma: float, base: str = "preact_resnet", base_arguments: Mapping[str, Any] | None = None
) -> Smoothed:
    """Return a new smoothed network over the architecture `base`, for a recipe to train on noisy inputs.

    `sigma` is in the input's units. Raises `UnknownNameError` and `InputError` as `build` does.

    >>> smoothed(sigma=0.25, base="cnn", base_arguments={"classes": 3}).stages
    ['base.conv1', 'base.conv2', 'base.hidden']
    """
    return Smoothed(build(base, base_arguments or {}), sigma)


@dataclass(frozen=True)
class Certificate:
    """What is certain of n inputs, each at its own level.

    `prediction` (n,) is the smoothed class, -1 where it abstains; `p_lower` (n,) a lower bound of that class's
    probability; `radius` (n,) the open L2 ball in which the class holds, in the input's units, 0 where it abstains.
    """

    prediction: Tensor
    p_lower: Tensor
    radius: Tensor


def certify(
    model: nn.Module,
    inputs: Tensor,
    *,
    draws: int = 10_000,
    selection_draws: int = 100,
    alpha: float = 0.001,
    seed: int = 0,
    ids: Sequence[int] | None = None,
    batch: int = 256,
) -> Certificate:
    """Return the smoothed class of each input and the L2 radius in which it holds (Cohen et al., arXiv:1902.02918).

    inputs: (n, ...), on the model's device. `selection_draws` choose a class; `draws` others bound its probability p
    from below (Clopper-Pearson, one-sided): a radius, sigma times the normal quantile of the bound, is wrong with
    probability `alpha` at most. Where the bound is no more than a half, the class is -1. Draws follow from
    (seed, id, draw) alone, and a sample's passes, `batch` rows each, hold no other sample. Raises `InputError` unless
    the model is `Smoothed`, in eval mode, with no other randomness than its noise.

    >>> base = nn.Linear(2, 2)
    >>> with torch.no_grad():
    ...     _ = base.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])), base.bias.zero_()
    >>> found = certify(Smoothed(base.eval(), sigma=0.5), torch.tensor([[0.5, 0.0]]), draws=1000)
    >>> found.prediction.item(), 0.4 < found.radius.item() < 0.5
    (0, True)
    """
    keys = list(range(len(inputs)) if ids is None else ids)
    network = _sound(model, inputs)
    _check_settings(draws, selection_draws, alpha, batch)
    if len(keys) != len(inputs):
        raise InputError(f"{len(inputs)} ids, one an input", got=str(len(keys)), fix="ids of these inputs")
    found = []
    for x, key in zip(inputs, keys, strict=True):
        chosen = int(_counts(network, x, range(selection_draws), seed, key, batch).argmax())
        counts = _counts(network, x, range(selection_draws, selection_draws + draws), seed, key, batch)
        found.append(_certified(chosen, int(counts[chosen]), draws, alpha, network.sigma))
    prediction, p_lower, radius = zip(*found, strict=True) if found else ((), (), ())
    return Certificate(
        torch.tensor(prediction, dtype=torch.int64),
        torch.tensor(p_lower, dtype=torch.float64),
        torch.tensor(radius, dtype=torch.float64),
    )


def _certified(chosen: int, count: int, draws: int, alpha: float, sigma: float) -> tuple[int, float, float]:
    lower = clopper_pearson(count, draws, confidence=1 - 2 * alpha).low
    return (chosen, lower, sigma * NormalDist().inv_cdf(lower)) if lower > 0.5 else (ABSTAIN, lower, 0.0)


def _counts(network: Smoothed, x: Tensor, draws: range, seed: int, key: int, batch: int) -> Tensor:
    """Return how often each class is predicted in these draws of one input (...): (classes,)."""
    parts = [draws[start : start + batch] for start in range(0, len(draws), batch)]
    return torch.stack([_votes(network, x, part, seed, key) for part in parts]).sum(0)


def _votes(network: Smoothed, x: Tensor, draws: range, seed: int, key: int) -> Tensor:
    with torch.no_grad(), noise_context(seed, [key] * len(draws), draws):
        logits = checks.logits(network(x.expand(len(draws), *x.shape)), rows=len(draws))
    return torch.bincount(logits.argmax(1), minlength=logits.shape[1]).cpu()


def _sound(model: nn.Module, inputs: Tensor) -> Smoothed:
    """Return the model; raises `InputError` where the theorem does not speak of it."""
    wanted, fix = "a network whose only randomness is the noise at its input", "Smoothed(base, sigma)"
    if not isinstance(model, Smoothed):
        raise InputError(wanted, got=type(model).__name__, fix=fix)
    checks.eval_mode(model)
    if not model.noise.active:
        raise InputError("sigma > 0", got="0", fix="sigma=0.25")
    others = [module.key for module in noise_layers(model) if module is not model.noise]
    if others:
        raise InputError(wanted, got=f"noise at {', '.join(others)} too", fix="a base without noise")
    checks.inputs(inputs, domain=(-math.inf, math.inf))
    if len(inputs) and _random(model, inputs[:1]):
        raise InputError(wanted, got="a base that draws random numbers of its own", fix="a base without")
    return model


def _random(model: Smoothed, x: Tensor) -> bool:
    """Return whether the base draws or answers twice differently; the caller's random stream stays as it was."""
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), noise_off():
        before = [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in devices)]
        first, second = _answer(model, x), _answer(model, x)
        after = [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in devices)]
    drew = any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    return drew or not torch.equal(first, second)


def _answer(model: Smoothed, x: Tensor) -> Tensor:
    try:
        answer: Tensor = model(x)
    except RuntimeError as error:
        got = f"shape {tuple(x.shape[1:])}: {str(error).partition(chr(10))[0]}"
        raise InputError("inputs that the model takes", got=got, fix="the shape it was trained on") from error
    return answer


def _check_settings(draws: int, selection_draws: int, alpha: float, batch: int) -> None:
    for name, value in {"draws": draws, "selection_draws": selection_draws, "batch": batch}.items():
        if value < 1:
            raise InputError(f"{name} >= 1", got=str(value), fix=f"{name}=100")
    if not 0 < alpha < 0.5:
        raise InputError("0 < alpha < 0.5", got=str(alpha), fix="alpha=0.001")
