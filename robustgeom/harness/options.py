"""How to run an evaluation, and what it tells while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from robustgeom.errors import InputError, RobustGeomError, UserError
from robustgeom.harness.budget import parse_budget
from robustgeom.records import RunRecord

__all__ = ["Event", "Interrupted", "Precision", "Progress", "RunOptions", "Unfinished", "described"]

Precision = Literal["float32", "bf16"]


@dataclass(frozen=True)
class RunOptions:
    """Everything about a run that the suite does not fix; None leaves the suite's or data set's own value.

    `eps` is in the input's units ("8/255" is accepted); `attacks` are references to attacks of your own, run
    after the suite's; `surrogate` is a model to transfer from in place of the suite's; `split` matters for data
    sets by name. `precision` bf16 and `compiled` (torch.compile) speed up the search on a GPU; every success is
    confirmed in float32 on the network itself. `remedy` runs the attacks that answer the failure checks that fired.
    `budget`, such as "10min" or "500000passes", ends the attacks and checks early: the robust accuracy is an upper
    bound then, at the headline radii only, and there are no analyzers.
    """

    n: int | None = None
    norm: str | None = None
    eps: str | float | None = None
    seed: int = 0
    batch_size: int = 128
    device: str = "cpu"
    split: str = "eval"
    data_dir: str | None = None
    attacks: tuple[str, ...] = ()
    surrogate: str | None = None
    precision: Precision = "float32"
    compiled: bool = False
    analyze: bool = True
    remedy: bool = False
    budget: str | None = None

    def __post_init__(self) -> None:
        counts = {"n": 1 if self.n is None else self.n, "batch_size": self.batch_size}
        for name, value in counts.items():
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name} >= 1", got=repr(value), fix=f"{name}=128")
        parse_budget(self.budget)
        if not isinstance(self.seed, int):
            raise InputError("a whole number as seed", got=repr(self.seed), fix="seed=0")

    def as_dict(self) -> dict[str, Any]:
        """Return the options as plain values."""
        return {**asdict(self), "attacks": list(self.attacks)}


@dataclass(frozen=True)
class Event:
    """Progress of one evaluation: `done` of `total` jobs; `line` says what a job that just finished found."""

    model: str
    job: str
    done: float
    total: int
    line: str | None = None


Progress = Callable[[Event], None]


def described(error: Exception) -> str:
    """Return a mistake's own words, or those of any other error behind its type's name."""
    return str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


class Unfinished(UserError):  # noqa: N818 - the twin of Interrupted
    """A mistake that showed during an evaluation; `record` holds every finished job."""

    def __init__(self, record: RunRecord, cause: Exception) -> None:
        RobustGeomError.__init__(self, described(cause))
        self.record = record


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during an evaluation; `record` holds every finished job."""

    def __init__(self, record: RunRecord) -> None:
        super().__init__("interrupted")
        self.record = record
