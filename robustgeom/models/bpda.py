"""Backward pass differentiable approximation: a gradient for a step of a defense that has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["bpda"]


class _Replaced(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Callable[[Tensor], Tensor], stand_in: Any) -> Tensor:
        ctx.save_for_backward(x)
        ctx.stand_in = stand_in
        with torch.no_grad():
            return step(x.detach().clone())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        if ctx.stand_in is None:
            return grads[0], None, None
        with torch.enable_grad():
            leaf = ctx.saved_tensors[0].detach().requires_grad_(True)
            value = ctx.stand_in(leaf)
            return torch.autograd.grad(value, leaf, grads[0])[0], None, None


def bpda(
    step: Callable[[Tensor], Tensor], stand_in: Callable[[Tensor], Tensor] | None = None
) -> Callable[[Tensor], Tensor]:
    """Return `step` with the gradient of `stand_in`, or of the identity (Athalye et al. 2018, arXiv:1802.00420).

    step: from tensors to tensors, without a useful gradient: rounding, JPEG, a hard gate. stand_in: a
    differentiable function of the same shapes that resembles it; without one `step` must keep shapes. Use it in a
    model's mapping `variants`, and name the variant as `source` of an attack: success is judged on the model itself.

    >>> x = torch.tensor([0.3, 0.8], requires_grad=True)
    >>> rounded = bpda(torch.round)(x)
    >>> rounded.sum().backward()
    >>> rounded.tolist(), x.grad.tolist()
    ([0.0, 1.0], [1.0, 1.0])
    """

    def replaced(x: Tensor) -> Tensor:
        found: Tensor = _Replaced.apply(x, step, stand_in)  # type: ignore[no-untyped-call]
        return found

    return replaced
