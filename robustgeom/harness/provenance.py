"""Which code, packages and machine a run used."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

__all__ = ["commit", "device_text", "packages"]

_NAMES = ("robustgeom", "torch", "torchvision", "timm", "numpy", "scipy", "pyarrow", "safetensors")


def packages() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on.

    >>> "torch" in packages()
    True
    """
    found = {"python": platform.python_version()}
    for name in _NAMES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> tuple[str | None, bool | None]:
    """Return the commit the package runs from and whether it has changes; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None, None
    head = _git(root, "rev-parse", "HEAD")
    status = _git(root, "status", "--porcelain", "--", "robustgeom", "attacks", "zoo")
    return head, None if status is None else bool(status)


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def device_text(device: torch.device) -> str:
    """Return what a reader wants to know of the device.

    >>> device_text(torch.device("cpu")).startswith("cpu")
    True
    """
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({platform.machine()}, {torch.get_num_threads()} threads)"
