"""A network with its steps made passable: comparisons, signs and roundings get a slope wherever they stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from robustgeom.models.variants import SoftGates

__all__ = ["SoftSteps"]

_TAG = "_robustgeom_step"
_TURNED = {"gt": 1, "ge": 1, "lt": -1, "le": -1}
_NAMES = {f"__{name}__": name for name in _TURNED} | {name: name for name in _TURNED}
_NAMES |= {"greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le"}
_ROUND = ("round", "floor", "ceil", "trunc", "fix")
_MUL = ("mul", "__mul__", "__rmul__", "multiply")
_NOT = ("logical_not", "bitwise_not", "__invert__")
_AND = ("logical_and", "bitwise_and", "__and__")
_OR = ("logical_or", "bitwise_or", "__or__")
_KEPT = (
    "view",
    "reshape",
    "unsqueeze",
    "squeeze",
    "expand",
    "flatten",
    "permute",
    "transpose",
    "__getitem__",
)
"""What leaves a mask a mask."""
_CAST = {"float": torch.float32, "double": torch.float64, "half": torch.float16, "bfloat16": torch.bfloat16}


class SoftSteps(nn.Module):
    """A network whose steps pass gradients, found as it runs: BPDA without knowing where (arXiv:1802.00420).

    Behind a comparison of numbers that depend on the input its gradient is that of a sigmoid which rises over so many
    of the row's root mean squares, fewer as an attack goes on; roundings pass it on unchanged, signs as comparisons do.
    Masks may be multiplied, cast to floats, negated, joined, filled with and chosen by (`where`); other uses see plain
    booleans.
    Outputs are those of `network` but where masks are changed in place or used in ways not foreseen: good for
    guiding an attack, whose success is judged on the network itself. `steps` counts those that the last pass met.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.steps = network, 0
        self.train(network.training)

    @property
    def soft_gates(self) -> SoftGates:
        """The network as attacks meet it, who narrow its slopes as they climb."""
        return SoftGates(self.sloped)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the network does."""
        return self.soft_gates(x)

    def sloped(self, x: Tensor, width: float) -> Tensor:
        """Return what the network does, with slopes of this width."""
        mode = _Passable(width)
        with mode:
            out: Tensor = self.network(x)
        self.steps = mode.steps
        return out


class _Passable(TorchFunctionMode):
    def __init__(self, width: float) -> None:
        super().__init__()
        self.width, self.steps = width, 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        given, name = dict(kwargs or {}), getattr(func, "__name__", "")
        with torch._C.DisableTorchFunction():
            if not torch.is_grad_enabled():
                return func(*args, **given)
            if name in _NAMES and not given and len(args) == 2 and _moves(args):
                return self._compared(func, args, _TURNED[_NAMES[name]])
            if name in _ROUND and _moves(args[:1]):
                self.steps += 1
                return args[0] + (func(*args, **given) - args[0]).detach()
            if name in ("sign", "sgn", "heaviside") and _moves(args[:1]):
                return self._signed(func, args, given, name)
            if any(map(_holds_mask, (*args, *given.values()))):
                return _of_masks(func, name, args, given)
            return func(*args, **given)

    def _compared(self, func: Callable[..., Any], args: tuple[Any, ...], turn: int) -> Tensor:
        first, second = args
        apart = turn * (first - second)
        return _tag(self._step(func(first, second).to(apart.dtype), apart))

    def _signed(
        self, func: Callable[..., Any], args: tuple[Any, ...], given: dict[str, Any], name: str
    ) -> Tensor:
        scale = 1 if name == "heaviside" else 2
        with torch.no_grad():
            hard = func(*args, **given)
        return self._step(hard, args[0], scale)

    def _step(self, hard: Tensor, apart: Tensor, scale: int = 1) -> Tensor:
        """Return `hard`, with the slope of a sigmoid of `apart` times `scale`."""
        self.steps += 1
        apart = apart.nan_to_num(0.0, 0.0, 0.0)
        rows = apart.detach().flatten(1) if apart.dim() > 1 else apart.detach().view(1, -1)
        size = rows.square().mean(1).sqrt().clamp_min(torch.finfo(rows.dtype).tiny ** 0.5) * self.width
        size = size.view(-1, *[1] * (apart.dim() - 1)) if apart.dim() > 1 else size
        soft = scale * torch.sigmoid(apart / size)
        return hard + (soft - soft.detach())


def _moves(values: tuple[Any, ...]) -> bool:
    """Return whether numbers among these depend on what gradients are asked of."""
    return any(isinstance(v, Tensor) and v.requires_grad and v.is_floating_point() for v in values)


def _tagged(value: Any) -> bool:
    return isinstance(value, Tensor) and hasattr(value, _TAG)


def _holds_mask(value: Any) -> bool:
    return _tagged(value) or (type(value) in (list, tuple) and any(map(_holds_mask, value)))


def _tag(mask: Tensor) -> Tensor:
    setattr(mask, _TAG, True)
    return mask


def _plain(value: Any) -> Any:
    """Return a mask as the booleans that it stands for, and lists of such."""
    if _tagged(value):
        return value.detach() > 0.5
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value
    return value


def _of_masks(func: Callable[..., Any], name: str, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
    """Return what a function makes of masks: with their slope where it can have one, else as plain booleans."""
    wanted = _dtype(name, args, given)
    if wanted is not None and wanted.is_floating_point:
        return args[0].to(wanted) * 1  # a number from now on
    found = None if given else _joined(name, args)
    if found is not None:
        return found
    if name in _KEPT and _tagged(args[0]) and not any(map(_tagged, args[1:])):
        return _tag(func(*args, **given))
    return func(*map(_plain, args), **{k: _plain(v) for k, v in given.items()})


def _joined(name: str, args: tuple[Any, ...]) -> Any:
    """Return a product, choice, negation or conjunction of masks, None where it is another function."""
    if name in _MUL and len(args) == 2:
        return _product(*args)
    if name == "where" and len(args) == 3 and _tagged(args[0]):
        return _chosen(*args)
    if name == "where" and len(args) == 3 and _tagged(args[1]):
        return _chosen(args[1], args[0], args[2])
    if name == "masked_fill" and _tagged(args[1]):
        return _chosen(args[1], args[2], args[0])
    if name in _NOT:
        return _tag(1 - args[0])
    if name in _AND and all(map(_tagged, args)):
        return _tag(args[0] * args[1])
    if name in _OR and all(map(_tagged, args)):
        return _tag(args[0] + args[1] - args[0] * args[1])
    return None


def _dtype(name: str, args: tuple[Any, ...], given: dict[str, Any]) -> torch.dtype | None:
    """Return the type that a mask is cast to, if this is a cast."""
    if name in _CAST:
        return _CAST[name]
    if name == "type_as":
        found: torch.dtype = args[1].dtype
        return found
    if name not in ("to", "type"):
        return None
    others = [*args[1:], *given.values()]
    kinds = [
        o if isinstance(o, torch.dtype) else o.dtype for o in others if isinstance(o, torch.dtype | Tensor)
    ]
    return kinds[0] if kinds else None


def _product(first: Any, second: Any) -> Any:
    """Return a product with a mask, in the type that it has with booleans."""
    if _tagged(first) and _tagged(second):
        return _tag(first * second)
    mask, other = (first, second) if _tagged(first) else (second, first)
    if isinstance(other, Tensor) and not other.is_floating_point():
        return (mask.detach() > 0.5) * other
    return mask.to(other.dtype) * other if isinstance(other, Tensor) else mask * other


def _chosen(mask: Tensor, yes: Any, no: Any) -> Tensor:
    """Return `yes` where the mask is 1, else `no`; the mask's slope is their difference where that is finite."""
    out = torch.where(mask.detach() > 0.5, yes, no)
    apart = yes - no
    apart = apart.detach() if isinstance(apart, Tensor) else torch.as_tensor(apart, dtype=out.dtype)
    apart = apart.nan_to_num(0.0, 0.0, 0.0).to(out.dtype)
    slope = mask.to(out.dtype)
    return out + (slope - slope.detach()) * apart
