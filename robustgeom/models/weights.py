"""Weight files of others: fetched once, read without running what is in them, put into networks that they fit."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from robustgeom.errors import ContentError

__all__ = ["fetch", "fill", "read_state"]

SECONDS = 30.0
"""How long a server may be silent."""
_HASH = re.compile(r"-([0-9a-f]{8,64})\.")  # in a file's name, as torch.hub has it
_BLOCKED = re.compile(r"GLOBAL [\w.]+|Unsupported (?:class|operand) [\w.]+")


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Return the state dict in a file: safetensors, or torch's format with weights_only=True.

    Raises `ContentError` where the file is missing, cut off, would run code, or holds anything but tensors by name.
    """
    file = Path(path)
    if not file.is_file():
        raise ContentError("a weight file", got=f"no file {file}", fix="checking the path")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        found: object = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        fix = "torch.save(model.state_dict(), FILE), or getting the file again"
        raise ContentError(
            "a whole file of weights and nothing else", got=f"{file.name}: {_said(error)}", fix=fix
        ) from error
    return _by_name(found, file)


def _said(error: Exception) -> str:
    """Return one line: torch's own on files that would run code advises to run it."""
    if isinstance(error, pickle.UnpicklingError):
        blocked = _BLOCKED.search(str(error))
        return f"code to run ({blocked.group()})" if blocked else "no weights that torch can read"
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _by_name(found: object, file: Path) -> dict[str, Tensor]:
    if not isinstance(found, dict):
        got, fix = f"{type(found).__name__} in {file.name}", "torch.save(model.state_dict(), FILE)"
        raise ContentError("tensors by name", got=got, fix=fix)
    odd = [name for name, value in found.items() if not isinstance(value, Tensor)]
    if odd or not found:
        got = f"{', '.join(map(str, odd[:5])) or 'nothing'} in {file.name}"
        inner = next((name for name in odd if isinstance(found[name], Mapping)), "state_dict")
        raise ContentError("tensors by name", got=got, fix=f"saving its {str(inner)!r} alone")
    return found  # as it is: the versions that torch attaches to it matter


def fill(model: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Put the weights `state` from `source` into `model`; raises `ContentError` that names the first mismatch.

    >>> fill(nn.Linear(1, 2), {"weight": torch.zeros(2, 1)}, "w.pth")
    Traceback (most recent call last):
    robustgeom.errors.ContentError: expected weights that fit Linear, got no bias in w.pth; try another ...
    """
    try:
        model.load_state_dict(state)
    except Exception as error:
        got = mismatch(model, state) or f"{type(error).__name__}: {error}"
        fix = "another file, or file.py:build for another architecture"
        wanted = f"weights that fit {type(model).__name__}"
        raise ContentError(wanted, got=f"{got} in {source}", fix=fix) from error


def mismatch(model: nn.Module, state: dict[str, Tensor]) -> str | None:
    """Return the first tensor, in the model's order, that `state` lacks, or has in another shape, or has too many."""
    wanted = model.state_dict()
    for name, value in wanted.items():
        if name not in state:
            if name.endswith("num_batches_tracked"):  # older files have none, and torch does without
                continue
            return f"no {name}"
        if state[name].shape != value.shape:
            return f"{name} of shape {tuple(state[name].shape)}, not {tuple(value.shape)}"
    return next((f"{name}, which it does not have," for name in state if name not in wanted), None)


def fetch(url: str, folder: str | Path, *, instead: str, seconds: float = SECONDS) -> Path:
    """Return the file of `url` in `folder`, downloaded where it is missing, all or nothing.

    A server may be silent for `seconds`. The sha256 prefix in the file's name is checked at every call. Raises
    `ContentError` where the download fails, which advises what to do `instead`, and on another sha256.
    """
    path = Path(folder) / Path(urlsplit(url).path).name
    if path.is_file():
        _same_hash(path, path.name, f"deleting {path}")
        return path
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(url, part, seconds)
        _same_hash(part, path.name, instead)
        part.replace(path)
    except (OSError, HTTPException, ValueError) as error:
        raise ContentError(
            f"to download {url}", got=f"{type(error).__name__}: {error}", fix=instead
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return path


def _download(url: str, part: Path, seconds: float) -> None:
    with urlopen(url, timeout=seconds) as answer, part.open("wb") as file:
        shutil.copyfileobj(answer, file)
        if answer.length:  # what the server promised and did not send
            raise OSError(f"{answer.length} bytes too few")


def _same_hash(path: Path, name: str, fix: str) -> None:
    promised = _HASH.search(name)
    if promised is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(promised.group(1)):
        got = f"{found[:12]}..."
        raise ContentError(f"{name} with sha256 {promised.group(1)}...", got=got, fix=fix)
