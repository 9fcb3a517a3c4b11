"""Networks of other packages, made to take images in [0, 1]."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor, nn

from robustgeom.errors import InputError, ReferenceNotFoundError, UserError

__all__ = ["Pretrained", "package", "split"]

_FEW = 3  # stages that are too few for a profile over depth


class Pretrained(nn.Module):
    """A classifier of another package behind its own normalisation: images (n, c, h, w) in [0, 1] to logits.

    `input_shape` (c, h, w) is what its weights were made for; other sizes pass where the network takes them.
    `classes` are the names of its outputs, empty where its package knows none. Raises `InputError` on images that
    it cannot take.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    >>> Pretrained(net, mean=[0.5], deviation=[0.25], input_shape=(3, 2, 2))(torch.rand(4, 3, 2, 2)).shape
    torch.Size([4, 2])
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        net: nn.Module,
        *,
        mean: Sequence[float],
        deviation: Sequence[float],
        input_shape: tuple[int, ...],
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("deviation", torch.tensor(deviation)[:, None, None])
        self.net = net
        self.input_shape = input_shape
        self.classes = tuple(classes)
        self.stages = [f"net.{name}" for name in _stages(net)]

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's logits (n, classes) of images (n, c, h, w) in [0, 1]."""
        if x.dim() != 4 or x.shape[1] != self.input_shape[0]:
            raise self._refusal(x)
        try:
            logits: Tensor = self.net((x - self.mean) / self.deviation)
        except (RuntimeError, AssertionError, ValueError) as error:
            if tuple(x.shape[1:]) == self.input_shape or isinstance(error, UserError):
                raise
            raise self._refusal(x) from error
        return logits

    def _refusal(self, x: Tensor) -> InputError:
        channels, *size = self.input_shape
        fix = "resizing the data, or a file.py:build that resizes"
        if x.dim() == 4 and x.shape[1] != channels:
            fix = f"images of {channels} channels, or a file.py:build that converts them"
        return InputError(f"images {(channels, *size)}", got=str(tuple(x.shape[1:])), fix=fix)


def _stages(net: nn.Module) -> list[str]:
    """Return the names of the parts with weights but the last, the classifier; few long ones are taken apart."""
    names = _parts(net, nn.ModuleList)
    return names if len(names) >= _FEW else _parts(net, nn.ModuleList, nn.Sequential)


def _parts(net: nn.Module, *lists: type[nn.Module]) -> list[str]:
    names = []
    for name, part in _weighing(net)[:-1]:
        inside = _weighing(part) if isinstance(part, lists) else []
        names += [f"{name}.{inner}" for inner, _ in inside] or [name]
    return names


def _weighing(net: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, part) for name, part in net.named_children() if any(True for _ in part.parameters())]


def split(reference: str) -> tuple[str, str]:
    """Return name and what follows the @ of "package:NAME" or "package:NAME@REST"; raises `InputError` without name.

    >>> split("timm:resnet18.a1_in1k@my.pth")
    ('resnet18.a1_in1k', 'my.pth')
    """
    source, _, rest = reference.partition(":")
    name, at, tail = rest.partition("@")
    if not name or (at and not tail):
        fix = f"{source}:{name or 'resnet18'}"
        raise InputError(f"{source}:NAME or {source}:NAME@FILE", got=repr(reference), fix=fix)
    return name, tail


def package(name: str, extra: str) -> ModuleType:
    """Return an installed package; raises `ReferenceNotFoundError` that says which extra brings it."""
    try:
        return importlib.import_module(name)
    except Exception as error:
        got, fix = f"{type(error).__name__}: {error}", f"pip install 'robustgeom[{extra}]'"
        raise ReferenceNotFoundError(f"the package {name}", got=got, fix=fix) from error
