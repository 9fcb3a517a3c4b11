"""A forward pass that optimises, or runs parts of the network again and again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from robustgeom.harness.failures._case import Case
from robustgeom.harness.failures._grading import Status, result
from robustgeom.records import CheckResult

__all__ = ["dynamic_forward"]

_ROWS = 2


def dynamic_forward(case: Case) -> CheckResult:
    """Return how often one forward pass runs its busiest layer; a backward pass inside it counts as infinitely often.

    Averaging, purification and search inside the forward pass hide gradients or noise from an attack.
    """
    rows = case.some(torch.arange(min(_ROWS, len(case.battle.data))), 1)
    target = case.oracle(rows, "dynamic").model
    most, backward = _watched(case.battle.subject.engine, target, case.inputs(rows)[0])
    if not backward and most <= 1:
        return result("dynamic forward", "pass", float(most), "no layer runs twice in one forward pass", "")
    text = f"a forward pass runs a layer {most} times" + (" and computes gradients" if backward else "")
    status: Status = "fail" if backward and not case.unaffected else "warn"
    action = "attack what is inside the loop, take gradients of another model, or add Square"
    return result("dynamic forward", status, float(most), text, action)


def _watched(network: nn.Module, target: Any, x: Tensor) -> tuple[int, bool]:
    """Return how often the busiest layer with parameters ran in one pass, and whether gradients were computed in it."""
    calls: Counter[nn.Module] = Counter()
    layers = [m for m in network.modules() if any(True for _ in m.parameters(recurse=False))]
    hooks = [layer.register_forward_pre_hook(lambda m, _: calls.update([m])) for layer in layers]
    unpacked: list[Tensor] = []

    def unpack(saved: Tensor) -> Tensor:
        unpacked.append(saved)
        return saved

    try:
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(lambda saved: saved, unpack):
            target(x.clone().requires_grad_(True))
    finally:
        for hook in hooks:
            hook.remove()
    return max(calls.values(), default=0), bool(unpacked)
