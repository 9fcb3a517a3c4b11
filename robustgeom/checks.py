"""The door: inputs, labels, logits and model mode are checked once, with expected, got, try."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustgeom.errors import InputError

__all__ = ["eval_mode", "inputs", "labels", "logits", "look_like_probabilities"]

_SLACK = 1e-6


def inputs(x: Tensor, *, domain: tuple[float, float]) -> None:
    """Raise `InputError` unless `x` (n, ...) is a finite float tensor inside `domain`.

    >>> inputs(torch.zeros(2, 1, 8, 8), domain=(0.0, 1.0))
    """
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.dim() < 2:
        got = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise InputError("a float tensor (n, ...)", got=got, fix="images.float() / 255")
    if x.numel() == 0:
        return
    if not torch.isfinite(x).all():
        count = int((~torch.isfinite(x)).flatten(1).any(1).sum())
        raise InputError("finite inputs", got=f"NaN or infinity in {count} samples", fix="removing them")
    low, high = x.min().item(), x.max().item()
    if low < domain[0] - _SLACK or high > domain[1] + _SLACK:
        fix = "x / 255" if high > 2 else "keeping normalisation inside the model"
        raise InputError(
            f"inputs in [{domain[0]:g}, {domain[1]:g}]", got=f"values from {low:.4g} to {high:.4g}", fix=fix
        )


def labels(y: Tensor, x: Tensor, *, classes: int | None = None) -> None:
    """Raise `InputError` unless `y` (n,) is one integer class for each input of `x` (n, ...).

    >>> labels(torch.tensor([0, 1]), torch.zeros(2, 3), classes=2)
    """
    if not isinstance(y, Tensor) or y.dtype not in (torch.int64, torch.int32, torch.uint8, torch.int16):
        got = str(y.dtype) if isinstance(y, Tensor) else type(y).__name__
        raise InputError("integer labels (n,)", got=got, fix="labels.long()")
    if y.shape != x.shape[:1]:
        raise InputError(
            f"labels of shape ({len(x)},)", got=str(tuple(y.shape)), fix="one class index a sample"
        )
    if len(y) and (int(y.min()) < 0 or (classes is not None and int(y.max()) >= classes)):
        bound = "" if classes is None else f" and < {classes}"
        got = f"values from {int(y.min())} to {int(y.max())}"
        raise InputError(f"labels >= 0{bound}", got=got, fix="class indices that match the model's outputs")


def logits(z: object, *, rows: int, classes: int | None = None) -> Tensor:
    """Return `z` if it is a finite float tensor (rows, classes); raise `InputError` otherwise.

    >>> logits(torch.zeros(2, 10), rows=2, classes=10).shape
    torch.Size([2, 10])
    """
    if not isinstance(z, Tensor):
        raise InputError(
            "a model that returns one tensor of logits",
            got=type(z).__name__,
            fix="a wrapper that returns output[0]",
        )
    if z.dim() != 2 or z.shape[0] != rows or z.shape[1] < 2:
        raise InputError(
            f"logits of shape ({rows}, classes >= 2)", got=str(tuple(z.shape)), fix="one row a sample"
        )
    if classes is not None and z.shape[1] != classes:
        raise InputError(
            f"{classes} logits, one a class", got=str(z.shape[1]), fix="a model for this data set"
        )
    if not z.is_floating_point() or not torch.isfinite(z).all():
        bad = int((~torch.isfinite(z)).any(1).sum()) if z.is_floating_point() else rows
        raise InputError(
            "finite float logits", got=f"{bad} rows that are not", fix="finding where the model overflows"
        )
    return z


def look_like_probabilities(z: Tensor) -> bool:
    """Return whether logits (n, classes) are all in [0, 1] with rows that sum to 1, as a softmax returns.

    >>> look_like_probabilities(torch.tensor([[0.25, 0.75]]))
    True
    """
    in_range = bool(((z >= -1e-5) & (z <= 1 + 1e-5)).all())
    return len(z) > 0 and in_range and bool(((z.sum(1) - 1).abs() < 1e-4).all())


def eval_mode(model: object) -> None:
    """Raise `InputError` where `model` is a module with any part in training mode.

    >>> eval_mode(nn.Linear(2, 2).eval())
    """
    if isinstance(model, nn.Module):
        training = [name or type(model).__name__ for name, part in model.named_modules() if part.training]
        if training:
            raise InputError(
                "a model in eval mode", got=f"{training[0]!r} in training mode", fix="model.eval()"
            )
