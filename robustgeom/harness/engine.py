"""The copy of a network that an evaluation runs: parameters frozen, in the form that is fastest here."""

from __future__ import annotations

import copy
from collections.abc import Callable
from time import process_time
from typing import get_args

import torch
from torch import Tensor, nn

from robustgeom.errors import unknown
from robustgeom.harness.options import Precision
from robustgeom.harness.thin_conv import thinned
from robustgeom.models.load import model_digest
from robustgeom.models.noise import noise_off

__all__ = ["AS_GIVEN", "dtype_of", "engine", "quicker"]

AS_GIVEN = "as given"
_REPEATS, _GAIN, _ROWS, _AGREE = 5, 1.08, 64, 1e-2
_chosen: dict[tuple[str, torch.Size, str], list[str]] = {}


def engine(module: nn.Module, sample: Tensor, form: str | None = None) -> tuple[nn.Module, str]:
    """Return a frozen copy of `module` for inputs like `sample` (n, ...), and in words which form was chosen.

    Frozen parameters spare every backward pass their gradients; the caller's own keep their flags. Where images
    meet convolutions, two forms that change only the last bits are timed, forward and backward, one on top of the
    other, and kept where they are at least 8 % faster: input gradients of thin convolutions by a matrix product,
    and the memory format channels last. One process decides once for each model, unless `form` says what it was before.
    A module that cannot be copied, or whose copy answers otherwise, is used as it is.
    """
    try:
        # Taken apart before any pass: one may leave in the module what cannot be copied.
        plain, timed, compared = (copy.deepcopy(module).requires_grad_(False) for _ in range(3))
        known = None if form is None else [name for name in _FORMS if name in form.split(", ")]
        chosen = _forms_for(module, timed, sample) if known is None else known
        for name in chosen:
            _FORMS[name](plain)
            _FORMS[name](compared)
        if not _agree(module, compared, sample):
            return module, AS_GIVEN
    except Exception:  # what is wrong with it is for the door to say
        return module, AS_GIVEN
    return plain, ", ".join(chosen) or AS_GIVEN


def dtype_of(module: nn.Module) -> torch.dtype:
    """Return the float type of the module's weights, float32 where it has none."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def _forms_for(module: nn.Module, timed: nn.Module, sample: Tensor) -> list[str]:
    if sample.dim() != 4 or not any(isinstance(m, nn.Conv2d) for m in timed.modules()):
        return []
    key = model_digest(module), sample.shape[1:], str(sample.device)
    if key not in _chosen:
        _chosen[key] = _choose(timed, sample)
    return _chosen[key]


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


def _choose(plain: nn.Module, sample: Tensor) -> list[str]:
    """Return the forms that pay, each tried on top of those before it."""
    chosen: list[str] = []
    best = plain
    with torch.random.fork_rng(devices=[sample.device] if sample.device.type == "cuda" else []):
        for name, form in _FORMS.items():
            trial = copy.deepcopy(best)
            form(trial)
            if _gain(best, trial, sample) >= _GAIN:
                chosen.append(name)
                best = trial
    return chosen


def _gain(first: nn.Module, second: nn.Module, sample: Tensor) -> float:
    """Return how many times as long the first takes for a forward and backward pass, by its shortest time.

    In turns, and in CPU time, so that other programs matter less.
    """
    dtype = dtype_of(first)
    x = sample[:1].to(dtype).expand(_ROWS, *sample.shape[1:]).contiguous()
    times = [[_seconds(module, x) for module in (first, second)] for _ in range(_REPEATS + 1)][1:]
    shortest = [min(column) for column in zip(*times, strict=True)]
    return float(shortest[0] / shortest[1])


def _seconds(module: nn.Module, x: Tensor) -> float:
    began = process_time()
    with torch.enable_grad():
        leaf = x.clone().requires_grad_(True)
        value = module(leaf).sum()
        if value.requires_grad:
            torch.autograd.grad(value, leaf, allow_unused=True)
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
    return process_time() - began
