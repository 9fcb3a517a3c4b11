"""`robustgeom train`."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import click
from rich.console import Console
from rich.progress import TaskID

from robustgeom.cli.progress import bars

__all__ = ["Display", "train"]


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Zoo folder to write; for a family of recipes, the folder that gets one a model.",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option("--data-dir", help="Folder that holds the data set's original files.")
@click.option("--log", "logs", multiple=True, help="Also log to tensorboard or wandb, below --out's folder.")
def train(recipe: Path, out: Path, device: str, data_dir: str | None, logs: tuple[str, ...]) -> None:
    """Train the network of a recipe.toml, or a family of them, and write zoo folders.

    A run that was cut off, by Ctrl-C or otherwise, goes on where it stopped; a family leaves alone what is there.
    """
    from robustgeom.training.log import find_logger
    from robustgeom.training.recipe import is_family
    from robustgeom.training.train import Hooks, train_family
    from robustgeom.training.train import train as run

    loggers = [find_logger(name, out.parent / "logs") for name in logs]
    with Display() as display:
        hooks = Hooks(epoch=(display.epoch, *loggers), step=display.step, note=display.note)
        if is_family(recipe):
            written = train_family(recipe, out=out, device=device, data_dir=data_dir, hooks=hooks)
        else:
            written = [run(recipe, out=out, device=device, data_dir=data_dir, hooks=hooks)]
    for folder in written:
        click.echo(str(folder))


class Display:
    """A line an epoch, and on a terminal a bar with time left below."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = bars(self._console)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def step(self, name: str, done: int, steps: int, seconds_left: float) -> None:
        """Move the bar."""
        del seconds_left
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name[:36], total=steps)
        self._bar.update(self._tasks[name], completed=done, visible=done < steps)

    def epoch(self, name: str, done: Any) -> None:
        """Print what an epoch told."""
        robust = done.robust_validation_accuracy
        seen = f"{100 * done.validation_accuracy:.1f} %"
        seen += "" if robust is None else f", attacked {100 * robust:.1f} %"
        left = f", {done.seconds_left / 60:.0f} min left" if done.epoch < done.epochs else ""
        self.note(
            f"{name}: epoch {done.epoch} of {done.epochs}: loss {done.loss:.3f}, validation {seen}, "
            f"{done.seconds:.0f} s{left}"
        )
