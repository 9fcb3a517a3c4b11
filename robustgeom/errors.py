"""Everything that robustgeom raises on purpose.

RobustGeomError
├── UserError                   the caller's mistake; the command line exits with 2
│   ├── InputError              images, labels, models or settings that do not fit
│   ├── UnknownNameError        a name that nothing answers to
│   ├── ReferenceNotFoundError  "file.py:attr" or "pkg.mod:attr" that leads nowhere
│   ├── ContentError            a damaged card, suite, weight file or record
│   └── OutputError             a place that cannot be written
└── InternalError               ours; the command line exits with 1
"""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable

__all__ = [
    "ContentError",
    "InputError",
    "InternalError",
    "OutputError",
    "ReferenceNotFoundError",
    "RobustGeomError",
    "UnknownNameError",
    "UserError",
    "closest",
    "unknown",
]

LONGEST = 300
_MOST = 40  # names that a message lists; timm has 2,600


class RobustGeomError(Exception):
    """Root of every error that robustgeom raises on purpose."""


class UserError(RobustGeomError):
    """A mistake the caller can mend; its text always says expected, got, try.

    >>> str(UserError("eps >= 0", got="-1", fix="eps=8/255"))
    'expected eps >= 0, got -1; try eps=8/255'
    """

    def __init__(self, expected: str, *, got: str, fix: str) -> None:
        # One line: what was got is often another error's text, of any length.
        found = textwrap.shorten(got, LONGEST, placeholder=" ...")
        super().__init__(f"expected {expected}, got {found}; try {fix}")


class InputError(UserError):
    """Images, labels, a model or a setting that does not fit."""


class UnknownNameError(UserError):
    """A name that nothing answers to."""


class ReferenceNotFoundError(UserError):
    """A reference to a file, module or attribute that leads nowhere."""


class ContentError(UserError):
    """A damaged card, suite, weight file or record."""


class OutputError(UserError):
    """A place that cannot be written."""


class InternalError(RobustGeomError):
    """A broken promise of our own; please report it."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Build the error for an unknown name, with the closest known ones.

    >>> str(unknown("attack", "pdg", ["pgd", "apgd"]))
    "expected the name of a known attack, got 'pdg'; try pgd, apgd"
    """
    return UnknownNameError(f"the name of a known {kind}", got=repr(name), fix=closest(name, known))


def closest(name: str, known: Iterable[str]) -> str:
    """Return the known names that are most like `name`, or all of them where none is.

    >>> closest("stpes", ["steps", "loss"]), closest("x", ["steps", "loss"])
    ('steps', 'one of loss, steps')
    """
    names = sorted(known)
    # str, because a caller may well pass 2 or inf as the name of a norm.
    close = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    if close or len(names) <= _MOST:
        return ", ".join(close) if close else "one of " + ", ".join(names)
    return "one of " + ", ".join(names[:_MOST]) + f" and {len(names) - _MOST} more"
