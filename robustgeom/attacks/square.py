"""Square: random search with square patches that shrink; it asks for logits only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustgeom.attacks._losses import margin
from robustgeom.attacks._oracle import Model, Oracle
from robustgeom.attacks._patches import Moves, Patches, patches_for
from robustgeom.attacks._prepare import prepare
from robustgeom.attacks._rows import Rows
from robustgeom.attacks._start import Randomness, resolve
from robustgeom.errors import InputError
from robustgeom.threat import ThreatModel, project

__all__ = ["square"]

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_SCHEDULED = 10_000
_FILLED = 32


@dataclass
class _Best(Rows):
    """The best point of the rows still under attack and its margin, below 0 while they stand."""

    rows: Tensor
    labels: Tensor
    x: Tensor
    margin: Tensor


def square(
    model: Model,
    inputs: Tensor,
    labels: Tensor,
    *,
    threat: ThreatModel,
    queries: int = 5000,
    share: float = 0.8,
    rescale: bool = False,
    eot: int = 1,
    generator: Randomness = None,
) -> Tensor:
    """Return the worst inputs that Square finds from logits alone (Andriushchenko et al. 2020, arXiv:1912.00049).

    inputs: (n, ...) in the threat's domain; labels: (n,) classes; linf and l2. `share` of the input's area is the
    first patch; it halves nine times on a schedule for 10,000 queries, which `rescale` stretches over `queries`. In
    inputs without height and width patches are stretches of the last axis. Where patches go is the same for all
    rows of a call, so with one generator a row the result of a row does not depend on the others. Costs at most
    queries + 1 forward passes a row and draw; fewer where a patch changes
    nothing, some more under 32 rows, as moves are tried ahead to fill the batch.
    Raises `InputError` on inputs outside the domain, NaN, labels that do not fit, counts below 1, and a share
    outside (0, 1].

    >>> model = torch.nn.Linear(4, 2)
    >>> x, y = torch.rand(8, 4), torch.zeros(8, dtype=torch.long)
    >>> adversarial = square(model, x, y, threat=ThreatModel("linf", 0.1), queries=5)
    >>> bool((adversarial - x).abs().max() <= 0.1 + 1e-6)
    True
    """
    inputs, labels = prepare(inputs, labels, threat, norms=("linf", "l2"), queries=queries, eot=eot)
    if not 0 < share <= 1:
        raise InputError("a share in (0, 1]", got=str(share), fix="share=0.8")
    if inputs.numel() == 0:
        return inputs.clone()
    oracle, rows = Oracle(model, eot=eot), torch.arange(len(inputs), device=inputs.device)
    patches = patches_for(inputs, threat, resolve(generator))
    found, start = inputs.clone(), project(patches.start().view_as(inputs), inputs, threat)
    best = _Best(rows, labels, start, _margin(oracle, start, rows, labels, 0))
    index = 0
    while index < queries:
        _retire(best, patches, found, certain=oracle.certain)
        if len(best.rows) == 0:
            return found
        # Few rows do not fill a batch: then the next moves are tried with them, as if none of them will be kept.
        many = max(_FILLED // len(best.rows), 1) if patches.ahead and oracle.certain else 1
        parts = [_part(share, i, queries, rescale) for i in range(index, min(index + many, queries))]
        _try(oracle, best, patches.draw(parts), len(parts), index + 1)
        index += len(parts)
    found[best.rows] = best.x
    return found


def _part(share: float, index: int, queries: int, rescale: bool) -> float:
    """Return the part of the area that the patch of query `index` covers."""
    place = int(index / queries * _SCHEDULED) if rescale else index
    return share * 0.5 ** sum(place > edge for edge in _HALVINGS)


def _margin(oracle: Oracle, x: Tensor, rows: Tensor, labels: Tensor, step: int) -> Tensor:
    return margin(oracle.logits(x, rows, step), labels).nan_to_num(nan=-float("inf"))


def _retire(best: _Best, patches: Patches, found: Tensor, *, certain: bool) -> None:
    """Let fooled rows leave; on a stochastic model none does, as one lucky draw is no success."""
    done = best.margin > 0
    if certain and bool(done.any()):
        found[best.rows[done]] = best.x[done]
        best.keep(~done)
        patches.keep(~done)


def _try(oracle: Oracle, best: _Best, moves: Moves, count: int, step: int) -> None:
    """Make the moves in turn, each from the best point so far; a move stays where it raises the margin.

    All are tried at once; a row that keeps one tries the later ones again, from where it then is.
    """
    turn = torch.zeros_like(best.rows)
    while bool((turn < count).any()):
        which, who = (turn <= torch.arange(count, device=turn.device)[:, None]).nonzero().T
        here = best.x if count == 1 else best.x[who]
        x = moves(here, who, which)
        # A patch on pixels that are there already is no new point, and needs no answer.
        new = (x != here).flatten(1).any(1)
        x, who, which = x[new], who[new], which[new]
        if len(x) == 0:
            return
        value = _margin(oracle, x, best.rows[who], best.labels[who], step)
        better = (value > best.margin[who]).nonzero().squeeze(1)
        first = torch.full_like(turn, count).scatter_reduce(0, who[better], which[better], "amin")
        kept = better[which[better] == first[who[better]]]
        best.x[who[kept]], best.margin[who[kept]] = x[kept], value[kept]
        turn = torch.where(best.margin > 0, count, first + 1)
