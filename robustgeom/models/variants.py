"""Variants of a model: callables that share its weights and serve attacks as gradient sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from torch import Tensor, nn

from robustgeom.errors import InputError, unknown
from robustgeom.models.noise import has_noise, noise_frozen, noise_off

__all__ = ["variant", "variant_names"]


def variant_names(model: nn.Module) -> list[str]:
    """Return the variants that `model` has: those of its noise layers, and those in its own `variants` mapping.

    >>> variant_names(nn.Linear(1, 1))
    []
    """
    own = getattr(model, "variants", {})
    noise = ["noise-frozen:SEED", "noise-off"] if has_noise(model) else []
    return sorted([*noise, *(own if isinstance(own, Mapping) else [])])


def variant(model: nn.Module, name: str) -> Callable[[Tensor], Tensor]:
    """Return the variant `name` of `model`, a callable from inputs (n, ...) to logits (n, classes).

    noise-off and noise-frozen:SEED exist for models with our noise layers; a model may declare more in a
    mapping `variants` from names to callables. Raises `UnknownNameError` for a variant it does not have.

    >>> from robustgeom.models.noise import GaussianNoise
    >>> import torch
    >>> variant(GaussianNoise(1, rho=1.0, key="a"), "noise-off")(torch.ones(1, 1)).item()
    1.0
    """
    known = variant_names(model)
    kind, _, seed = name.partition(":")
    if name == "noise-off" and name in known:
        return _within(model, noise_off)
    if kind == "noise-frozen" and "noise-frozen:SEED" in known:
        if not seed.isdigit():
            raise InputError("noise-frozen:SEED with a whole number", got=repr(name), fix="noise-frozen:0")
        return _within(model, lambda: noise_frozen(int(seed)))
    if name in known:
        own: Mapping[str, Callable[[Tensor], Tensor]] = model.variants  # type: ignore[assignment]
        return own[name]
    raise unknown("variant of this model", name, known or ["none: it declares no variants"])


def _within(
    model: nn.Module, context: Callable[[], AbstractContextManager[None]]
) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        with context():
            logits: Tensor = model(x)
            return logits

    return forward
