"""The folder of an evaluation: a new one, or one whose evaluation was cut off and now goes on."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from robustgeom.errors import OutputError
from robustgeom.files import write_text

__all__ = ["OutputFolder", "alone_in", "output_folder"]

_MARK, _JOURNAL, _LOCK = "unfinished.json", "journal", ".lock"


@dataclass
class OutputFolder:
    """Where records and page go. `goes_on` says that an earlier evaluation left finished work in `journal`.

    Whoever sees all of it finished sets `finished`; until then the same command goes on there.
    """

    path: Path
    goes_on: bool
    finished: bool = False

    @property
    def journal(self) -> Path:
        """The folder of finished work."""
        return self.path / _JOURNAL


@contextmanager
def output_folder(out: Path | None, *, default: str, arguments: dict[str, Any]) -> Iterator[OutputFolder]:
    """Give the folder `out`, or without it the first usable one of `default`, `default-2`, ...

    Usable is one that does not exist, or whose evaluation with the same arguments was cut off. It is marked as
    unfinished and locked for as long as it is in use. Raises `OutputError` where `out` is not usable or cannot be
    created.
    """
    for path in _candidates(out, default):
        goes_on = path.exists()
        mark = _claimed(path, arguments, asked=out is not None)
        if mark is None:
            continue
        folder = OutputFolder(path, goes_on)
        try:
            with mark:
                yield folder
        finally:
            _tidy(folder)
        return


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder, which is made where it is not there; raises `OutputError` where another process holds it."""
    lock = folder / _LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as error:
        raise OutputError(
            "an output folder that can be written", got=str(error), fix="another --out"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            got = f"{folder}, in which another is at work"
            raise OutputError("a folder of one's own", got=got, fix="waiting, or --jobs 2 there") from error
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _candidates(out: Path | None, default: str) -> Iterator[Path]:
    if out is not None:
        yield out
        return
    base, count = Path(default), 1
    while True:
        yield base if count == 1 else base.with_name(f"{base.name}-{count}")
        count += 1


def _claimed(path: Path, arguments: dict[str, Any], *, asked: bool) -> IO[str] | None:
    """Return the folder's mark, locked; where it is not usable raise if it was `asked` for, else return None."""
    why = ""
    try:
        if not path.exists():
            (path / "runs").mkdir(parents=True)
            write_text(path / _MARK, json.dumps(arguments, indent=1) + "\n")
        mark = (path / _MARK).open(encoding="utf-8")
    except FileNotFoundError:
        why = "whose evaluation is finished"
    except OSError as error:
        raise OutputError(
            "an output folder that can be created", got=str(error), fix="another --out"
        ) from error
    else:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if json.load(mark) == arguments:
                return mark
            why = "an unfinished evaluation with other arguments"
        except BlockingIOError:
            why = "in which an evaluation is at work"
        except ValueError:
            why = f"whose {_MARK} is damaged"
        mark.close()
    if not asked:
        return None
    raise OutputError(
        "an output folder that does not exist yet", got=f"{path}, {why}", fix="another --out, or move it"
    )


def _tidy(folder: OutputFolder) -> None:
    """Remove what only an unfinished evaluation needs, and a folder that nothing came into."""
    kept = any(folder.journal.rglob("*.safetensors")) or any((folder.path / "runs").glob("*"))
    if folder.finished or not kept:
        shutil.rmtree(folder.journal, ignore_errors=True)
        (folder.path / _MARK).unlink(missing_ok=True)
    for path in (folder.path / "runs", folder.path):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
