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

_ROWS = 4  # as passes are padded to: each row is one of ours


def dynamic_forward(case: Case) -> CheckResult:
    """Return how often one forward pass runs its busiest layer on each sample, and whether it computes gradients.

    Averaging, purification and search inside the forward pass hide gradients or noise from an attack.
    """
    rows = case.some(torch.arange(min(_ROWS, len(case.battle.data))), 1)
    target = case.oracle(rows, "dynamic").model
    most, backward = _watched(case.battle.subject.engine, target, case.inputs(rows)[0])
    if not backward and most <= 1:
        return result(
            "dynamic forward", "pass", float(most), "no layer runs twice on a sample in one forward pass", ""
        )
    text = f"a forward pass runs a layer {most:g} times on each sample" + (
        " and computes gradients" if backward else ""
    )
    status: Status = "fail" if backward and not case.unaffected else "warn"
    action = "attack what is inside the loop, take gradients of another model, or add Square"
    return result("dynamic forward", status, float(most), text, action)


def _watched(network: nn.Module, target: Any, x: Tensor) -> tuple[float, bool]:
    """Return on how many rows a sample the busiest layer with parameters ran, and whether gradients were computed."""
    rows: Counter[nn.Module] = Counter()

    def count(layer: nn.Module, given: tuple[Any, ...]) -> None:
        rows[layer] += len(given[0]) if given and isinstance(given[0], Tensor) and given[0].dim() else 0

    layers = [m for m in network.modules() if any(True for _ in m.parameters(recurse=False))]
    hooks = [layer.register_forward_pre_hook(count) for layer in layers]
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
    return max(rows.values(), default=0) / len(x), bool(unpacked)
