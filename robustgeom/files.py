"""Writing files and folders whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from robustgeom.errors import ContentError, OutputError, closest

__all__ = ["new_folder", "parsed", "read_toml", "refuse_existing", "write_bytes", "write_text"]

Schema = TypeVar("Schema", bound=BaseModel)


def read_toml(path: str | Path, schema: type[Schema], kind: str, *, fix: str) -> Schema:
    """Return the file at `path`, a `kind` of content, as its schema has it.

    Raises `ContentError` where it cannot be read, and naming the first field that does not fit.
    """
    try:
        fields = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ContentError(f"a readable {kind}.toml", got=f"{path}: {error}", fix=fix) from error
    return parsed(fields, path, schema, kind)


def parsed(fields: object, path: str | Path, schema: type[Schema], kind: str) -> Schema:
    """Return `fields`, read from `path`, as the schema has them; raises `ContentError` on the first that do not fit."""
    try:
        return schema.model_validate(fields)
    except ValidationError as error:
        # A field of another name is missing too: the misspelling says more.
        first = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
        wanted, got, fix = _said(first, schema)
        raise ContentError(f"a valid {kind}{wanted}", got=f"{got} in {path}", fix=fix) from error


def _said(error: ErrorDetails, schema: type[BaseModel]) -> tuple[str, str, str]:
    """Return what a field should have been, what it was, and what to try, from the first complaint of a schema."""
    path, kind = error["loc"], error["type"]
    place = ".".join(map(str, path))
    if kind == "extra_forbidden":
        known = _fields(schema, path[:-1])
        return "", f"the unknown field {place!r}", closest(str(path[-1]), known) if known else "removing it"
    if kind == "missing":
        return "", f"no {place!r}", f"adding {path[-1]!r}"
    if kind == "value_error":  # a sentence of our own
        return (
            "",
            error["msg"].removeprefix("Value error, ") + (f" at {place}" if place else ""),
            "correcting it",
        )
    rule = error["msg"].removeprefix("Input should be ").replace("String should", "to")
    return f" with {place}: {rule}", repr(error["input"]), f"another {place}"


def _fields(schema: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the fields of a schema, or of the section at a path below it; none where that is no section."""
    found: object = schema
    for name in path:
        field = found.model_fields.get(str(name)) if _is_section(found) else None
        found = None if field is None else field.annotation
    return list(found.model_fields) if _is_section(found) else []


def _is_section(value: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(value, type) and issubclass(value, BaseModel)


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` as UTF-8 to `path` as `write_bytes` does."""
    return write_bytes(path, text.encode())


def write_bytes(path: str | Path, raw: bytes) -> Path:
    """Write `raw` to `path`, all or nothing; return the path.

    Raises `OutputError` where the place cannot be written; nothing is left behind then.
    """
    target = Path(path)
    staged: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".robustgeom-", dir=target.parent)
        staged = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
        staged.chmod(0o644)
        staged.replace(target)
    except OSError as error:
        raise OutputError("a place that can be written", got=str(error), fix="another --out") from error
    finally:
        if staged is not None:
            staged.unlink(missing_ok=True)
    return target


def refuse_existing(path: str | Path) -> None:
    """Raise `OutputError` where `path` exists, or where the folder that it would be in cannot.

    >>> refuse_existing("a/folder/of/no/one")
    """
    try:
        exists = Path(path).exists()
        home = next(parent for parent in Path(path).absolute().parents if parent.exists())
    except OSError as error:
        raise OutputError("a place that can be written", got=str(error), fix="another --out") from error
    if exists:
        raise OutputError("a folder that does not exist yet", got=str(path), fix="another --out, or move it")
    if not home.is_dir() or not os.access(home, os.W_OK):
        raise OutputError("a place that can be written", got=f"{path} in {home}", fix="another --out")


@contextmanager
def new_folder(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a folder to fill, which becomes `path` at the end, or vanishes where an error cuts the filling off.

    Raises `OutputError` where `path` exists, unless it is to be replaced, or cannot be written; nothing is left
    behind then.
    """
    target = Path(path)
    if not replace:
        refuse_existing(target)
    staged: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=".robustgeom-", dir=target.parent))
        yield staged
        staged.chmod(0o755)
        with tempfile.TemporaryDirectory(prefix=".robustgeom-", dir=target.parent) as aside:
            if replace and target.exists():
                target.rename(Path(aside) / target.name)
            staged.rename(target)
    except OSError as error:
        raise OutputError("a place that can be written", got=str(error), fix="another --out") from error
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
