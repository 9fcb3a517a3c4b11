"""The copy of a network that an evaluation runs: parameters frozen, in a form that is fast."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor, nn

from robustgeom.errors import unknown
from robustgeom.harness.options import Precision
from robustgeom.harness.thin_conv import thinned
from robustgeom.models.noise import noise_off

__all__ = ["AS_GIVEN", "dtype_of", "engine", "quicker"]

AS_GIVEN = "as given"
_AGREE = 1e-2


def engine(module: nn.Module, sample: Tensor) -> tuple[nn.Module, str]:
    """Return a frozen copy of `module` for inputs like `sample` (n, ...), and in words which form it has.

    Frozen parameters spare every backward pass their gradients; the caller's own keep their flags. Where images
    meet convolutions on a CPU, two forms that change only the last bits make passes faster, or at worst no slower:
    input gradients of thin convolutions by a matrix product, and the memory format channels last. The form follows
    from the network and the device alone, so that every run repeats. A module that cannot be copied, or whose copy
    answers otherwise, is used as it is.
    """
    try:
        # Taken apart before any pass: one may leave in the module what cannot be copied.
        untouched = copy.deepcopy(module).requires_grad_(False)
    except Exception:  # what is wrong with it is for the door to say
        return module, AS_GIVEN
    for names in _ways(module, sample):
        plain = copy.deepcopy(untouched)
        if _shaped_alike(module, names, plain, copy.deepcopy(untouched), sample):
            return plain, ", ".join(names) or AS_GIVEN
    return module, AS_GIVEN


def _ways(module: nn.Module, sample: Tensor) -> list[list[str]]:
    """Return the forms to try, the fastest first: some networks cannot do with a memory format but their own."""
    convolves = sample.dim() == 4 and any(isinstance(m, nn.Conv2d) for m in module.modules())
    faster = list(_FORMS) if convolves and sample.device.type == "cpu" else []
    return [faster[:count] for count in range(len(faster), -1, -1)]


def _shaped_alike(
    module: nn.Module, names: list[str], plain: nn.Module, compared: nn.Module, sample: Tensor
) -> bool:
    """Bring both copies into a form, and return whether the second, which the passes may spoil, answers as before."""
    try:
        for name in names:
            _FORMS[name](plain)
            _FORMS[name](compared)
        return _agree(module, compared, sample)
    except Exception:
        return False


def dtype_of(module: nn.Module) -> torch.dtype:
    """Return the float type of the module's weights, float32 where it has none."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def _agree(module: nn.Module, copied: nn.Module, sample: Tensor) -> bool:
    """Return whether the copy answers like the module on two different inputs, noise switched off or seeded alike.

    A hook that closes over the module still writes there when the copy runs: such a copy answers something else.
    """
    dtype = dtype_of(module)
    devices = [sample.device] if sample.device.type == "cuda" else []
    for x in (sample[:1], sample[:1].flip(-1) * 0.5):
        answers = []
        for net in (module, copied):
            with torch.no_grad(), torch.random.fork_rng(devices=devices), noise_off():
                torch.manual_seed(0)
                answers.append(net(x.to(dtype, copy=True)).double())
        spread = answers[0].std(correction=0).clamp_min(torch.finfo(torch.float32).tiny)
        if not bool(((answers[1] - answers[0]).abs() <= _AGREE * spread).all()):
            return False
    return True


def quicker(
    module: nn.Module, device: torch.device, *, precision: Precision, compiled: bool
) -> Callable[[Tensor], Tensor] | None:
    """Return the form of an engine that attacks search with, None where it is the engine itself.

    In bf16 the passes run under autocast and answer in float32; compiled, through torch.compile. Success is then
    confirmed on the engine. Raises `UnknownNameError` on another precision.
    """
    if precision not in get_args(Precision):
        raise unknown("precision", precision, get_args(Precision))
    if precision == "float32" and not compiled:
        return None
    inner = torch.compile(module) if compiled else module
    dtype = dtype_of(module)

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits: Tensor = inner(x.to(dtype))
        return logits.float()

    return forward


def _channels_last(module: nn.Module) -> object:
    # torch's annotations do not know this form of Module.to, which works in place.
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


_FORMS: dict[str, Callable[[nn.Module], object]] = {
    "thin convolutions": thinned,
    "channels last": _channels_last,
}
