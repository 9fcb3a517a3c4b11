"""Worst inputs for a training step, found while the model is in eval mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn

from robustgeom.attacks._farthest import checked_size
from robustgeom.attacks._start import draw
from robustgeom.attacks.pgd import pgd
from robustgeom.threat import ThreatModel, project, steepest

__all__ = ["climb", "in_eval", "pgd_in_eval", "slope"]

NEAR = (
    0.001  # standard deviation of the start around the input, in its units, as in the code of TRADES and MART
)


@contextmanager
def in_eval(model: nn.Module) -> Iterator[None]:
    """Keep `model` in eval mode while the context lasts; then every part is in its own mode again."""
    training = [part for part in model.modules() if part.training]
    model.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def slope(loss: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """Return the gradient (n, ...) of a scalar loss at points (n, ...).

    >>> slope(lambda x: x.square().sum(), torch.tensor([[3.0]]))
    tensor([[6.]])
    """
    leaf = points.detach().requires_grad_()
    return torch.autograd.grad(loss(leaf), leaf)[0]


def climb(
    loss: Callable[[Tensor], Tensor],
    inputs: Tensor,
    threat: ThreatModel,
    *,
    steps: int,
    step_size: float | None,
    generator: Generator,
) -> Tensor:
    """Return where `steps` steepest steps up a scalar loss of points (n, ...) end, from very near the inputs.

    Every step is brought back into the threat; `step_size` is in the input's units, 2.5 eps / steps by default.

    >>> threat, g = ThreatModel("linf", 0.25), Generator()
    >>> climb(torch.sum, torch.full((1, 2), 0.5), threat, steps=2, step_size=None, generator=g)
    tensor([[0.7500, 0.7500]])
    """
    checked_size("step_size", step_size)
    size = 2.5 * threat.radii(inputs) / steps if step_size is None else step_size
    x = project(inputs + NEAR * draw(torch.randn, inputs, generator), inputs, threat)
    for _ in range(steps):
        x = project(x + size * steepest(slope(loss, x), threat.norm), inputs, threat)
    return x


def pgd_in_eval(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    steps: int,
    step_size: float | None,
    generator: Generator,
) -> Tensor:
    """Return PGD's worst inputs by the cross-entropy of a model in eval mode; rows get all steps, fooled or not.

    >>> data = torch.full((1, 2), 0.5), torch.tensor([0])
    >>> given = {"threat": ThreatModel("linf", 0.25), "steps": 4, "step_size": None, "generator": Generator()}
    >>> (pgd_in_eval(nn.Linear(2, 2), *data, **given) - 0.5).abs().max().item() <= 0.25
    True
    """
    with in_eval(model):
        return pgd(
            model,
            inputs,
            labels,
            threat=threat,
            steps=steps,
            step_size=step_size,
            stop_when_fooled=False,
            generator=generator,
        )
