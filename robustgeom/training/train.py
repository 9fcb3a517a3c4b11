"""Train a model from a recipe, or a family of them, into zoo folders."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from robustgeom.data.load import load_dataset
from robustgeom.errors import OutputError
from robustgeom.files import refuse_existing
from robustgeom.harness.subject import place_of
from robustgeom.models.card import Lineage
from robustgeom.training.export import write_zoo_folder
from robustgeom.training.log import Logger, jsonl
from robustgeom.training.loop import fit
from robustgeom.training.pretraining import pretrained
from robustgeom.training.recipe import Recipe, read_family, read_recipe
from robustgeom.training.run import EpochDone
from robustgeom.training.teacher import lineage

__all__ = ["Hooks", "train", "train_family"]


@dataclass(frozen=True)
class Hooks:
    """Who is told: `epoch` after every epoch of the model named, `step` after every step, `note` what is left out."""

    epoch: Sequence[Logger] = ()
    step: Callable[[str, int, int, float], None] | None = None
    note: Callable[[str], None] | None = None


def train(
    recipe: str | Path | Recipe,
    *,
    out: str | Path,
    device: str = "cpu",
    data_dir: str | None = None,
    hooks: Hooks | None = None,
) -> Path:
    """Train the recipe's network and write it as the zoo folder `out`; return the folder.

    A run that was cut off goes on from `out`.checkpoint, and tells of every epoch in `out`.jsonl; both are gone at
    the end, when the folder has the log. `data_dir` holds the data set's original files. Raises `ContentError` on a
    damaged recipe or missing data, `OutputError` where `out` exists, cannot be written or is trained by another
    process, `InputError` on a device that is not there, a network that does not take the data, and a teacher that
    cannot teach.
    """
    chosen = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    folder, told = Path(out), hooks or Hooks()
    refuse_existing(folder)
    place_of(device)
    data, held = (load_dataset(chosen.data, split=s, data_dir=data_dir) for s in ("train", "validation"))
    checkpoint, log = (folder.with_name(f"{folder.name}.{end}") for end in ("checkpoint", "jsonl"))
    with _alone(folder):
        if folder.exists():
            got = "one that another process has made in the meantime"
            raise _BusyError("a folder of our own", got=got, fix="looking at it")
        if not checkpoint.exists():
            log.unlink(missing_ok=True)
        step, teacher = told.step, lineage(chosen, data, held, device)
        if teacher is not None and told.note is not None:
            told.note(f"{chosen.name}: {_said(teacher)}")

        def progress(done: EpochDone, name: str = chosen.name) -> None:
            for logger in (jsonl(log), *told.epoch):
                logger(name, done)

        first = f"{chosen.name}, pretraining"
        learned = pretrained(
            chosen,
            data,
            held,
            device=device,
            data_dir=data_dir,
            progress=lambda done: progress(done, first),
            tick=None if step is None else lambda *args: step(first, *args),
        )
        trained = fit(
            chosen,
            data,
            held,
            checkpoint=checkpoint,
            device=device,
            before=learned.before,
            progress=progress,
            tick=None if step is None else lambda *args: step(chosen.name, *args),
        )
        history = (*learned.history, *trained.history)
        written = write_zoo_folder(chosen, trained.model, folder, history, device, data_dir, teacher)
        for file in (checkpoint, log):
            file.unlink(missing_ok=True)
    return written


def train_family(
    family: str | Path,
    *,
    out: str | Path,
    device: str = "cpu",
    data_dir: str | None = None,
    hooks: Hooks | None = None,
) -> list[Path]:
    """Train every recipe of a family file, in its order, into a folder of its name below `out`; return the new ones.

    What is there already is left alone, and what another process trains is left to it, so that an interrupted
    run goes on and several processes share the work. Raises as `train` and `read_family`.
    """
    told, written = hooks or Hooks(), []
    for recipe in read_family(family):
        folder = Path(out) / recipe.name
        if folder.exists():
            if told.note is not None:
                told.note(f"{recipe.name}: there already")
            continue
        try:
            written.append(train(recipe, out=folder, device=device, data_dir=data_dir, hooks=hooks))
        except _BusyError as busy:
            if told.note is not None:
                told.note(f"{recipe.name}: {busy}")
    return written


def _said(teacher: Lineage) -> str:
    robust = teacher.robust_accuracy
    attacked = "" if robust is None else f", {100 * robust:.1f} % under attack"
    return (
        f"taught by {teacher.model}, right on {100 * teacher.accuracy:.1f} % of validation samples{attacked}"
    )


class _BusyError(OutputError):
    """Another process is at it."""


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes off the folder while it is made; what they hold goes with them, however they end."""
    path = folder.with_name(f"{folder.name}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        mark = path.open("w")
    except OSError as error:
        raise OutputError("a place that can be written", got=str(error), fix="another --out") from error
    with mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            got = "one that another process trains"
            raise _BusyError("a folder of our own", got=got, fix="waiting") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
