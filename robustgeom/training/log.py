"""Where training tells of its epochs: a JSONL file, TensorBoard, Weights & Biases."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from robustgeom.errors import OutputError, unknown
from robustgeom.models.pretrained import package
from robustgeom.training.run import EpochDone

__all__ = ["LOGGERS", "find_logger", "jsonl", "log_line", "tensorboard", "wandb"]

Logger = Callable[[str, EpochDone], None]


def log_line(done: EpochDone) -> str:
    """Return an epoch as one line of JSON."""
    return json.dumps(asdict(done)) + "\n"


def jsonl(path: str | Path) -> Logger:
    """Return a hook that appends one line of JSON an epoch to `path`; raises `OutputError` where it cannot."""

    def log(name: str, done: EpochDone) -> None:
        del name
        try:
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(log_line(done))
        except OSError as error:
            raise OutputError("a place that can be written", got=str(error), fix="another --out") from error

    return log


def tensorboard(folder: str | Path) -> Logger:
    """Return a hook that writes each epoch's numbers below `folder`/NAME for TensorBoard.

    Raises `ReferenceNotFoundError` without the package tensorboard.
    """
    module = package("torch.utils.tensorboard", "tensorboard")
    writers: dict[str, Any] = {}

    def log(name: str, done: EpochDone) -> None:
        writer = writers.setdefault(name, None) or module.SummaryWriter(str(Path(folder) / name))
        writers[name] = writer
        for key, value in _numbers(done).items():
            writer.add_scalar(key, value, done.epoch)
        writer.flush()

    return log


def wandb(folder: str | Path) -> Logger:
    """Return a hook that logs each model as a run of Weights & Biases, whose own files go below `folder`.

    Project, mode and key come from its environment variables (WANDB_PROJECT, WANDB_MODE=offline). Raises
    `ReferenceNotFoundError` without the package wandb.
    """
    module = package("wandb", "wandb")
    runs: dict[str, Any] = {}

    def log(name: str, done: EpochDone) -> None:
        if name not in runs:
            runs[name] = module.init(name=name, dir=str(folder), reinit="create_new")
        runs[name].log(_numbers(done), step=done.epoch)
        if done.epoch == done.epochs:
            runs.pop(name).finish()

    return log


LOGGERS: dict[str, Callable[[str | Path], Logger]] = {"tensorboard": tensorboard, "wandb": wandb}


def find_logger(text: str, folder: str | Path) -> Logger:
    """Return the hook that `text` names, tensorboard or wandb, for files below `folder`."""
    if text not in LOGGERS:
        raise unknown("logger", text, LOGGERS)
    return LOGGERS[text](folder)


def _numbers(done: EpochDone) -> dict[str, float]:
    return {k: v for k, v in asdict(done).items() if v is not None and k not in ("epoch", "epochs")}
