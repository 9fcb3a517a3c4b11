"""Jobs as specs: strings, numbers and paths in, a path out; so that any executor can run and repeat them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from robustgeom.errors import RobustGeomError, UserError
from robustgeom.harness.evaluate import evaluate
from robustgeom.harness.options import Interrupted, Progress, RunOptions, Unfinished
from robustgeom.records import RunRecord

__all__ = ["Executor", "Future", "JobSpec", "JobsUnfinished", "help_job", "run_job", "run_jobs"]

_TRIES = 3


@dataclass(frozen=True)
class JobSpec:
    """One evaluation to run: references and plain options, and the folder its record goes to.

    With a `journal`, finished work is kept there and taken from there, and an earlier record in `out` is replaced.
    """

    model: str
    data: str
    suite: str
    out: str
    options: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    journal: str | None = None


class Future(Protocol):
    """What an executor's `submit` returns."""

    def result(self) -> Any:
        """Return the job's path."""
        ...


class Executor(Protocol):
    """Anything that runs a function later: threads, processes, Dask, Slurm."""

    def submit(self, fn: Any, *args: Any) -> Future:
        """Start `fn(*args)`."""
        ...


class JobsUnfinished(UserError):  # noqa: N818 - the twin of Unfinished
    """Some jobs did not end well; `mistakes` says what ended each, by the folder its record would have gone to."""

    def __init__(self, mistakes: dict[str, str]) -> None:
        RobustGeomError.__init__(
            self, "; ".join(f"{Path(out).name}: {text}" for out, text in mistakes.items())
        )
        self.mistakes = mistakes


def run_job(spec: JobSpec, progress: Progress | None = None) -> str:
    """Evaluate, save, return the record's path; where it was cut off, save the finished part and raise."""
    try:
        record = _evaluated(spec, progress)
    except (Interrupted, Unfinished) as stop:
        stop.record.save(Path(spec.out), replace=spec.journal is not None)
        raise
    return str(record.save(Path(spec.out), replace=spec.journal is not None))


def help_job(spec: JobSpec) -> str:
    """Share the work of a job with the process that saves its record, chunk by chunk, through their journal."""
    _evaluated(spec, None)
    return spec.out


def _evaluated(spec: JobSpec, progress: Progress | None) -> RunRecord:
    options = RunOptions(**{**spec.options, "attacks": tuple(spec.options.get("attacks", ()))})
    return evaluate(
        spec.model,
        spec.data,
        spec.suite,
        options=options,
        progress=progress,
        arguments=spec.arguments,
        journal=spec.journal,
    )


def run_jobs(specs: Iterable[Any], executor: Executor, *, work: Callable[[Any], str] = run_job) -> list[str]:
    """Run all jobs on an executor, each by `work`; return their records' paths in order.

    A job is a `JobSpec`, or another spec with a place `out`, as `work` takes it.

    A job whose worker died, or that failed in another way than by a mistake of the user's, is tried three times.
    Raises `JobsUnfinished` once all others have ended.
    """
    jobs = list(specs)
    futures = [executor.submit(work, spec) for spec in jobs]
    paths, mistakes = [], {}
    for spec, future in zip(jobs, futures, strict=True):
        try:
            paths.append(_result(future, partial(executor.submit, work, spec)))
        except Exception as error:
            mistakes[spec.out] = str(error)
    if mistakes:
        raise JobsUnfinished(mistakes)
    return paths


def _result(future: Future, again: Callable[[], Future]) -> str:
    """Return a job's path, sent out again where what ended it may not happen twice."""
    for _ in range(_TRIES - 1):
        try:
            return str(future.result())
        except UserError:
            raise
        except Exception:  # executors say in many ways that a worker died
            future = again()
    return str(future.result())
