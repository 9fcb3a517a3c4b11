"""Finished work on disk, so that a run that was cut off goes on: one file a piece, written whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from robustgeom.errors import OutputError

__all__ = ["Entry", "Journal", "digest"]


def digest(*parts: object) -> str:
    """Return 40 hexadecimal digits that depend on every part.

    >>> digest("pgd", 0.1) == digest("pgd", 0.1) != digest("pgd", 0.2)
    True
    """
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:40]


@dataclass(frozen=True)
class Entry:
    """What one finished piece of work came to: tensors by name, and facts that JSON can hold."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class Journal:
    """The finished work of one model under one set of conditions; without a folder it keeps nothing.

    Keys hold everything that an entry depends on, and `context` what all of them depend on, so that an entry is found
    again only where it would come out the same. `taken` and `made` count entries read and written. Several processes
    may share a folder.
    """

    folder: Path | None = None
    context: str = ""
    taken: int = 0
    made: int = 0

    def done(self, *key: object) -> Entry | None:
        """Return the entry of this key; None where there is none, or a damaged one."""
        path = self._path(key)
        entry = None if path is None else _read(path)
        self.taken += entry is not None
        return entry

    def keep(self, entry: Entry, *key: object) -> None:
        """Write an entry; raises `OutputError` where the folder cannot be written, and leaves what is there."""
        path = self._path(key)
        if path is not None:
            _write(path, entry)
            self.made += 1

    def once(self, make: Callable[[], Entry], *key: object) -> Entry:
        """Return the entry of this key, made and kept where there is none; one process makes it, others wait."""
        with self.turn(*key, wait=True):
            entry = self.done(*key)
            if entry is None:
                self.keep(entry := make(), *key)
            return entry

    def each(
        self, keys: Sequence[tuple[object, ...]], make: Callable[[int], Entry]
    ) -> Iterator[tuple[int, Entry]]:
        """Yield the position and the entry of every key, made and kept where there is none.

        Where other processes work on the same keys, first come those that none of them is at.
        """
        left = list(range(len(keys)))
        for wait in (False, True):
            for index in tuple(left):
                with self.turn(*keys[index], wait=wait) as mine:
                    entry = self.done(*keys[index]) if mine else None
                    if mine and entry is None:
                        self.keep(entry := make(index), *keys[index])
                if entry is not None:
                    left.remove(index)
                    yield index, entry

    @contextmanager
    def turn(self, *key: object, wait: bool) -> Iterator[bool]:
        """Say whether this process may work on a key: no other one is at it, or it has ended; or `wait` for that."""
        path = self._path(key)
        if path is None:
            yield True
            return
        with _created(path.with_suffix(".lock")).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True

    def _path(self, key: tuple[object, ...]) -> Path | None:
        return None if self.folder is None else self.folder / self.context / f"{digest(*key)}.safetensors"


def _read(path: Path) -> Entry | None:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            kept = file.metadata() or {}
        whole = kept.get("sum") == _sum(tensors, kept["facts"])
        return Entry(tensors, json.loads(kept["facts"])) if whole else None
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def _write(path: Path, entry: Entry) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in entry.tensors.items()}
    facts = json.dumps(entry.facts)
    metadata = {"facts": facts, "sum": _sum(tensors, facts)}
    _atomically(path, lambda staged: save_file(tensors, staged, metadata))


def _sum(tensors: dict[str, Tensor], facts: str) -> str:
    total = hashlib.blake2b(facts.encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _created(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(error) from error
    return path


def _atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside `path` and rename it; what a full disk cuts off vanishes."""
    staged: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=".", dir=_created(path).parent)
        os.close(handle)
        staged = Path(name)
        write(staged)
        staged.replace(path)
    except (OSError, SafetensorError) as error:
        raise _unwritable(error) from error
    finally:
        if staged is not None:
            staged.unlink(missing_ok=True)


def _unwritable(error: Exception) -> OutputError:
    fix = "making room there, and the same command again: what is finished is kept"
    return OutputError("a folder for finished work that can be written", got=str(error), fix=fix)
