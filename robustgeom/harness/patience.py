"""Ctrl-C that lets the work in flight finish first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["patient"]


@contextmanager
def patient(tell: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Give a function to call where it is a good moment to stop: it raises `KeyboardInterrupt` after a Ctrl-C.

    The first Ctrl-C calls `tell` and waits for that moment, or the end of the block; the second raises at once. Where
    the caller has a handler of his own, or this is not the main thread, nothing changes.
    """
    in_charge = threading.current_thread() is threading.main_thread()
    if not in_charge or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: None
        return
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            signal.default_int_handler(number, frame)
        asked = True
        tell()

    def stop_if_asked() -> None:
        if asked:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)
    try:
        yield stop_if_asked
        stop_if_asked()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
