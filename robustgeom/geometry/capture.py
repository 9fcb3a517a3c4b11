"""Activations of a network's stages; the only file of the package that hooks an nn.Module."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from robustgeom.errors import InputError, unknown

__all__ = ["INPUT", "LOGITS", "capture"]

INPUT, LOGITS = "input", "logits"


def capture(
    model: nn.Module,
    batches: Iterable[Tensor],
    *,
    stages: Sequence[str] | None = None,
    features: int = 2000,
    seed: int = 0,
    pooled: bool = False,
    forward: Callable[[int, Tensor], Tensor] | None = None,
) -> dict[str, Tensor]:
    """Run the batches through `model` and return what each stage put out, one row per sample, on the CPU.

    batches: tensors (b, ...), n samples in all, in the model's units and on its device. stages: module names;
    by default the model's list `stages`, else its direct children that run, without those that put out the
    logits over again. The result holds "input" first, each stage, and "logits", what the model returns, last, all
    (n, min(f, features)); f is the width after flattening. What is wider is projected batch by batch
    on `features` fixed Gaussian directions of unit norm, drawn from (seed, stage, f) and scaled so that
    squared distances are kept on average. `pooled`, outputs (b, units, ...) are averaged over all positions instead,
    and none is projected: one number a unit or channel.
    `forward(batch_index, batch)`, by default `model(batch)`, may run the model inside a noise context. Batches may be
    made on the way, by passes of the model too.
    No gradient is recorded; mode, weights and hooks of the model are as before, also after an error.
    Raises `UnknownNameError` for a stage that is no module, and `InputError` where there is no batch, a
    module runs twice, does not run, or puts out anything but one tensor (b, ...), or where running statistics
    would move.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
    >>> {name: tuple(x.shape) for name, x in capture(net, [torch.zeros(5, 2, 2)], stages=["1"]).items()}
    {'input': (5, 4), '1': (5, 3), 'logits': (5, 3)}
    """
    _check_model(model, features)
    if isinstance(batches, Tensor):
        raise InputError("an iterable of batches", got="one tensor", fix="[batch]")
    names, required = _stage_names(model, stages)
    recorder = _Recorder(features, seed, pooled)
    for index, batch in enumerate(batches):
        _check_batch(batch)
        recorder.begin(len(batch))
        recorder.record(INPUT, batch)
        # Only around the pass itself: what makes the batches may ask the model for gradients.
        with torch.no_grad(), _hooked(model, names, recorder):
            logits = model(batch) if forward is None else forward(index, batch)
        recorder.record(LOGITS, logits)
        recorder.end(names if required else ())
    found = recorder.result(names)
    return found if required else _without_echoes(found)


def _without_echoes(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop stages that nobody asked for and that are the logits over again, as a last layer is."""
    logits = found[LOGITS]
    return {n: x for n, x in found.items() if n in (INPUT, LOGITS) or not torch.equal(x, logits)}


class _Recorder:
    """Rows per stage, projected while they arrive, so that memory grows with the projected width alone."""

    def __init__(self, features: int, seed: int, pooled: bool) -> None:
        self.rows: dict[str, list[Tensor]] = {}
        self._features, self._seed, self._pooled = features, seed, pooled
        self._directions: dict[str, Tensor] = {}
        self._seen: set[str] = set()
        self._size = 0

    def begin(self, size: int) -> None:
        self._seen, self._size = set(), size

    def record(self, name: str, output: object) -> None:
        if not isinstance(output, Tensor):
            fix = "a module below or above it as the stage"
            raise InputError(f"one tensor from stage {name!r}", got=type(output).__name__, fix=fix)
        if name in self._seen:
            fix = "stages that run once for each batch"
            raise InputError(f"one call of stage {name!r} for each batch", got="a second call", fix=fix)
        if output.ndim == 0 or len(output) != self._size:
            got = f"shape {tuple(output.shape)} for {self._size} samples"
            raise InputError(f"one row per sample from stage {name!r}", got=got, fix="another stage")
        self._seen.add(name)
        self.rows.setdefault(name, []).append(self._project(name, output))

    def end(self, required: Iterable[str]) -> None:
        silent = [name for name in required if name not in self._seen]
        if silent:
            got = f"{', '.join(silent)} not called"
            raise InputError("stages that the forward pass calls", got=got, fix="leaving them out")

    def result(self, names: Sequence[str]) -> dict[str, Tensor]:
        if not self.rows:
            raise InputError("one batch or more", got="none", fix="a list of input tensors")
        order = [name for name in (INPUT, *names, LOGITS) if name in self.rows]
        return {name: _joined(name, self.rows.pop(name)) for name in order}

    def _project(self, name: str, output: Tensor) -> Tensor:
        if self._pooled and output.ndim > 2:
            return _flat(output.detach().flatten(2).mean(2))
        flat = output.detach().flatten(1) if output.ndim > 1 else output.detach()[:, None]
        if self._pooled or flat.shape[1] <= self._features:
            return _flat(flat)
        if name not in self._directions:
            drawn = _draw_directions(self._seed, name, flat.shape[1], self._features)
            self._directions[name] = drawn.to(flat)
        return (flat @ self._directions[name]).cpu()


def _draw_directions(seed: int, name: str, width: int, features: int) -> Tensor:
    """Gaussian columns (width, features) of unit norm, scaled to keep squared distances on average."""
    digest = hashlib.sha256(f"{seed}/{name}/{width}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)
    drawn = torch.randn(width, features, generator=generator)
    drawn *= (width / features) ** 0.5 / drawn.norm(dim=0)
    return drawn


def _flat(batch: Tensor) -> Tensor:
    rows = batch.detach().flatten(1) if batch.ndim > 1 else batch.detach()[:, None]
    return rows.cpu().clone()  # a copy: later layers may overwrite their input


def _joined(name: str, rows: list[Tensor]) -> Tensor:
    widths = sorted({r.shape[1] for r in rows})
    if len(widths) > 1:
        raise InputError(f"one width of stage {name!r} in all batches", got=f"{widths}", fix="one input size")
    return torch.cat(rows)


def _stage_names(model: nn.Module, stages: Sequence[str] | None) -> tuple[list[str], bool]:
    """Return the modules to hook, and whether each of them must run."""
    declared = getattr(model, "stages", None)
    chosen = declared if stages is None else stages
    if not isinstance(chosen, list | tuple) or not all(isinstance(s, str) for s in chosen):
        if stages is not None:
            raise InputError("stages as a list of module names", got=repr(stages), fix='stages=["layer1"]')
        return [name for name, _ in model.named_children() if name not in (INPUT, LOGITS)], False
    names = [name for name in dict.fromkeys(chosen) if name not in (INPUT, LOGITS)]
    known = dict(model.named_modules())
    for name in names:
        if name not in known or not name:
            raise unknown("stage", name, [k for k in known if k])
    return names, True


@contextmanager
def _hooked(model: nn.Module, names: Sequence[str], recorder: _Recorder) -> Iterator[None]:
    modules = dict(model.named_modules())
    handles = []
    try:
        for name in names:
            handles.append(modules[name].register_forward_hook(_hook(name, recorder)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(name: str, recorder: _Recorder) -> Callable[[nn.Module, Any, Any], None]:
    return lambda _module, _inputs, output: recorder.record(name, output)


def _check_batch(batch: object) -> None:
    if not isinstance(batch, Tensor):
        raise InputError(
            "batches that are tensors", got=type(batch).__name__, fix="the inputs without labels"
        )
    if batch.ndim == 0 or len(batch) == 0:
        raise InputError(
            "batches of one sample or more", got=f"shape {tuple(batch.shape)}", fix="dropping it"
        )


def _check_model(model: nn.Module, features: int) -> None:
    if features < 1:
        raise InputError("features >= 1", got=str(features), fix="features=2000")
    moving = [
        n for n, m in model.named_modules() if m.training and getattr(m, "running_mean", None) is not None
    ]
    if moving:
        got = f"{moving[0]!r} in training mode"
        raise InputError("a model whose running statistics stand still", got=got, fix="model.eval()")
