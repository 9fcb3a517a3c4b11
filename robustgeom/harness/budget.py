"""What one evaluation may spend, in seconds or passes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

from robustgeom.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from robustgeom.harness.bout import Bout

__all__ = ["Budget", "BudgetSpent", "parse_budget"]

_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*(s|min|h|passes)\s*")


class BudgetSpent(BaseException):
    """The next pass would go beyond the budget; `fought` holds the finished chunks of the attack under way."""

    fought: list[tuple[Tensor, Bout]]

    def __init__(self) -> None:
        super().__init__("the budget is spent")
        self.fought = []


@dataclass
class Budget:
    """At most so many seconds from now, and so many passes, forward and backward, one a sample and noise draw.

    >>> budget = Budget(passes=10)
    >>> budget.spend(8), budget.used
    (None, 8)
    """

    seconds: float = math.inf
    passes: float = math.inf
    used: int = field(init=False, default=0)
    began: float = field(init=False, default_factory=perf_counter)

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return math.isfinite(min(self.seconds, self.passes))

    def spend(self, passes: int) -> None:
        """Count passes that are about to be made; raises `BudgetSpent` where they would be too many, or time is up."""
        if self.used + passes > self.passes or perf_counter() - self.began > self.seconds:
            raise BudgetSpent
        self.used += passes


def parse_budget(text: str | None) -> Budget:
    """Return the budget that a text such as "90s", "10min", "2h" or "5e5 passes" sets; None sets no limit.

    Raises `InputError` on anything else.

    >>> parse_budget("10min").seconds
    600.0
    """
    if text is None:
        return Budget()
    found = _PATTERN.fullmatch(text) if isinstance(text, str) else None
    amount = float(found[1]) if found else 0.0
    if not found or not 0 < amount < math.inf:
        raise InputError(
            "a budget of seconds or passes", got=repr(text), fix='"10min", "90s" or "500000passes"'
        )
    if found[2] == "passes":
        return Budget(passes=amount)
    return Budget(seconds=amount * _SECONDS[found[2]])
