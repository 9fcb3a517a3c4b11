"""`robustgeom cp`."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from robustgeom import content
from robustgeom.errors import OutputError, unknown
from robustgeom.files import new_folder, write_text

__all__ = ["NAMED", "cp", "found"]

NAMED = {"zoo": "model", "suite": "suite", "recipe": "model", "study": "study"}


@click.command()
@click.argument("name")
@click.argument("dest", type=click.Path(path_type=Path))
def cp(name: str, dest: Path) -> None:
    """Copy a zoo model, a suite, a recipe or a study into the folder DEST, to edit it there.

    NAME is zoo/NAME, suite/NAME, recipe/NAME or study/NAME, or a name alone of all but a recipe. A model becomes the
    folder DEST/NAME, which `robustgeom evaluate DEST/NAME` takes; a suite becomes DEST/NAME.toml, for --suite; a recipe
    and a study likewise, for `robustgeom train` and `robustgeom study`. Nothing is overwritten.
    """
    kind, source = found(name)
    target = dest / (source.parent.name if kind == "zoo" else source.name)
    if kind == "recipe":
        source, target = source.with_name("recipe.toml"), dest / f"{source.parent.name}.toml"
    if target.exists():
        raise OutputError("a place that is free", got=str(target), fix="another DEST, or moving it away")
    if kind == "zoo":
        _copy_folder(source.parent, target)
    else:
        write_text(target, source.read_text(encoding="utf-8"))
    click.echo(str(target))


def found(name: str) -> tuple[str, Path]:
    """Return which kind of `NAMED` a name is of, and its file.

    Raises `UnknownNameError` with the closest names of all kinds.
    """
    kind, slash, rest = name.rstrip("/").partition("/")
    if slash and kind in NAMED:
        return kind, content.find(NAMED[kind], rest)
    for kind in ("zoo", "suite", "study"):
        if name in content.names(NAMED[kind]):
            return kind, content.find(NAMED[kind], name)
    known = [f"{kind}/{n}" for kind, of in NAMED.items() for n in content.names(of)]
    raise unknown("model, suite, recipe or study", name, known)


def _copy_folder(source: Path, target: Path) -> None:
    with new_folder(target) as folder:
        for file in sorted(source.iterdir()):
            if file.is_file():
                shutil.copyfile(file, folder / file.name)
