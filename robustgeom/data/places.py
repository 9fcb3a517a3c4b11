"""Where data sets are kept on this machine."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["data_folder", "home"]


def home() -> Path:
    """Return the folder that downloads and what is made here go to: ~/.cache/robustgeom."""
    return Path.home() / ".cache" / "robustgeom"


def data_folder(data_dir: str | None) -> Path:
    """Return `data_dir`, by default ROBUSTGEOM_DATA, then `home`.

    >>> data_folder("mine").name
    'mine'
    """
    return Path(data_dir or os.environ.get("ROBUSTGEOM_DATA") or home())
