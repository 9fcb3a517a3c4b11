"""Gated linear networks: linear units with a weight vector a context, which fixed hyperplanes of the input choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from robustgeom.errors import InputError
from robustgeom.models.variants import SoftGates
from robustgeom.threat import Norm

__all__ = ["GLN", "GatedLinear"]

_SIDE = 36.0  # standard deviations of hyperplanes and thresholds in the source
_OFFSET = 9.0
_UNIT = 2e-6  # relative: what sums of a thousand numbers in single precision are off by, and some more


class GatedLinear(nn.Module):
    """Units with a weight vector for each context, which `hyperplanes` fixed random ones of the network's input tell.

    Bit j of unit h is 1 where u_hj z > beta_hj for input features z (n, given); the first is the most significant.
    Hard gates: no gradient passes them. `soft` has each bit rise over a width, in standard deviations of u z over the
    inputs that the network was prepared on, and mixes the contexts. Thresholds are buffers, so that weights carry them.

    >>> GatedLinear(4, 3, given=4)(torch.rand(2, 4), torch.rand(2, 4)).shape
    torch.Size([2, 3])
    """

    sides: Tensor
    thresholds: Tensor
    spread: Tensor

    def __init__(
        self,
        features: int,
        units: int,
        *,
        given: int,
        hyperplanes: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if hyperplanes < 0:
            raise InputError("hyperplanes >= 0", got=str(hyperplanes), fix="hyperplanes=1")
        self.units, self.contexts = units, 2**hyperplanes
        self.weight = nn.Parameter(torch.empty(units * self.contexts, features))
        nn.init.orthogonal_(self.weight)
        self.bias = nn.Parameter(torch.zeros(units * self.contexts)) if bias else None
        self.register_buffer("sides", torch.randn(units, hyperplanes, given) * _SIDE)
        self.register_buffer("thresholds", torch.randn(units, hyperplanes) * _OFFSET)
        self.register_buffer("spread", torch.ones(units, hyperplanes))

    def extra_repr(self) -> str:
        """Return what neither weights nor buffers say."""
        return f"units={self.units}, contexts={self.contexts}"

    def drive(self, z: Tensor) -> Tensor:
        """Return how far inputs z (n, given) lie beyond each hyperplane: (n, units, hyperplanes)."""
        return torch.einsum("ng,uhg->nuh", z, self.sides) - self.thresholds

    def context(self, z: Tensor) -> Tensor:
        """Return the context of each unit, in 0 to contexts - 1: (n, units)."""
        bits = (self.drive(z) > 0).long()
        powers = 2 ** torch.arange(bits.shape[2] - 1, -1, -1, device=z.device)
        return (bits * powers).sum(2)

    @torch.no_grad()
    def prepare(self, z: Tensor, *, median: bool) -> None:
        """Remember how inputs z (n, given) spread along hyperplanes; thresholds at their medians balance contexts.

        Raises `InputError` on inputs that are not finite.
        """
        if not bool(z.isfinite().all()):
            raise InputError(
                "finite inputs to prepare on", got="NaN or infinite ones", fix="leaving them out"
            )
        if not self.thresholds.numel():
            return
        along = torch.einsum("ng,uhg->nuh", z, self.sides)
        self.spread.copy_(along.std(0, correction=0))
        if median:
            self.thresholds.copy_(along.quantile(0.5, dim=0))

    def _every(self, x: Tensor) -> Tensor:
        """Return what each context would put out: (n, units, contexts)."""
        return nn.functional.linear(x, self.weight, self.bias).view(len(x), self.units, self.contexts)

    def soft(self, x: Tensor, z: Tensor, width: float) -> Tensor:
        """Return the outputs (n, units) with contexts mixed, as bits rise over `width` standard deviations."""
        on = torch.sigmoid(self.drive(z) / (width * self.spread).clamp_min(1e-12))
        shares = torch.ones(len(x), self.units, 1, dtype=x.dtype, device=x.device)
        for bit in on.unbind(2):  # the first is the most significant
            shares = torch.stack([shares * (1 - bit[..., None]), shares * bit[..., None]], 3).flatten(2)
        return (self._every(x) * shares).sum(2)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Return the outputs (n, units) for x (n, features), gated by z (n, given)."""
        return self._every(x).gather(2, self.context(z)[..., None]).squeeze(2)


class GLN(nn.Module):
    """A gated linear network (arXiv:2202.02649): `hidden` gated units a layer, then a read-out without gates.

    Images (n, channels, size, size) in [0, 1], brought to [-1, 1] with a constant 1, to logits (n, classes). Without
    `hidden` it is shallow: the output units themselves are gated. Two classes share one output f, with logits -f/2 and
    f/2. Each unit has `hyperplanes`; with `median` their thresholds split the training images in half. Gates are hard:
    the variant soft-gates has them rise over a width. A network of one hidden layer, or none, knows a radius within
    which its prediction is certain (`certified_radius`).

    >>> GLN(hidden=(8,), classes=2).eval()(torch.rand(3, 1, 28, 28)).shape
    torch.Size([3, 2])
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        size: int = 28,
        classes: int = 10,
        hidden: Sequence[int] = (100,),
        hyperplanes: int = 1,
        median: bool = True,
    ) -> None:
        super().__init__()
        if classes < 2 or size < 1 or min(hidden, default=1) < 1:
            got = f"classes={classes}, size={size}, hidden={tuple(hidden)}"
            raise InputError(
                "two classes or more, and layers with units", got=got, fix="classes=2, hidden=(100,)"
            )
        given, outputs = channels * size**2 + 1, 1 if classes == 2 else classes
        self.median = median
        widths = [given, *hidden] if hidden else [given]
        units = list(hidden) if hidden else [outputs]
        common = {"given": given, "hyperplanes": hyperplanes}
        self.gated = nn.ModuleList(
            GatedLinear(f, u, bias=i > 0, **common)
            for i, (f, u) in enumerate(zip(widths, units, strict=False))
        )
        self.readout = nn.Linear(units[-1], outputs) if hidden else nn.Identity()

    @property
    def stages(self) -> tuple[str, ...]:
        """The gated layers."""
        return tuple(f"gated.{i}" for i in range(len(self.gated)))

    @property
    def variants(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Soft gates, through which gradients see where contexts change; none of a network without hyperplanes."""
        return (
            {"soft-gates": SoftGates(self._soft)} if any(layer.contexts > 1 for layer in self.layers) else {}
        )

    @staticmethod
    def features(x: Tensor) -> Tensor:
        """Return pixels in [-1, 1] and a constant 1, flat: (n, features)."""
        flat = (2 * x - 1).flatten(1)
        return torch.cat([flat, torch.ones_like(flat[:, :1])], 1)

    def prepare(self, inputs: Tensor) -> None:
        """Set the gates by training inputs (n, ...), before the first step."""
        z = self.features(inputs)
        for layer in self.layers:
            layer.prepare(z, median=self.median)

    def decision(self, x: Tensor) -> Tensor:
        """Return the outputs (n, 1) for two classes, or (n, classes)."""
        z = a = self.features(x)
        for layer in self.layers:
            a = layer(a, z)
        out: Tensor = self.readout(a)
        return out

    def _soft(self, x: Tensor, width: float) -> Tensor:
        z = a = self.features(x)
        for layer in self.layers:
            a = layer.soft(a, z, width)
        return _logits(self.readout(a))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes)."""
        return _logits(self.decision(x))

    @property
    def layers(self) -> list[GatedLinear]:
        """The gated layers."""
        return [layer for layer in self.gated if isinstance(layer, GatedLinear)]

    @property
    def certified_norm(self) -> Norm:
        """The norm of certified radii; no attribute of networks with more than one gated layer, which have none."""
        if len(self.gated) > 1:
            raise AttributeError("certified_norm")
        return "linf"

    def active(self, x: Tensor) -> Tensor:
        """Return the weights (n, outputs, features) that a network of one gated layer applies to x's features."""
        (layer,) = self.layers
        every = layer.weight.view(layer.units, layer.contexts, -1)
        chosen = every[torch.arange(layer.units, device=x.device), layer.context(self.features(x))]
        if isinstance(self.readout, nn.Identity):
            return chosen
        return torch.einsum("ou,nuf->nof", self.readout.weight, chosen)

    @torch.no_grad()
    def certified_radius(self, x: Tensor) -> Tensor:
        """Return the linf radius (n,), in pixels, within which the prediction is certain.

        Inside it no hyperplane is crossed and no linear piece changes sign: the smaller of margin over the l1 norm of
        its slope, and distance to the nearest hyperplane, both less what single precision may round them by. Small
        where there are many hyperplanes. Raises `InputError` for more than one gated layer.
        """
        if len(self.gated) > 1:
            got = f"{len(self.gated)} gated layers"
            raise InputError("one gated layer", got=got, fix="a network with hidden=(units,) or ()")
        z = self.features(x).double()
        slopes, offsets = self._pieces(x)
        f = torch.einsum("nof,nf->no", slopes, z) + offsets
        rounded = _UNIT * (torch.einsum("nof,nf->no", slopes.abs(), z.abs()) + offsets.abs())
        if f.shape[1] == 1:
            slopes, f = torch.cat([-slopes, slopes], 1) / 2, torch.cat([-f, f], 1) / 2
            rounded = rounded.expand(-1, 2) / 2
        top = f.argmax(1, keepdim=True)
        margin = f.gather(1, top) - f - rounded.gather(1, top) - rounded
        # Features move twice as far as pixels, and the constant does not move.
        steep = 2 * (slopes.gather(1, top[..., None].expand(-1, 1, slopes.shape[2])) - slopes)[
            :, :, :-1
        ].abs().sum(2)
        piece = (margin / steep.clamp_min(1e-300)).scatter(1, top, torch.inf).amin(1)
        gate = self._to_gates(z)
        radius = piece if gate is None else torch.minimum(piece, gate)
        return radius.clamp_min(0)

    def _pieces(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return slopes (n, outputs, features) and offsets (outputs,) of the linear piece that each input lies on."""
        if isinstance(self.readout, nn.Linear):
            return self.active(x).double(), self.readout.bias.double()
        slopes = self.active(x).double()
        return slopes, slopes.new_zeros(slopes.shape[1])

    def _to_gates(self, z: Tensor) -> Tensor | None:
        """Return how far, in pixels, inputs are from the nearest hyperplane: (n,), None without hyperplanes."""
        (layer,) = self.layers
        if not layer.thresholds.numel():
            return None
        sides, thresholds = layer.sides.double(), layer.thresholds.double()
        along = torch.einsum("ng,uhg->nuh", z, sides)
        rounded = _UNIT * (torch.einsum("ng,uhg->nuh", z.abs(), sides.abs()) + thresholds.abs())
        reach = 2 * sides[:, :, :-1].abs().sum(2)
        distance: Tensor = ((along - thresholds).abs() - rounded) / reach.clamp_min(1e-300)
        return distance.flatten(1).amin(1)


def _logits(f: Tensor) -> Tensor:
    return torch.cat([-f / 2, f / 2], 1) if f.shape[1] == 1 else f
