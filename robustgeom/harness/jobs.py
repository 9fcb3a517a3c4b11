"""Jobs as specs: strings, numbers and paths in, a path out; so that any executor can run and repeat them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from robustgeom.harness.evaluate import evaluate
from robustgeom.harness.options import Interrupted, Progress, RunOptions, Unfinished

__all__ = ["JobSpec", "run_job", "run_jobs"]


@dataclass(frozen=True)
class JobSpec:
    """One evaluation to run: references and plain options, and the folder its record goes to."""

    model: str
    data: str
    suite: str
    out: str
    options: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)


class Future(Protocol):
    """What an executor's `submit` returns."""

    def result(self) -> str:
        """Return the job's path."""
        ...


class Executor(Protocol):
    """Anything that runs a function later: threads, processes, Dask, Slurm."""

    def submit(self, fn: Any, *args: Any) -> Future:
        """Start `fn(*args)`."""
        ...


def run_job(spec: JobSpec, progress: Progress | None = None) -> str:
    """Evaluate, save, return the record's path; where it was cut off, save the finished part and raise."""
    options = RunOptions(**{**spec.options, "attacks": tuple(spec.options.get("attacks", ()))})
    try:
        record = evaluate(
            spec.model, spec.data, spec.suite, options=options, progress=progress, arguments=spec.arguments
        )
    except (Interrupted, Unfinished) as stop:
        stop.record.save(Path(spec.out))
        raise
    return str(record.save(Path(spec.out)))


def run_jobs(specs: Iterable[JobSpec], executor: Executor) -> list[str]:
    """Run all jobs on an executor; return their records' paths in order."""
    futures = [executor.submit(run_job, spec) for spec in specs]
    return [future.result() for future in futures]
