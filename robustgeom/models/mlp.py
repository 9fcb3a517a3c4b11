"""A multilayer perceptron, with convolutions ahead of it if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from robustgeom.errors import InputError
from robustgeom.models.parts import Block, strided

__all__ = ["MLP"]


class _Positive(nn.Module):
    """The gate of a ReLU."""

    def gates(self, h: Tensor, *, width: float | None = None) -> Tensor:
        """Return 1 where h is positive, else 0; continuous as it is, it has no soft form of its own."""
        del width
        return (h > 0).to(h.dtype)

    def forward(self, h: Tensor) -> Tensor:
        """Return the positive part of h."""
        return h.relu()


class MLP(nn.Module):
    """Dense layers of `hidden` units with ReLUs, and a linear read-out; `maps` puts convolutions ahead of them.

    Images (n, channels, size, size) in [0, 1], brought to [-1, 1], to logits (n, classes). Convolutions are 3x3, the
    first of `stride`, each followed by 2x2 average pooling, as in `VNN`, whose conventional twin this is. It consists
    of blocks, so that it can be trained by `dfa` too. Raises `InputError` where pooling leaves nothing.

    >>> import torch
    >>> MLP(maps=(4,), hidden=(8,)).eval()(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        size: int = 28,
        classes: int = 10,
        maps: Sequence[int] = (),
        hidden: Sequence[int] = (256, 128),
        stride: int = 1,
    ) -> None:
        super().__init__()
        size = strided(size, stride, maps)
        if size < 2 ** len(maps):
            got = f"{size} pixels a side and {len(maps)} maps"
            raise InputError("images that pooling leaves something of", got=got, fix="fewer maps")
        blocks: list[Block] = []
        for units in maps:
            layer = nn.Conv2d(channels, units, 3, stride=1 if blocks else stride, padding=1)
            blocks.append(Block(layer, _Positive(), nn.AvgPool2d(2)))
            channels, size = units, size // 2
        widths = [channels * size**2, *hidden]
        blocks += [Block(nn.Linear(a, b), _Positive()) for a, b in pairwise(widths)]
        self.blocks = nn.ModuleList([*blocks, Block(nn.Linear(widths[-1], classes))])

    @property
    def stages(self) -> tuple[str, ...]:
        """The outputs of all layers but the last."""
        return tuple(f"blocks.{i}" for i in range(len(self.blocks) - 1))

    def entering(self, x: Tensor) -> Tensor:
        """Return what the first block takes: pixels in [-1, 1]."""
        return self.between(0, 2 * x - 1)

    def between(self, index: int, a: Tensor) -> Tensor:
        """Return what block `index` takes of what the one before puts out: flat where it is dense."""
        return a.flatten(1) if isinstance(self.blocks[index].layer, nn.Linear) else a

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes)."""
        a = self.entering(x)
        for index, block in enumerate(self.blocks):
            a = block(self.between(index, a))
        return a
