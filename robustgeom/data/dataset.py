"""What an evaluation runs on: inputs, labels, sample ids and a content hash."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from robustgeom import checks
from robustgeom.errors import InputError

__all__ = ["Dataset", "balanced_positions", "numbers"]


@dataclass(frozen=True)
class Dataset:
    """Inputs (n, ...) inside `domain`, labels (n,), one id a sample and the names of the classes.

    Waveforms (n, t) have a `rate`, in samples a second. `facts` are what else is known, by name, one value a sample:
    who speaks, how loud the background is. Raises `InputError` where they do not fit together.

    >>> Dataset("toy", "test", torch.zeros(2, 3), torch.tensor([0, 1]), (5, 9), ("a", "b")).hash[:8]
    'e5df4833'
    """

    name: str
    split: str
    inputs: Tensor
    labels: Tensor
    ids: tuple[int, ...]
    classes: tuple[str, ...]
    domain: tuple[float, float] = (0.0, 1.0)
    rate: int | None = None
    facts: Mapping[str, tuple[object, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.inputs(self.inputs, domain=self.domain)
        checks.labels(self.labels, self.inputs, classes=len(self.classes))
        if len(self.inputs) == 0:
            raise InputError("at least one sample", got="none", fix="another split or a larger --n")
        if len(self.ids) != len(self.inputs) or len(set(self.ids)) != len(self.ids):
            raise InputError(
                "one distinct id a sample", got=f"{len(set(self.ids))} distinct ids", fix="range(n)"
            )
        if self.rate is not None and not (
            isinstance(self.rate, int) and self.rate > 0 and self.inputs.dim() == 2
        ):
            got = f"rate {self.rate!r} of inputs {tuple(self.inputs.shape)}"
            raise InputError("a whole rate above 0, of waveforms (n, t)", got=got, fix="rate=8000")
        short = [
            f"{len(values)} of {name}" for name, values in self.facts.items() if len(values) != len(self.ids)
        ]
        if short:
            raise InputError(f"{len(self.ids)} values of every fact", got=short[0], fix="one a sample")
        object.__setattr__(self, "inputs", self.inputs.detach())
        object.__setattr__(self, "labels", self.labels.long())  # what losses and gathers index with

    def __len__(self) -> int:
        return len(self.inputs)

    @cached_property
    def hash(self) -> str:
        """The sha256 of shapes, inputs and labels."""
        digest = hashlib.sha256(f"{tuple(self.inputs.shape)}{self.inputs.dtype}".encode())
        digest.update(self.inputs.contiguous().cpu().numpy().tobytes())
        digest.update(self.labels.to(torch.int64).contiguous().cpu().numpy().tobytes())
        return digest.hexdigest()

    @property
    def counted(self) -> bool:
        """Whether classes are only counted from the labels, so that a model may know of more."""
        return self.classes == numbers(len(self.classes))

    def widened(self, classes: int) -> Dataset:
        """Return the data set with `classes` classes where they are only counted, else as it is."""
        return replace(self, classes=numbers(classes)) if self.counted else self

    def named(self, classes: tuple[str, ...]) -> Dataset:
        """Return the data set with the names that a model has for its classes, where ours are only counted.

        Raises `InputError` where both have the same names in another order.
        """
        if self.counted and len(classes) == len(self.classes):
            return replace(self, classes=classes)
        if classes != self.classes and sorted(classes) == sorted(self.classes):
            first = next(
                i for i, pair in enumerate(zip(classes, self.classes, strict=True)) if pair[0] != pair[1]
            )
            wanted = f"classes in the model's order, with {classes[first]!r} as class {first}"
            raise InputError(wanted, got=repr(self.classes[first]), fix="labels in that order")
        return self

    def take(self, rows: Tensor) -> Dataset:
        """Return the samples at positions `rows` (k,)."""
        places = rows.tolist()
        ids = tuple(self.ids[i] for i in places)
        facts = {name: tuple(values[i] for i in places) for name, values in self.facts.items()}
        return replace(self, inputs=self.inputs[rows], labels=self.labels[rows], ids=ids, facts=facts)

    def balanced(self, n: int) -> Dataset:
        """Return `n` samples with the classes as even as can be, the first of each class, in the original order.

        Raises `InputError` unless 1 <= n <= len(self).
        """
        return self.take(torch.tensor(balanced_positions(self.labels.tolist(), n)))


def numbers(count: int) -> tuple[str, ...]:
    """Return the names of classes that are only counted.

    >>> numbers(3)
    ('0', '1', '2')
    """
    return tuple(map(str, range(count)))


def balanced_positions(labels: Sequence[int], n: int) -> list[int]:
    """Return `n` positions with the classes as even as can be, the first of each class, in the original order.

    Raises `InputError` unless 1 <= n <= len(labels).

    >>> balanced_positions([0, 0, 0, 1, 1], 3)
    [0, 1, 3]
    """
    if not 1 <= n <= len(labels):
        raise InputError(f"1 to {len(labels)} samples", got=str(n), fix=f"--n {len(labels)}")
    seen: Counter[int] = Counter()
    turns = []
    for label in labels:
        turns.append(seen[label])
        seen[label] += 1
    return sorted(sorted(range(len(labels)), key=lambda i: (turns[i], i))[:n])
