"""What one attack came to on one chunk of samples, and how that is kept in the journal."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from robustgeom.harness.journal import Entry
from robustgeom.harness.judge import Judgement
from robustgeom.threat import Norm, distance

__all__ = ["DISTANCES", "Bout", "new_bout"]

DISTANCES: tuple[Norm, ...] = ("linf", "l2", "l1")


@dataclass(frozen=True)
class Bout:
    """k samples under one attack at one radius: the points found (k, ...), the judge's decisions, passes, distances.

    `excess` is how far a point was outside, where that was looked at; `seen` holds the ids that the attack saw fooled;
    of a minimum-norm attack `new` (k,) says which rows it was run on and `nearest` (j, ...) what it found for them.
    """

    found: Tensor
    verdict: Judgement
    calls: tuple[Tensor, Tensor]
    moved: dict[str, Tensor]
    seconds: float
    excess: float | None = None
    seen: tuple[int, ...] = ()
    new: Tensor | None = None
    nearest: Tensor | None = None

    def entry(self, kept: Tensor) -> Entry:
        """Return the bout as the journal keeps it, with the points of the rows `kept` (k,) only."""
        tensors = {
            "found": self.found[kept],
            "kept": kept,
            "forward": self.calls[0],
            "backward": self.calls[1],
        }
        tensors |= {f"verdict.{name}": value for name, value in vars(self.verdict).items()}
        tensors |= {f"moved.{name}": value for name, value in self.moved.items()}
        if self.new is not None and self.nearest is not None:
            tensors |= {"new": self.new, "nearest": self.nearest}
        return Entry(tensors, {"seconds": self.seconds, "excess": self.excess, "seen": list(self.seen)})

    @classmethod
    def restored(cls, entry: Entry, inputs: Tensor) -> Bout:
        """Return the bout that an entry holds, of samples whose inputs (k, ...) stand in for points not kept."""
        tensors, facts = entry.tensors, entry.facts
        found = inputs.clone()
        found[tensors["kept"]] = tensors["found"]
        verdict, moved = (
            {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
            for start in ("verdict.", "moved.")
        )
        return cls(
            found,
            Judgement(**verdict),
            (tensors["forward"], tensors["backward"]),
            moved,
            facts["seconds"],
            facts["excess"],
            tuple(facts["seen"]),
            tensors.get("new"),
            tensors.get("nearest"),
        )


def new_bout(
    found: Tensor, inputs: Tensor, verdict: Judgement, calls: tuple[Tensor, Tensor], seconds: float
) -> Bout:
    """Return a bout from points and inputs (k, ...); the judge's passes count as the attack's forward calls."""
    moved: dict[str, Tensor] = {norm: distance(found, inputs, norm) for norm in DISTANCES}
    return Bout(found, verdict, (calls[0] + verdict.draws, calls[1]), moved, seconds)
