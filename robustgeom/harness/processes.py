"""An executor of processes: each job has one of its own, so that one that dies takes no other with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import torch

from robustgeom.errors import RobustGeomError, UserError

__all__ = ["Processes", "WorkerDied"]

POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""What numpy's and scipy's matrix products read, once, in a process that starts."""


class WorkerDied(Exception):  # noqa: N818 - what happened
    """A process ended without an answer."""


class _Mistake(UserError):  # noqa: N818 - as it says
    """What a job in another process said of the user's mistake."""

    def __init__(self, text: str) -> None:
        RobustGeomError.__init__(self, text)


class Processes:
    """At most `jobs` processes at a time, which share the machine's cores; a context manager.

    >>> with Processes(2) as executor:
    ...     executor.submit(abs, -3).result()
    3
    """

    def __init__(self, jobs: int) -> None:
        self._threads = ThreadPoolExecutor(jobs)
        self._cores = max(torch.get_num_threads() // jobs, 1)
        self._found: dict[str, str | None] = {}

    def __enter__(self) -> Processes:
        self._found = {name: os.environ.get(name) for name in POOLS}
        os.environ.update(dict.fromkeys(POOLS, str(self._cores)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=error is not None)
        for name, value in self._found.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def submit(self, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        """Run `fn(*args)` in a process of its own; `WorkerDied` where it ends without an answer."""
        return self._threads.submit(_in_a_process, self._cores, fn, args)


def _in_a_process(cores: int, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, cores, fn, args), daemon=True)
    process.start()
    sender.close()
    try:
        kind, value = receiver.recv()
    except EOFError:
        process.join()
        raise WorkerDied(f"a process of its own, which ended with exit code {process.exitcode}") from None
    process.join()
    if kind == "mistake":
        raise _Mistake(value)
    if kind == "interrupted":
        raise KeyboardInterrupt
    if kind == "error":
        raise RuntimeError(value)
    return value


def _answer(sender: Connection, cores: int, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(cores)
    try:
        sender.send(("value", fn(*args)))
    except KeyboardInterrupt:
        sender.send(("interrupted", None))
    except UserError as error:
        sender.send(("mistake", str(error)))
    except Exception as error:
        sender.send(("error", f"{type(error).__name__}: {error}"))
