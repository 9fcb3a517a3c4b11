"""The model as attacks see it: rows keyed to samples, noise under control, batches padded, calls counted."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from robustgeom import checks
from robustgeom.attacks._oracle import PIECE, pieces
from robustgeom.errors import InputError, UserError
from robustgeom.models.noise import noise_context
from robustgeom.models.variants import SoftGates
from robustgeom.seeds import seed_of

__all__ = ["PAD", "PIECE", "Noise", "Target", "out_of_memory", "row_generators"]

Noise = Literal["keyed", "batch", "none"]
_TEXTS = ("out of memory", "can't allocate memory", "not enough memory")
PAD = 4  # rows; on the CPUs tried, batches of one to three rows are computed by other kernels than all larger ones


def row_generators(ids: Sequence[int], *parts: object) -> list[Generator]:
    """Return one generator a sample, seeded from its id and `parts`, so that no draw depends on the batch."""
    return [Generator().manual_seed(seed_of(*parts, i)) for i in ids]


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or one that it was raised from, says that memory did not suffice.

    >>> out_of_memory(MemoryError())
    True
    """
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if known or any(text in str(error).lower() for text in _TEXTS):
        return True
    return error.__cause__ is not None and out_of_memory(error.__cause__)


@contextmanager
def _global_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators inside a fork, so that the caller's stream is left as it was."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def _for_batch(seed: int, ids: list[int], draws: list[int], device: torch.device) -> Iterator[None]:
    """Seed a network's own randomness for a batch, and its layers of ours, if any, for each sample."""
    with _global_seed(seed_of(seed, ids, draws), device), noise_context(seed, ids, draws):
        yield


@dataclass
class Target:
    """`forward` serving the samples `ids`: callable on all of them, or on some rows through `at`.

    Every batch is a copy, as a forward pass may write into its input, and padded to a multiple of 4 rows,
    because the last bits of a row's logits depend on the batch's shape. Noise is keyed by (seed, sample id,
    draw) for our own noise layers, and by the batch for others.
    `forward_calls` and `backward_calls` (n,) count what each sample cost, one a draw. `exact` is the same in full
    precision, where `forward` is not. `watch` is told of every answer: the inputs (k, ...), rows (k,), logits;
    `meter` of every query before it is made: how many passes it takes. With `early`, a network whose noise layers
    all its paths pass, what lies ahead of the noise runs once for all draws of an input.
    """

    forward: Callable[[Tensor], Tensor]
    ids: Sequence[int]
    noise: Noise
    seed: int
    classes: int | None = None
    rows_a_pass: int = PIECE
    exact: Target | None = None
    watch: Callable[[Tensor, Tensor, Tensor], None] | None = None
    meter: Callable[[int], None] | None = None
    early: bool = False
    forward_calls: Tensor = field(init=False)
    backward_calls: Tensor = field(init=False)
    _asked: int = field(init=False, default=0)
    _spread: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.forward_calls = torch.zeros(len(self.ids), dtype=torch.int64)
        self.backward_calls = torch.zeros(len(self.ids), dtype=torch.int64)

    @property
    def piece(self) -> int:
        """How many rows to ask for at once; noise that is drawn for a whole batch needs the batch to stay whole."""
        return self.rows_a_pass if self.noise != "batch" else 1 << 40

    @property
    def deterministic(self) -> bool:
        """Whether one draw says it all."""
        return self.noise == "none"

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits of all samples, on a fresh noise draw each time: draw 0, then 1, ..."""
        if len(x) != len(self.ids):
            raise InputError(
                f"{len(self.ids)} rows, one a sample", got=str(len(x)), fix="model.at(rows, draws)(x[rows])"
            )
        self._asked += 1
        rows = torch.arange(len(self.ids))
        return self._watched(x, rows, torch.full_like(rows, self._asked - 1))

    def narrowed(self, share: float) -> Target:
        """Return the target that an attack meets `share` of its way along: with narrower gates, if it has soft ones."""
        if not isinstance(self.forward, SoftGates):
            return self
        found = copy.copy(self)  # and not `replace`: what it costs is counted here
        found.forward = self.forward.narrowed(share)
        return found

    def at(self, rows: Tensor, draws: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the callable that serves `rows` (k,) with the noise `draws` (k,)."""
        return lambda x: self._watched(x, rows, draws)

    def repeated(self, rows: Tensor, draws: Tensor, owners: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the callable that serves `rows` (k,) with `draws` (k,) of inputs (j, ...).

        owners: (k,), ascending: which of the inputs each row repeats.
        """
        return lambda x: self._watched(x, rows, draws, owners)

    def _watched(self, x: Tensor, rows: Tensor, draws: Tensor, owners: Tensor | None = None) -> Tensor:
        logits = self.query(x, rows, draws, owners)
        if self.watch is not None:
            seen = x.detach() if owners is None else x.detach()[owners]
            self.watch(seen, rows, logits.detach())
        return logits

    def any_rows(self, x: Tensor) -> Tensor:
        """Return the logits of inputs (k, ...) of no sample in particular; their cost is spread over all samples.

        For attacks of other libraries, which do not say whose rows they send. Raises `InputError` where the model
        is noisy: its noise is drawn for a sample.
        """
        if not self.deterministic or not len(self.ids):
            got = f"{self.noise} noise" if len(self.ids) else "no samples"
            raise InputError(
                "a deterministic model and samples", got=got, fix="an attack of robustgeom's own"
            )
        rows = (torch.arange(len(x)) + self._spread) % len(self.ids)
        self._spread = (self._spread + len(x)) % len(self.ids)
        return self.query(x, rows, torch.zeros_like(rows))

    def query(self, x: Tensor, rows: Tensor, draws: Tensor, owners: Tensor | None = None) -> Tensor:
        """Return checked logits (k, classes) of inputs (k, ...), or of inputs (j, ...) that `owners` (k,) repeat."""
        if owners is not None and not (self.early and len(owners)):
            x, owners = x[owners], None
        rows, draws = rows.cpu(), draws.cpu()
        once = torch.ones(len(rows), dtype=torch.int64)
        backward = x.requires_grad and torch.is_grad_enabled()
        if self.meter is not None:
            self.meter(len(rows) * (1 + backward))
        self.forward_calls.index_add_(0, rows, once)
        if backward:
            self.backward_calls.index_add_(0, rows, once)
        return self._in_pieces(x, rows, draws, owners)

    def _in_pieces(self, x: Tensor, rows: Tensor, draws: Tensor, owners: Tensor | None) -> Tensor:
        parts = pieces(len(rows), self.piece)
        try:
            logits = [self._query(*_part(x, owners, p), rows[p], draws[p]) for p in parts]
        except InputError as error:
            # A pass for a gradient holds on to its memory; there the attack has to begin again with fewer samples.
            wanted = x.requires_grad and torch.is_grad_enabled()
            if wanted or self.noise == "batch" or self.rows_a_pass <= PAD or not out_of_memory(error):
                raise
            self.rows_a_pass = max(self.rows_a_pass // 2, PAD)
            return self._in_pieces(x, rows, draws, owners)
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    def _query(self, x: Tensor, owners: Tensor | None, rows: Tensor, draws: Tensor) -> Tensor:
        extra = -len(rows) % PAD
        if owners is not None and len(x) + PAD > len(rows) + extra:
            x, owners = x[owners], None  # nothing to share, or as many rows as inputs
        padded, owned = _padded(x), None
        if owners is not None:
            owned = torch.cat([owners, owners[-1:].expand(extra)])
        with self._padded_randomness(rows, draws, extra, x.device, owned):
            logits = checks.logits(self.run(padded), rows=len(rows) + extra, classes=self.classes)
        if padded.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
            # Logits cut off from the input: a gradient of zero, for the failure checks to find.
            pull = 0 * padded.flatten(1).sum(1, keepdim=True)
            logits = logits + (pull if owned is None else pull[owned])
        return logits[: len(rows)]

    def _padded_randomness(
        self, rows: Tensor, draws: Tensor, extra: int, device: torch.device, owners: Tensor | None
    ) -> AbstractContextManager[None]:
        if self.noise == "none":
            return nullcontext()
        ids, keys = [self.ids[i] for i in rows.tolist()], draws.tolist()
        ids, keys = [*ids, *ids[-1:] * extra], [*keys, *keys[-1:] * extra]
        return self._randomness(ids, keys, device, owners)

    def run(self, x: Tensor) -> Any:
        """Return whatever the model makes of `x` as it is; raises `InputError` where the model raises."""
        try:
            return self.forward(x)
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            got = f"{type(error).__name__}: {error}"
            if out_of_memory(error):
                raise InputError("memory for a batch", got=got, fix="a smaller --batch-size") from error
            shape = ", ".join(map(str, x.shape[1:]))
            fix = "mending it, or a model for this data"
            raise InputError(f"a model that takes inputs (n, {shape})", got=got, fix=fix) from error

    def randomness(self, x: Tensor) -> AbstractContextManager[None]:
        """Return the context in which a pass over all samples (n, ...) draws noise 0, unpadded."""
        return self._randomness(list(self.ids), [0] * len(self.ids), x.device)

    def _randomness(
        self, ids: list[int], draws: list[int], device: torch.device, owners: Tensor | None = None
    ) -> AbstractContextManager[None]:
        if self.noise == "keyed":
            return noise_context(self.seed, ids, draws, owners)
        if self.noise == "batch":
            return _for_batch(self.seed, ids, draws, device)
        return nullcontext()


def _padded(x: Tensor) -> Tensor:
    """Return a copy of inputs (n, ...) with the last one repeated up to a multiple of 4 rows."""
    extra = -len(x) % PAD
    return torch.cat([x, x[-1:].detach().expand(extra, *x.shape[1:])]) if extra else x.clone()


def _part(x: Tensor, owners: Tensor | None, rows: slice) -> tuple[Tensor, Tensor | None]:
    """Return the inputs that some rows repeat, and which of them each of those rows repeats."""
    if owners is None:
        return x[rows], None
    first, last = int(owners[rows.start]), int(owners[min(rows.stop, len(owners)) - 1])
    return x[first : last + 1], owners[rows] - first
