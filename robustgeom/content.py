"""Where attacks/, zoo/, studies/ and reports/ live; never the working directory by accident.

Order: the folder in ROBUSTGEOM_CONTENT, the copy inside the installed package, the checkout around the package.
"""

from __future__ import annotations

import os
from pathlib import Path

from robustgeom.errors import ContentError, unknown

__all__ = ["content_root", "find", "names"]

_PACKAGE = Path(__file__).resolve().parent
_PATTERNS = {
    "suite": "attacks/suites/{}.toml",
    "attack card": "attacks/cards/{}.toml",
    "model": "zoo/{}/card.toml",
    "study": "studies/{}.toml",
}


def content_root() -> Path:
    """Return the folder that holds attacks/ and zoo/; raises `ContentError` where there is none."""
    given = os.environ.get("ROBUSTGEOM_CONTENT")
    places = [Path(given)] if given else [_PACKAGE / "_content", _PACKAGE.parent]
    for place in places:
        if (place / "attacks").is_dir() and (place / "zoo").is_dir():
            return place
    raise ContentError(
        "a content folder with attacks/ and zoo/",
        got=", ".join(map(str, places)),
        fix="installing robustgeom again, or ROBUSTGEOM_CONTENT",
    )


def names(kind: str) -> list[str]:
    """Return the sorted names of all content of a kind: suite, attack card, model or study.

    >>> "quick-linf" in names("suite")
    True
    """
    pattern = _PATTERNS[kind]
    files = content_root().glob(pattern.format("*"))
    by_folder = "{}/" in pattern
    return sorted(f.parent.name if by_folder else f.stem for f in files)


def find(kind: str, name: str) -> Path:
    """Return the file of one piece of content; raises `UnknownNameError` with the closest names."""
    known = names(kind)
    if name not in known:
        raise unknown(kind, name, known)
    return content_root() / _PATTERNS[kind].format(name)
