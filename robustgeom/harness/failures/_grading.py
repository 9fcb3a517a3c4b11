"""How a check's count becomes pass, warn or fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from torch import Tensor

from robustgeom.harness.failures._case import Case
from robustgeom.harness.spec import AttackSpec
from robustgeom.records import CheckResult
from robustgeom.stats import exceeds

__all__ = ["Status", "by_attack", "graded", "more_than_luck", "names", "result"]

Status = Literal["pass", "warn", "fail"]


def result(name: str, status: Status, value: float | None, message: str, action: str) -> CheckResult:
    """Return a check's result; one that passed has no next action."""
    action = "" if status == "pass" else action
    return CheckResult(name=name, status=status, value=value, message=message, action=action)


def names(specs: Iterable[AttackSpec]) -> str:
    """Return the attacks' names, without those of repeats."""
    first: dict[str, str] = {}
    for spec in specs:
        first.setdefault(spec.model_dump_json(exclude={"name"}), spec.name)
    return ", ".join(first.values())


def graded(bad: bool, message: str, unaffected: Iterable[AttackSpec]) -> tuple[Status, str]:
    """Return warn where what is `bad` leaves attacks `unaffected`, fail where not, and the message with their names."""
    left = names(unaffected)
    if not bad:
        return "pass", message
    return ("warn", f"{message}; {left} unaffected") if left else ("fail", message)


def more_than_luck(name: str, count: int, total: int, rate: float, message: str, action: str) -> CheckResult:
    """Return fail where `count` of `total` standing samples are too many for a share `rate` of bad luck."""
    status: Status = "fail" if exceeds(count, total, rate) else "pass"
    return result(name, status, count / max(total, 1), message, action)


def by_attack(
    case: Case,
    name: str,
    rows: Tensor,
    specs: list[AttackSpec],
    misses: Callable[[AttackSpec, Tensor], Tensor],
    rate: float,
    words: tuple[str, str],
    *,
    extra: float = 0.0,
) -> CheckResult | None:
    """Try each attack of the suite on what it should manage; warn where some fail, fail where none is left that works.

    `misses` returns which of the rows (k,) an attack did not manage, at the attack's dearest cost and `extra` passes
    each; `words` are what a miss is, and the next action. None without an attack to try.
    """
    if not specs:
        return None
    some = case.some(rows, sum(case.cost(spec) + extra for spec in specs))
    counts = {spec.name: int(misses(spec, some).sum()) for spec in specs}
    bad = [spec for spec in specs if exceeds(counts[spec.name], len(some), rate)]
    worst = max(counts, key=lambda n: counts[n])
    good = [spec for spec in case.attacks if spec not in bad and spec.attack != "random_search"]
    message = f"{worst} {words[0]} on {counts[worst]} of {len(some)} samples"
    status, message = graded(bool(bad), message, good)
    return result(name, status, counts[worst] / max(len(some), 1), message, words[1])
