"""The training loop: one readable loop for every recipe, resumed from where it was cut off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import torch
from torch import nn

from robustgeom.data.dataset import Dataset
from robustgeom.harness.patience import patient
from robustgeom.models.calibrate import calibrate
from robustgeom.training.checkpoint import read_checkpoint, write_checkpoint
from robustgeom.training.recipe import Recipe
from robustgeom.training.run import NOTHING, Before, EpochDone, Run

__all__ = ["Trained", "fit"]

SECONDS_BETWEEN_CHECKPOINTS = 60.0
_CALIBRATION_IMAGES = 2000


class Trained(NamedTuple):
    """A trained network in eval mode, and what was told after every epoch."""

    model: nn.Module
    history: tuple[EpochDone, ...]


def fit(
    recipe: Recipe,
    data: Dataset,
    validation: Dataset,
    *,
    checkpoint: str | Path | None = None,
    device: str = "cpu",
    before: Before = NOTHING,
    progress: Callable[[EpochDone], None] | None = None,
    tick: Callable[[int, int, float], None] | None = None,
) -> Trained:
    """Return the network that `recipe` trains on `data`, with its history.

    With `checkpoint`, state is kept there every minute, after every epoch and on Ctrl-C, and a run that was cut off
    goes on from it; the result is bit for bit the same as without the cut. `before` is what the network starts from,
    and how it is graded. `tick` is told the steps done, all steps and the seconds left. Noise layers are calibrated on
    validation images at the end, where labels grade. Raises `ContentError` where the checkpoint is damaged or of
    another recipe, `InputError` where the loss is no longer finite.
    """
    forked = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=forked), patient(lambda: None) as stop_if_asked:
        run = Run(recipe, data, validation, device, before)
        run.restore(read_checkpoint(checkpoint, run.digest))
        first, began = run.step, perf_counter()
        saved = began
        while not run.over:
            run.one_step()
            now = perf_counter()
            left = (now - began) / (run.step - first) * (run.steps - run.step)
            told = run.end_epoch(left) if run.step % run.per_epoch == 0 else None
            if tick is not None:
                tick(run.step, run.steps, left)
            if told or now - saved > SECONDS_BETWEEN_CHECKPOINTS:
                write_checkpoint(checkpoint, run.state())
                saved = now
            if told and progress is not None:
                progress(told)
            try:
                stop_if_asked()
            except KeyboardInterrupt:
                write_checkpoint(checkpoint, run.state())
                raise
        model = run.result()
        if before.grade is None:
            calibrate(model, validation.inputs[:_CALIBRATION_IMAGES].to(device))
    return Trained(model.cpu().eval(), tuple(run.history))
