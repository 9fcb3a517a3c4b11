"""What the RobustBench leaderboard says of its models; needs no package."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustgeom.errors import unknown

__all__ = ["Figures", "figures_table", "robustbench_figures"]


@dataclass(frozen=True)
class Figures:
    """What the leaderboard says of a model: accuracies between 0 and 1, None where it has none.

    `external` is a better attack's figure, where one is known; `unreliable` means that the maintainers do not trust
    AutoAttack here.
    """

    eps: str | None
    clean: float
    autoattack: float | None
    external: float | None
    corruptions: float | None
    unreliable: bool

    @property
    def best(self) -> float | None:
        """The robust accuracy that the leaderboard ranks by."""
        return self.autoattack if self.external is None else self.external


def robustbench_figures(name: str, dataset: str = "cifar10", threat: str = "Linf") -> Figures:
    """Return the leaderboard's figures of the model `name`, as of 2025-03-31, in fractions.

    The package on the registry does not carry them, so they are a snapshot of its repository (arXiv:2010.09670).
    Raises `UnknownNameError` with the closest names.

    >>> robustbench_figures("Carmon2019Unlabeled").autoattack
    0.5953
    """
    tables = figures_table()
    if f"{dataset}/{threat}" not in tables:
        raise unknown("leaderboard", f"{dataset}/{threat}", tables)
    table = tables[f"{dataset}/{threat}"]
    if name not in table:
        raise unknown(f"entry of {dataset}/{threat}", name, table)
    eps, clean, *percent, unreliable = table[name]
    autoattack, external, corruptions = (None if p is None else round(p / 100, 6) for p in percent)
    return Figures(eps, round(clean / 100, 6), autoattack, external, corruptions, unreliable)


@functools.cache
def figures_table() -> dict[str, dict[str, list[Any]]]:
    """Return the snapshot: by "DATASET/THREAT" and name eps, then percent clean, AutoAttack, external, corruptions."""
    text = Path(__file__).with_name("robustbench_figures.json").read_text(encoding="utf-8")
    tables: dict[str, dict[str, list[Any]]] = json.loads(text)["figures"]
    return tables
