"""A ReLU network whose gates can be frozen: a gated linear network with gates that training chose."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from robustgeom.models.gln import GLN
from robustgeom.models.variants import SoftGates

__all__ = ["GatedReLU"]


class GatedReLU(nn.Module):
    """One layer of `hidden` units without biases, w_h x where v_h x > 0, and a linear read-out without bias.

    Images (n, channels, size, size) in [0, 1], brought to [-1, 1] with a constant 1, to logits (n, classes); two
    classes share one output f, with logits -f/2 and f/2. As built v is w, a plain ReLU network; `freeze` keeps v as it
    stands, and makes the gates hard. The variant soft-gates has them rise over a width, in standard deviations of v x.

    >>> GatedReLU(hidden=8, classes=2).eval()(torch.rand(3, 1, 28, 28)).shape
    torch.Size([3, 2])
    """

    gate: Tensor
    frozen: Tensor
    spread: Tensor

    def __init__(self, *, channels: int = 1, size: int = 28, classes: int = 10, hidden: int = 100) -> None:
        super().__init__()
        self.layer = nn.Linear(channels * size**2 + 1, hidden, bias=False)
        self.readout = nn.Linear(hidden, 1 if classes == 2 else classes, bias=False)
        self.register_buffer("gate", torch.zeros_like(self.layer.weight))
        self.register_buffer("frozen", torch.tensor(False))
        self.register_buffer("spread", torch.ones(hidden))

    stages: tuple[str, ...] = ("layer",)

    @torch.no_grad()
    def freeze(self, inputs: Tensor) -> None:
        """Keep the gates as they are; inputs (n, ...) say how wide soft ones are."""
        self.gate.copy_(self.layer.weight)
        self.spread.copy_(self._drive(GLN.features(inputs)).std(0, correction=0))
        self.frozen.fill_(True)

    @property
    def variants(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Soft gates, once they are frozen: a ReLU is continuous and needs none."""
        return {"soft-gates": SoftGates(self._soft)} if bool(self.frozen) else {}

    def _drive(self, z: Tensor) -> Tensor:
        return nn.functional.linear(z, self.gate if bool(self.frozen) else self.layer.weight)

    def _soft(self, x: Tensor, width: float) -> Tensor:
        z = GLN.features(x)
        gates = torch.sigmoid(self._drive(z) / (width * self.spread).clamp_min(1e-12))
        return self._out(self.layer(z) * gates)

    def _out(self, a: Tensor) -> Tensor:
        f: Tensor = self.readout(a)
        return torch.cat([-f / 2, f / 2], 1) if f.shape[1] == 1 else f

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes)."""
        z = GLN.features(x)
        return self._out(self.layer(z) * (self._drive(z) > 0))
