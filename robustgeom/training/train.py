"""Train a model from a recipe into a zoo folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from robustgeom.data.load import load_dataset
from robustgeom.errors import OutputError
from robustgeom.training.export import write_zoo_folder
from robustgeom.training.loop import EpochDone, fit
from robustgeom.training.recipe import Recipe, read_recipe

__all__ = ["train"]


def train(
    recipe: str | Path | Recipe, *, out: str | Path, progress: Callable[[EpochDone], None] | None = None
) -> Path:
    """Train the recipe's network and write it as the zoo folder `out`; return the folder.

    A run that was cut off goes on from `out`.checkpoint, which is removed at the end. Raises `ContentError`
    on a damaged recipe or missing data, `OutputError` where `out` exists or cannot be written.
    """
    chosen = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    folder = Path(out)
    if folder.exists():
        raise OutputError(
            "a folder that does not exist yet", got=str(folder), fix="another --out, or move it"
        )
    data = load_dataset(chosen.data, split="train"), load_dataset(chosen.data, split="validation")
    checkpoint = folder.with_name(folder.name + ".checkpoint")
    try:
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError("a place that can be written", got=str(error), fix="another --out") from error
    model = fit(chosen, *data, checkpoint=checkpoint, progress=progress)
    written = write_zoo_folder(chosen, model, folder)
    checkpoint.unlink(missing_ok=True)
    return written
