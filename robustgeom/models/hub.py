"""Files in repositories of the Hugging Face hub: from its cache, else downloaded; data only, never code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from robustgeom.errors import ContentError
from robustgeom.models.pretrained import package

__all__ = ["hub_file", "hub_version", "read_config"]

SECONDS = 10.0
"""How long the hub may be silent."""
_INSTEAD = "where there is a network, or a local file: timm:NAME@FILE"


def hub_version() -> str:
    """Return name and version of the hub's client; raises `ReferenceNotFoundError` without it."""
    return f"huggingface_hub {package('huggingface_hub', 'timm').__version__}"


def hub_file(repository: str, file: str, *, instead: str = _INSTEAD) -> Path:
    """Return a file of a repository, from the hub's cache or downloaded into it.

    Raises `ContentError` where the download fails, which advises what to do `instead`.
    """
    hub = package("huggingface_hub", "timm")
    cached = hub.try_to_load_from_cache(repository, file)
    if isinstance(cached, str):
        return Path(cached)
    try:
        _reachable(hub.constants.ENDPOINT)
        return Path(hub.hf_hub_download(repository, file, etag_timeout=SECONDS))
    except Exception as error:  # of half a dozen kinds, some of them the HTTP library's
        got = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise ContentError(f"to download {file} of {repository}", got=got, fix=instead) from error


def _reachable(endpoint: str) -> None:
    """Ask once: the hub's client asks six times, and takes half a minute to say that there is no network."""
    try:
        urlopen(endpoint, timeout=SECONDS).close()
    except HTTPError as error:  # an answer, whatever it says
        error.close()


def read_config(path: Path, repository: str) -> dict[str, Any]:
    """Return a config.json in timm's format; raises `ContentError` where it names no architecture."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ContentError(
            "a readable config.json", got=f"{repository}: {error}", fix="another repository"
        ) from error
    if not isinstance(found, dict) or not isinstance(found.get("architecture"), str):
        fix = "a repository of timm's, such as hf:timm/resnet18.a1_in1k"
        got = f"none of one string in {repository}'s config.json"
        raise ContentError("an architecture of timm", got=got, fix=fix)
    return found
