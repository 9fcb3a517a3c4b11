"""`robustgeom distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from robustgeom.cli.evaluate import evaluate
from robustgeom.cli.train import Display

__all__ = ["distill"]


@click.command()
@click.option("--teacher", required=True, metavar="REF", help="A zoo name, a folder, file.py:build, ...")
@click.option(
    "--student",
    required=True,
    metavar="ARCH",
    help="An architecture, or a zoo name or recipe.toml to train like.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Zoo folder of the student to write."
)
@click.option("--method", default="rslad", show_default=True, help="kd_clean, ard, rslad, adaad or iad.")
@click.option(
    "--set", "arguments", multiple=True, metavar="NAME=VALUE", help="A setting of the method; repeatable."
)
@click.option(
    "--manipulate",
    multiple=True,
    metavar="NAME[:KEY=VALUE,...]",
    help="What to do to the teacher's logits, in turn; repeatable.",
)
@click.option("--other", default="", metavar="REF", help="A second network that manipulations compare with.")
@click.option("--data", help="Data set [default: the student's, else the teacher's].")
@click.option("--data-dir", help="Folder that holds the data set's original files.")
@click.option(
    "--norm", default="linf", show_default=True, help="What the student is to withstand: linf or l2."
)
@click.option("--eps", help="Its radius, such as 8/255 [default: the data set's strictest headline].")
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs [default: those of the student's recipe].")
@click.option("--lr", type=float, help="Learning rate at its peak [default: that of the student's recipe].")
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--against", multiple=True, metavar="REF", help="Networks for the page [default: the student untaught]."
)
@click.option("--suite", default="quick-linf", show_default=True, help="Suite of the page.")
@click.option("--n", type=click.IntRange(min=1), help="Samples of the page [default: the suite's].")
def distill(
    teacher: str,
    student: str,
    out: Path,
    against: tuple[str, ...],
    suite: str,
    n: int | None,
    device: str,
    **options: Any,
) -> None:
    """Train a student on what a teacher says of the data, and compare the two on a page.

    The teacher is asked of validation samples first, and refused where it has nothing to teach. Beside the student
    stand the networks of the zoo that are like it but for the teacher, or else one that is trained for the purpose, as
    OUT-untaught. The page is OUT-page/report.html. A command that was cut off goes on where it is given again.
    """
    from robustgeom.training.distill import companions, distillation, untaught
    from robustgeom.training.spelling import read_manipulation, read_setting
    from robustgeom.training.train import Hooks, train

    options["arguments"] = dict(map(read_setting, options["arguments"]))
    options["manipulations"] = list(map(read_manipulation, options.pop("manipulate")))
    recipe = distillation(teacher, student, name=out.name, **options)
    peers = list(against) or companions(recipe)
    alone = out.with_name(f"{out.name}-untaught")
    plan = {out: recipe} | ({} if peers else {alone: untaught(recipe, alone.name)})
    with Display() as display:
        hooks = Hooks(epoch=(display.epoch,), step=display.step, note=display.note)
        for folder, one in plan.items():
            if _there(folder, one):
                display.note(f"{folder}: there already")
            else:
                train(one, out=folder, device=device, data_dir=options["data_dir"], hooks=hooks)
    models = [teacher, *peers, *([] if peers else [_reference(alone)]), _reference(out)]
    given = {"data": recipe.data, "data_dir": options["data_dir"], "device": device, "suite": suite, "n": n}
    place = out.with_name(f"{out.name}-page")
    if (place / "report.html").is_file():
        click.echo(f"{place / 'report.html'}: there already", err=True)
        return
    click.get_current_context().invoke(evaluate, models=tuple(dict.fromkeys(models)), out=place, **given)


def _there(folder: Path, recipe: Any) -> bool:
    """Return whether the folder holds what the recipe makes; one that holds something else is refused by `train`."""
    from robustgeom.training.recipe import read_recipe

    return (folder / "recipe.toml").is_file() and read_recipe(folder / "recipe.toml") == recipe


def _reference(folder: Path) -> str:
    return str(folder) if folder.is_absolute() else f"./{folder}"
