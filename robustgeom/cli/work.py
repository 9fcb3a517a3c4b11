"""Working through jobs, one after the other or side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from robustgeom.cli.progress import Display
from robustgeom.errors import UserError

__all__ = ["work_through"]

Work = Callable[..., str]


def work_through(
    jobs: Sequence[Any], work: Work, *, count: int, spare: Callable[[Any], str] | None = None
) -> tuple[dict[str, str], bool]:
    """Do all jobs (each with a `model` and a place `out`), `count` at a time; return mistakes, and whether Ctrl-C came.

    `work(job, progress)` does one; `spare` is what processes do that are left over. Mistakes are by place, in words:
    one in a job does not cost the others, Ctrl-C ends all.
    """
    return _in_turn(jobs, work) if count == 1 else _side_by_side(jobs, work, count, spare)


def _in_turn(jobs: Sequence[Any], work: Work) -> tuple[dict[str, str], bool]:
    mistakes: dict[str, str] = {}
    with Display() as display:
        for job in jobs:
            try:
                work(job, display)
            except KeyboardInterrupt:  # what is finished is saved
                return mistakes, True
            except UserError as error:
                mistakes[job.out] = f"{job.model}: {error}" if len(jobs) > 1 else str(error)
    return mistakes, False


def _side_by_side(
    jobs: Sequence[Any], work: Work, count: int, spare: Callable[[Any], str] | None
) -> tuple[dict[str, str], bool]:
    from robustgeom.harness.jobs import JobsUnfinished, run_jobs  # heavy imports wait for --help
    from robustgeom.harness.processes import Processes

    try:
        with Processes(count) as executor:
            for i in range(count - len(jobs)):
                if spare is not None:
                    executor.submit(spare, jobs[i % len(jobs)])
            run_jobs(jobs, executor, work=partial(_aloud, work))
    except KeyboardInterrupt:
        return {}, True
    except JobsUnfinished as stop:
        return {out: f"{Path(out).name}: {text}" for out, text in stop.mistakes.items()}, False
    return {}, False


def _aloud(work: Work, job: Any) -> str:
    return work(job, Display(plain=True))
