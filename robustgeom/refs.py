"""References to Python objects: "file.py:attr" and "pkg.mod:attr"; anything else is a name."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from robustgeom.errors import ReferenceNotFoundError

__all__ = ["called", "is_reference", "resolve", "source_file", "source_of", "without_folders"]

_SOURCES = ("hf", "robustbench", "timm", "torchvision")
_OF_FILES = ("timm", "torchvision")  # where what follows the @ may be a file


def is_reference(text: str) -> bool:
    """Return whether `text` is a reference rather than a name.

    >>> is_reference("my_defense.py:build"), is_reference("fmnist-cnn-standard")
    (True, False)
    """
    return ":" in text or text.endswith(".py")


def source_file(text: str) -> Path | None:
    """Return the file that "file.py:attr" names, else None.

    >>> source_file("my_defense.py:build").name
    'my_defense.py'
    """
    head = text.rpartition(":")[0]
    return Path(head) if head.endswith(".py") else None


def source_of(text: str) -> str | None:
    """Return the package that a reference names a model of, else None.

    >>> source_of("torchvision:resnet18"), source_of("my_defense.py:build")
    ('torchvision', None)
    """
    head, colon, _ = text.partition(":")
    return head if colon and head in _SOURCES else None


def without_folders(text: str) -> str:
    """Return a reference to a model without the folders of this machine, which records may not publish.

    >>> without_folders("defenses/mine.py:build"), without_folders("timm:resnet18@weights/mine.pth")
    ('mine.py:build', 'timm:resnet18@mine.pth')
    """
    if source_of(text) in _OF_FILES:
        name, at, file = text.partition("@")
        return f"{name}{at}{Path(file).name}"
    file_of_code = source_file(text)
    if file_of_code is not None:
        return f"{file_of_code.name}:{text.rpartition(':')[2]}"
    return text if is_reference(text) else Path(text).resolve().name


def resolve(text: str) -> object:
    """Return the object that a reference names.

    Raises `ReferenceNotFoundError` where the file, module or attribute is missing or the import fails.

    >>> resolve("math:pi")
    3.141592653589793
    """
    head, _, attribute = text.rpartition(":")
    if not head or not attribute:
        file = text.strip(":")
        fix = f"{file}:build" if file.endswith(".py") else "my_file.py:build"
        raise ReferenceNotFoundError("file.py:attr or pkg.mod:attr", got=repr(text), fix=fix)
    module = _load_file(Path(head)) if head.endswith(".py") else _load_module(head)
    found: object = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise _no_attribute(head, part, found)
        found = getattr(found, part)
    return found


def called(found: Callable[[], object], text: str, *, wanted: str) -> object:
    """Return what `found`, named by the reference `text`, returns when called without arguments.

    Raises `ReferenceNotFoundError` where it raises; `wanted` says what it should have returned.

    >>> called(list, "builtins:list", wanted="a list")
    []
    """
    try:
        return found()
    except (Exception, SystemExit) as error:
        got = f"{type(error).__name__}: {error}"
        raise ReferenceNotFoundError(f"{text}() to return {wanted}", got=got, fix="mending it") from error


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ReferenceNotFoundError(
            "a Python file", got=f"{path}, which does not exist", fix="checking the path"
        )
    # The name is unique to the path, so two files of one name do not meet in sys.modules.
    name = f"_robustgeom_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ReferenceNotFoundError("a Python file", got=str(path), fix="a file ending in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _broken(str(path), error) from error
    return module


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _broken(where: str, error: BaseException) -> ReferenceNotFoundError:
    got = f"{type(error).__name__}: {error}"
    return ReferenceNotFoundError(
        f"{where} to import", got=got, fix=f"mending {where}, or installing what it needs"
    )


def _no_attribute(where: str, name: str, owner: object) -> ReferenceNotFoundError:
    public = [n for n in dir(owner) if not n.startswith("_")]
    close = difflib.get_close_matches(name, public, n=3, cutoff=0.5) or public[:5]
    fix = ", ".join(close) if close else "defining it"
    return ReferenceNotFoundError(f"an attribute of {where}", got=repr(name), fix=fix)
