"""What a training run is at a step: kept on disk, all or nothing, and restored bit for bit."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from robustgeom.errors import ContentError, OutputError

__all__ = ["read_checkpoint", "write_checkpoint"]


def read_checkpoint(path: str | Path | None, digest: str) -> dict[str, Any] | None:
    """Return the state kept at `path` for the run `digest`, None where there is none yet.

    Read with weights_only=True. Raises `ContentError` where it is damaged or of another run.
    """
    if path is None or not Path(path).is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        found, _ = state["digest"], state["step"]
    except (OSError, RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        got = f"{path}: {str(error).partition(chr(10))[0]}"
        raise ContentError("an intact checkpoint", got=got, fix="removing it") from error
    if found != digest:
        raise ContentError(
            "a checkpoint of this recipe and data",
            got=f"another's in {path}",
            fix="removing it, or another --out",
        )
    return state


def write_checkpoint(path: str | Path | None, state: Mapping[str, Any]) -> None:
    """Keep `state` at `path`, all or nothing; None: do not. Raises `OutputError` where that cannot be written."""
    if path is None:
        return
    staged = Path(f"{path}.part")
    try:
        torch.save(dict(state), staged)
        staged.replace(path)
    except (OSError, RuntimeError) as error:
        raise OutputError("a place that can be written", got=str(error), fix="another --out") from error
