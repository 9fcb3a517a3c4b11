"""Layer-wise adaptive rate scaling: steps as long as the weights that they move."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["LARS"]


class LARS(Optimizer):
    """SGD with momentum whose step in each matrix is scaled to its norm (You et al. 2017, arXiv:1708.03888).

    A gradient g plus `weight_decay` times the weights w is scaled by `trust` |w| / |g + decay w|, and enters the
    momentum; vectors (biases, batch norm) are neither decayed nor scaled.

    >>> weight = torch.nn.Parameter(torch.eye(2))
    >>> weight.grad = torch.full((2, 2), 1e-6)
    >>> LARS([weight], lr=1.0, weight_decay=0.0).step()
    >>> round(((torch.eye(2) - weight.detach()).norm() / torch.eye(2).norm()).item(), 6)
    0.001
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        trust: float = 0.001,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move all weights that have a gradient."""
        del closure
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    state = self.state[weight]
                    kept = state.get("momentum")
                    change = _scaled(weight, group)
                    state["momentum"] = (
                        change.clone() if kept is None else kept.mul_(group["momentum"]).add_(change)
                    )
                    weight.sub_(state["momentum"], alpha=group["lr"])


def _scaled(weight: Tensor, group: dict[str, Any]) -> Tensor:
    slope = weight.grad
    assert slope is not None
    if weight.dim() < 2:
        return slope
    change: Tensor = slope + group["weight_decay"] * weight
    norms = float(weight.norm()), float(change.norm())
    return change * (group["trust"] * norms[0] / norms[1]) if all(norms) else change
