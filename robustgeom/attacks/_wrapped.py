"""Any callable as the module in eval mode that other libraries ask for, out of their reach."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from robustgeom import checks
from robustgeom.attacks._oracle import Model
from robustgeom.errors import InputError

__all__ = ["Wrapped"]


class Wrapped(nn.Module):
    """The callable `ask` as a module in eval mode that computes in float32 and tells where it lives."""

    def __init__(self, ask: Model, like: Tensor) -> None:
        super().__init__()
        # In a tuple, or a model that is a module would be a part, whose mode the library sets.
        self.ask, self.dtype = (ask,), like.dtype
        self.place = nn.Parameter(torch.zeros(1, device=like.device), requires_grad=False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (k, classes) of inputs (k, ...)."""
        if x.requires_grad and torch.is_grad_enabled():
            logits: Tensor = _ForInputs.apply(x, self._logits)  # type: ignore[no-untyped-call]
            return logits
        with torch.no_grad():
            return self._logits(x.detach()).clone()  # Square writes into it

    def _logits(self, x: Tensor) -> Tensor:
        return checks.logits(self.ask[0](x.to(self.dtype)), rows=len(x)).float()


class _ForInputs(torch.autograd.Function):
    """Logits whose gradient ends at the inputs: what the library does backward never reaches a weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ask: Model) -> Tensor:
        """Return the logits, and keep their graph."""
        with torch.enable_grad():
            ctx.leaf = x.detach().requires_grad_()
            logits = ctx.logits = ask(ctx.leaf)
        return logits.detach().clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> tuple[Tensor, None]:
        """Return the gradient with respect to the inputs alone."""
        found: Tensor | None = None
        if ctx.logits.requires_grad:
            found = torch.autograd.grad(ctx.logits, ctx.leaf, slopes, retain_graph=True, allow_unused=True)[0]
        if found is None:
            wanted, fix = "logits that depend on the inputs differentiably", "a gradient-free attack"
            raise InputError(wanted, got="logits without a gradient", fix=fix)
        return found, None
