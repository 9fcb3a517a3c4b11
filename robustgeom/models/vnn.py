"""Vectorised nonnegative networks: every hidden unit is a vector with an entry a class, behind a fixed hard gate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, unfold

from robustgeom.errors import InputError, unknown
from robustgeom.models.parts import Block, strided
from robustgeom.models.variants import SoftGates

__all__ = ["VNN", "Pooled", "VectorConv", "VectorLinear", "VectorLocal", "VectorReLU"]

KINDS = ("dense", "conv", "local")
_FOLLOW = 0.01  # of what gates are told by a batch


class _VectorLayer(nn.Module):
    """A layer whose weights all entries of the vectors share, but in the first one, and whose biases they do not."""

    def __init__(
        self, shape: tuple[int, ...], bias: tuple[int, ...], *, first: bool, nonnegative: bool
    ) -> None:
        super().__init__()
        self.first, self.nonnegative = first, nonnegative
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(bias))

    def extra_repr(self) -> str:
        """Return what neither weights nor biases say."""
        return f"first={self.first}, nonnegative={self.nonnegative}"

    @torch.no_grad()
    def constrain(self) -> None:
        """Clamp weights past the first layer at 0, which keeps every backpropagated signal from changing its sign."""
        if self.nonnegative and not self.first:
            self.weight.clamp_(min=0)

    @torch.no_grad()
    def _initialise(self, weight: Tensor, inputs: int) -> None:
        """Fill `weight`, a view (units, classes or nothing, inputs, ...) of the parameter, with ON and OFF pairs.

        `inputs` counts what a unit sees. In the first layer neighbours are each other's negative; past it a unit takes
        in the positive part of a pair where its neighbour takes in the negative one. Mixed signs: plain Gaussians.
        """
        if self.first or not self.nonnegative:
            weight.normal_(std=math.sqrt((1 if self.first else 2) / inputs))
            if self.first and self.nonnegative:
                weight[1::2] = -weight[0 : 2 * (len(weight) // 2) : 2]
            return
        half = torch.empty((len(weight) + 1) // 2, (weight.shape[1] + 1) // 2, *weight.shape[2:])
        half.normal_(std=math.sqrt(4 / inputs))
        on, off = half.relu(), (-half).relu()
        rows, columns = weight[1::2].shape[0], weight[:, 1::2].shape[1]
        weight[0::2, 0::2], weight[0::2, 1::2] = on, off[:, :columns]
        weight[1::2, 0::2], weight[1::2, 1::2] = off[:rows], on[:rows, :columns]


class VectorLinear(_VectorLayer):
    """A dense layer of vectors: the first takes inputs (n, features), others (n, classes, features).

    >>> VectorLinear(4, 6, classes=3, first=True)(torch.rand(2, 4)).shape
    torch.Size([2, 3, 6])
    """

    def __init__(
        self, features: int, units: int, *, classes: int, first: bool = False, nonnegative: bool = True
    ) -> None:
        shape = (units, classes, features) if first else (units, features)
        super().__init__(shape, (classes, units), first=first, nonnegative=nonnegative)
        self._initialise(self.weight.data, features)

    def forward(self, x: Tensor) -> Tensor:
        """Return vectors (n, classes, units)."""
        if self.first:
            return torch.einsum("nf,ukf->nku", x, self.weight) + self.bias
        return x @ self.weight.T + self.bias


class VectorConv(_VectorLayer):
    """A convolution of vectors: the first takes images (n, channels, h, w), others (n, classes, channels, h, w).

    >>> VectorConv(4, 6, 3, classes=5, padding=1)(torch.rand(2, 5, 4, 8, 8)).shape
    torch.Size([2, 5, 6, 8, 8])
    """

    def __init__(
        self,
        channels: int,
        units: int,
        kernel: int,
        *,
        classes: int,
        stride: int = 1,
        padding: int = 0,
        first: bool = False,
        nonnegative: bool = True,
    ) -> None:
        shape = (units, classes, channels, kernel, kernel) if first else (units, channels, kernel, kernel)
        super().__init__(shape, (classes, units), first=first, nonnegative=nonnegative)
        self.classes, self.stride, self.padding = classes, stride, padding
        self._initialise(self.weight.data, channels * kernel**2)

    def extra_repr(self) -> str:
        """Return what neither weights nor biases say."""
        return f"{super().extra_repr()}, stride={self.stride}, padding={self.padding}"

    def forward(self, x: Tensor) -> Tensor:
        """Return vectors (n, classes, units, h, w)."""
        if self.first:
            apart = conv2d(x, self.weight.flatten(0, 1), stride=self.stride, padding=self.padding)
            found = apart.view(len(x), -1, self.classes, *apart.shape[2:]).transpose(1, 2)
        else:
            together = conv2d(x.flatten(0, 1), self.weight, stride=self.stride, padding=self.padding)
            found = together.view(len(x), self.classes, *together.shape[1:])
        return found + self.bias[:, :, None, None]


class VectorLocal(_VectorLayer):
    """A convolution whose weights are not shared over places: same-padded, takes what `VectorConv` takes.

    >>> VectorLocal(1, 6, 3, size=8, classes=5, first=True)(torch.rand(2, 1, 8, 8)).shape
    torch.Size([2, 5, 6, 8, 8])
    """

    def __init__(
        self,
        channels: int,
        units: int,
        kernel: int,
        *,
        size: int,
        classes: int,
        stride: int = 1,
        first: bool = False,
        nonnegative: bool = True,
    ) -> None:
        size = strided(size, stride, (units,))
        inside = (channels, kernel, kernel)
        shape = (units, size, size, classes, *inside) if first else (units, size, size, *inside)
        super().__init__(shape, (classes, units, size, size), first=first, nonnegative=nonnegative)
        self.kernel, self.size, self.stride = kernel, size, stride
        for row in range(size):
            for column in range(size):
                self._initialise(self.weight.data[:, row, column], channels * kernel**2)

    def forward(self, x: Tensor) -> Tensor:
        """Return vectors (n, classes, units, h, w)."""
        flat = x if self.first else x.flatten(0, 1)
        seen = unfold(flat, self.kernel, padding=self.kernel // 2, stride=self.stride)
        weight = self.weight.flatten(1, 2).flatten(-3)  # (units, places, [classes,] features)
        if self.first:
            found = torch.einsum("nfp,upkf->nkup", seen, weight)
        else:
            seen = seen.view(len(x), -1, *seen.shape[1:])
            found = torch.einsum("nkfp,upf->nkup", seen, weight)
        return found.view(*found.shape[:3], self.size, self.size) + self.bias


class VectorReLU(nn.Module):
    """Open or close whole vectors (n, classes, units, ...) by the sign of their product with a fixed one of +1 and -1.

    Neighbours have opposite vectors, so one of each pair is open where both see the same. A gate is a step, so no
    gradient passes it; with a `width` it rises over so many standard deviations of what gates saw in training.
    """

    signs: Tensor
    spread: Tensor
    batches: Tensor

    def __init__(self, units: int, *, classes: int) -> None:
        super().__init__()
        signs = torch.randint(0, 2, (classes, units)) * 2.0 - 1
        signs[:, 1::2] = -signs[:, 0 : 2 * (units // 2) : 2]
        self.register_buffer("signs", signs)
        self.register_buffer("spread", torch.ones(units))
        self.register_buffer("batches", torch.tensor(0))

    def drive(self, h: Tensor) -> Tensor:
        """Return what the gates look at: (n, units, ...)."""
        return torch.einsum("ku,nku...->nu...", self.signs, h)

    def gates(self, h: Tensor, *, width: float | None = None) -> Tensor:
        """Return which vectors are open, 0 or 1, or with a width softly between: (n, 1, units, ...)."""
        drive = self.drive(h)
        if self.training:
            self._follow(drive.detach())
        if width is None:
            return (drive >= 0).to(h.dtype).unsqueeze(1)
        scale = width * self.spread.clamp_min(1e-12).view(-1, *[1] * (drive.dim() - 2))
        return torch.sigmoid(drive / scale).unsqueeze(1)

    @torch.no_grad()
    def _follow(self, drive: Tensor) -> None:
        seen = drive.transpose(0, 1).flatten(1).std(1, correction=0)
        self.batches += 1
        self.spread.lerp_(seen.to(self.spread), max(_FOLLOW, 1 / int(self.batches)))  # the first one whole

    def forward(self, h: Tensor) -> Tensor:
        """Return the open vectors, zeros for the others."""
        return h * self.gates(h)


class VNN(nn.Module):
    """A vectorised nonnegative network: entry k of every hidden vector speaks for class k (arXiv:2106.04089).

    Images (n, channels, size, size) in [0, 1] to logits (n, classes). `kind` is dense, conv or local; conv and local
    begin with 3x3 layers of `maps` channels, the first of `stride`, each followed by 2x2 average pooling, then come
    dense ones of `hidden` units. With `nonnegative` weights past the first layer a signal of the error alone, the same
    for all units, has the sign of the gradient's. Hard gates: the variant soft-gates has them rise over a width.

    >>> VNN(hidden=(8,)).eval()(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        size: int = 28,
        classes: int = 10,
        kind: str = "dense",
        maps: Sequence[int] = (32, 16),
        hidden: Sequence[int] = (256, 128),
        nonnegative: bool = True,
        stride: int = 1,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise unknown("kind of network", kind, KINDS)
        places = () if kind == "dense" else tuple(maps)
        _refuse_sizes(classes, strided(size, stride, places), places, tuple(hidden), kind)
        common = {"classes": classes, "nonnegative": nonnegative}
        blocks: list[Block] = []
        for units in places:
            step = 1 if blocks else stride
            more = {"first": not blocks, "stride": step, **common}
            layer: nn.Module = (
                VectorConv(channels, units, 3, padding=1, **more)  # type: ignore[arg-type]
                if kind == "conv"
                else VectorLocal(channels, units, 3, size=size, **more)  # type: ignore[arg-type]
            )
            blocks.append(Block(layer, VectorReLU(units, classes=classes), Pooled()))
            channels, size = units, strided(size, step, places) // 2
        features = channels * size**2
        for units in hidden:
            layer = VectorLinear(features, units, first=not blocks, **common)  # type: ignore[arg-type]
            blocks.append(Block(layer, VectorReLU(units, classes=classes)))
            features = units
        blocks.append(Block(VectorLinear(features, 1, first=not blocks, **common)))  # type: ignore[arg-type]
        self.kind, self.blocks = kind, nn.ModuleList(blocks)

    @property
    def stages(self) -> tuple[str, ...]:
        """The outputs of all layers but the last."""
        return tuple(f"blocks.{i}" for i in range(len(self.blocks) - 1))

    @property
    def variants(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Soft gates, through which gradients see what opens and closes."""
        return {"soft-gates": SoftGates(self._soft)}

    def entering(self, x: Tensor) -> Tensor:
        """Return what the first block takes: pixels in [-1, 1], flat for a dense network."""
        x = 2 * x - 1
        return x.flatten(1) if self.kind == "dense" else x

    def between(self, index: int, a: Tensor) -> Tensor:
        """Return what block `index` takes of what the one before puts out: flat vectors where it is dense.

        Channels stay neighbours, as layers pair them.
        """
        return a.movedim(2, -1).flatten(2) if a.dim() == 5 and self._dense(index) else a

    def _dense(self, index: int) -> bool:
        return isinstance(self.blocks[index].layer, VectorLinear)

    def _run(self, x: Tensor, width: float | None) -> Tensor:
        a = self.entering(x)
        for index, block in enumerate(self.parts()):
            h = self.between(index, a)
            a = block(h) if width is None else block.soft(h, width)
        return a.flatten(1)

    def parts(self) -> Iterator[Block]:
        """Yield the blocks in order."""
        for block in self.blocks:
            assert isinstance(block, Block)
            yield block

    def _soft(self, x: Tensor, width: float) -> Tensor:
        return self._run(x, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes)."""
        return self._run(x, None)


def _refuse_sizes(classes: int, size: int, maps: tuple[int, ...], hidden: tuple[int, ...], kind: str) -> None:
    left = size // 2 ** len(maps)
    if classes < 2 or min((*maps, *hidden), default=1) < 1 or left < 1 or (kind != "dense" and not maps):
        got = f"classes={classes}, size={size}, maps={maps}, hidden={hidden}"
        wanted = "two classes or more, layers with units, and images that halving leaves something of"
        raise InputError(wanted, got=got, fix="classes=10, maps=(32, 16), hidden=(256, 128)")


class Pooled(nn.Module):
    """Average pooling of vectors (n, classes, channels, h, w), 2x2."""

    def forward(self, a: Tensor) -> Tensor:
        """Return vectors of half the height and width."""
        pooled = avg_pool2d(a.flatten(0, 1), 2)
        return pooled.view(*a.shape[:2], *pooled.shape[1:])
