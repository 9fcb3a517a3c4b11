"""Variants of a model: callables that share its weights and serve attacks as gradient sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from torch import Tensor, nn

from robustgeom.errors import InputError, unknown
from robustgeom.models.noise import has_noise, noise_frozen, noise_off

__all__ = ["SoftGates", "ahead", "variant", "variant_names"]


@dataclass(frozen=True)
class SoftGates:
    """A variant whose hard gates rise over a width, which attacks narrow from `widest` to `narrowest` as they climb.

    `forward` takes inputs (n, ...) and a width, in standard deviations of what the gates look at, and returns logits
    (n, classes). Which width guides an attack best depends on the network and on the radius; narrowing, by the same
    factor each step, passes them all (graduated non-convexity, Blake and Zisserman 1987). Called by itself, gates are
    `width` wide. Raises `InputError` on widths that are not above 0, and where `narrowest` is the wider one.

    >>> import torch
    >>> step = SoftGates(lambda x, width: torch.sigmoid(x / width))
    >>> float(step.narrowed(0.0)(torch.ones(()))), float(step.narrowed(1.0)(torch.ones(())))
    (0.8807970285415649, 1.0)
    """

    forward: Callable[[Tensor, float], Tensor]
    width: float = 0.05
    widest: float = 0.5
    narrowest: float = 0.005

    def __post_init__(self) -> None:
        if not 0 < self.narrowest <= self.widest or not self.width > 0:
            got = f"width={self.width}, widest={self.widest}, narrowest={self.narrowest}"
            raise InputError("widths above 0, narrowest <= widest", got=got, fix="the defaults")

    def __call__(self, x: Tensor) -> Tensor:
        """Return logits (n, classes) at `width`."""
        return self.forward(x, self.width)

    def narrowed(self, share: float) -> SoftGates:
        """Return the variant as it is when an attack has gone `share` of its way: in [0, 1]."""
        return replace(self, width=self.widest * (self.narrowest / self.widest) ** share)


def ahead(
    change: Callable[[Tensor], Tensor], variant: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    """Return the variant of inputs that `change` first; soft gates stay ones that attacks narrow."""
    if isinstance(variant, SoftGates):
        return replace(variant, forward=lambda x, width: variant.forward(change(x), width))
    return lambda x: variant(change(x))


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
    mapping `variants` from names to callables (`SoftGates` where it has hard ones). Raises `UnknownNameError` for a
    variant it does not have.

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
