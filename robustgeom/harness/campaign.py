"""One attack at one radius, chunk by chunk: each is committed to the journal once it is done, or taken from there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robustgeom.errors import InputError
from robustgeom.harness.bout import Bout
from robustgeom.harness.budget import BudgetSpent
from robustgeom.harness.identity import attack_identity
from robustgeom.harness.journal import Entry
from robustgeom.harness.spec import AttackSpec
from robustgeom.harness.target import PAD, out_of_memory

if TYPE_CHECKING:
    from robustgeom.harness.attacking import Battle

__all__ = ["campaign"]

Fought = list[tuple[Tensor, Bout]]


def campaign(
    battle: Battle, spec: AttackSpec, radius: float, planned: list[Tensor], tick: Callable[[float], None]
) -> Fought:
    """Return the rows and the bout of every chunk in the plan's order; one that ran out of memory is two.

    Where the budget ends it, the exception carries those of the finished chunks. Where other processes work on the same
    journal, first come the chunks that none of them is at.
    """
    kept = battle.journal.folder is not None
    identity = attack_identity(spec, battle.surrogates, battle.data) if kept else ""
    found: dict[int, Fought] = {}
    try:
        for wait in (False, True):
            for index, rows in enumerate(planned):
                if index in found:
                    continue
                key = _key(battle, spec, identity, radius, rows)
                with battle.journal.turn(*key, wait=wait) as mine:
                    if mine:
                        found[index] = _chunk(battle, spec, identity, radius, rows)
                        tick(len(found) / len(planned))
    except BudgetSpent as stop:
        stop.fought = _in_order(found)
        raise
    return _in_order(found)


def _in_order(found: dict[int, Fought]) -> Fought:
    return [pair for index in sorted(found) for pair in found[index]]


def _key(battle: Battle, spec: AttackSpec, identity: str, radius: float, rows: Tensor) -> tuple[object, ...]:
    ids = [battle.data.ids[row] for row in rows.tolist()]
    return ("bout", spec.name, identity, radius, battle.rows_a_pass, *ids)


def _chunk(battle: Battle, spec: AttackSpec, identity: str, radius: float, rows: Tensor) -> Fought:
    key = _key(battle, spec, identity, radius, rows)
    entry = battle.journal.done(*key)
    if entry is None:
        try:
            bout = battle.bout(spec, radius, rows)
        except InputError as error:
            if not out_of_memory(error) or battle.subject.noise == "batch" or battle.rows_a_pass <= PAD:
                raise
            battle.journal.keep(entry := Entry(facts={"halved": True}), *key)
        else:
            battle.journal.keep(bout.entry(battle.worth_keeping(rows, bout)), *key)
            return [(rows, bout)]
    if "halved" in entry.facts:
        return _halves(battle, spec, identity, radius, rows)
    bout = Bout.restored(entry, battle.data.take(rows).inputs)
    battle.budget.spend(int(sum(calls.sum() for calls in bout.calls)))
    battle.take_up(spec, radius, rows, bout)
    return [(rows, bout)]


def _halves(battle: Battle, spec: AttackSpec, identity: str, radius: float, rows: Tensor) -> Fought:
    """Fight on with passes, and a chunk, of half the size."""
    battle.halve(spec, radius)
    if battle.subject.device.type == "cuda":
        torch.cuda.empty_cache()
    middle = (len(rows) + 1) // 2
    parts = [part for part in (rows[:middle], rows[middle:]) if len(part)]
    return [pair for part in parts for pair in _chunk(battle, spec, identity, radius, part)]
