"""What is read from a record many times while a page is written, worked out once; no torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

from robustgeom.records import RunRecord

__all__ = ["once_per_record"]

T = TypeVar("T")


def once_per_record(function: Callable[[RunRecord], T]) -> Callable[[RunRecord], T]:
    """Return the function run once for each record and forgotten with it; what it returns is not to be changed."""
    kept: WeakKeyDictionary[RunRecord, T] = WeakKeyDictionary()

    @wraps(function)
    def remembered(record: RunRecord) -> T:
        if record not in kept:
            kept[record] = function(record)
        return kept[record]

    return remembered
