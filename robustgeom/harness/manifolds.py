"""Manifolds to measure: classes and other groups of samples, and many versions of single samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustgeom.data.dataset import Dataset
from robustgeom.errors import InputError, unknown
from robustgeom.harness.perturb import Attack, Change, Relight, SameNorm, Shift, View
from robustgeom.harness.plan import chunks
from robustgeom.harness.subject import Subject
from robustgeom.seeds import seed_of
from robustgeom.threat import ThreatModel

__all__ = [
    "KINDS",
    "NOISY",
    "THREATENED",
    "Batch",
    "Builder",
    "Column",
    "Manifolds",
    "class_manifolds",
    "grouped",
]

NOISY = ("frozen-noise", "frozen-perturbation", "own-noise")
"""Kinds that need a network with noise."""
THREATENED = ("attack", "class-attacked", "class-noise", "frozen-noise", "frozen-perturbation", "noise")
"""Kinds that need a threat."""
Column = Sequence[Any] | Tensor | NDArray[Any]
WIDE = 0.5  # of a side, the translation task of arXiv:2312.02791
CONTRAST = 0.5  # brightness and contrast change by half of themselves at most, as there
_FROZEN = 0  # the key that all rows share


@dataclass(frozen=True)
class Batch:
    """Inputs (b, ...) and the b keys that their noise is drawn for: rows of one key meet the same draw."""

    inputs: Tensor
    keys: Sequence[int]


@dataclass(frozen=True)
class Manifolds:
    """P point manifolds, `counts[i]` points of the one called `names[i]`, one manifold after the other.

    `batches()` makes all points anew, in order, a batch at a time; `condition` says what was done to them. `origin` are
    the same points before that, row by row and draw by draw; None where there are none. `versions`: a manifold is the
    versions of one sample.
    """

    condition: str
    names: tuple[str, ...]
    counts: tuple[int, ...]
    batches: Callable[[], Iterator[Batch]]
    origin: Manifolds | None = None
    versions: bool = False


def grouped(
    data: Dataset,
    labels: Column,
    *,
    named: Callable[[Any], str] = str,
    points: int = 50,
    condition: str = "clean",
    change: Change | None = None,
    batch_size: int = 128,
) -> Manifolds:
    """Return one manifold for each value of a label column (n,): its first `points` samples, right or wrong.

    So every network is measured on the same samples, and any column groups them: class, pose, word, speaker. `named`
    gives a value's name, `change` is applied batch by batch. Groups of one sample are left out. Raises
    `InputError` where fewer than two groups are left, or labels do not fit.

    >>> data = Dataset("d", "test", torch.rand(4, 2), torch.tensor([0, 1, 0, 1]), (5, 6, 7, 8), ("a", "b"))
    >>> grouped(data, ["left", "left", "right", "right"]).names
    ('left', 'right')
    """
    column = labels.tolist() if isinstance(labels, Tensor | np.ndarray) else list(labels)
    if np.ndim(labels) != 1 and isinstance(labels, Tensor | np.ndarray):
        raise InputError("one label a sample", got=f"shape {tuple(labels.shape)}", fix="a column")
    if len(column) != len(data):
        raise InputError(f"{len(data)} labels, one a sample", got=str(len(column)), fix="labels of this data")
    found = _places(column, points)
    if len(found) < 2:
        got = f"{len(found)} of {len(set(column))} groups"
        raise InputError("two samples or more of two groups or more", got=got, fix="more samples")
    images = data.take(torch.tensor([row for rows in found.values() for row in rows]))

    def batches() -> Iterator[Batch]:
        for rows in chunks(torch.arange(len(images)), batch_size):
            part = images.take(rows)
            yield Batch(part.inputs if change is None else change(part), part.ids)

    return Manifolds(condition, tuple(map(named, found)), tuple(map(len, found.values())), batches)


def _places(column: list[Any], points: int) -> dict[Any, list[int]]:
    """Return the first positions of each value, values in order, without those that occur once."""
    found: dict[Any, list[int]] = {}
    for place, value in enumerate(column):
        found.setdefault(value, []).append(place)
    ordered = sorted(found, key=lambda v: (not isinstance(v, int), v if isinstance(v, int) else 0, str(v)))
    return {value: found[value][:points] for value in ordered if len(found[value]) > 1}


def class_manifolds(
    data: Dataset,
    *,
    points: int = 50,
    condition: str = "clean",
    change: Change | None = None,
    batch_size: int = 128,
) -> Manifolds:
    """Return the manifolds of the data's classes; otherwise as `grouped`.

    >>> data = Dataset("d", "test", torch.rand(4, 2), torch.tensor([0, 1, 0, 1]), (5, 6, 7, 8), ("a", "b"))
    >>> class_manifolds(data).counts
    (2, 2)
    """
    return grouped(
        data,
        data.labels,
        named=data.classes.__getitem__,
        points=points,
        condition=condition,
        change=change,
        batch_size=batch_size,
    )


@dataclass(frozen=True)
class Builder:
    """Makes manifolds of any kind for one network.

    Which samples are taken and what is drawn for them follows from data, seed and settings, not from the network:
    networks are compared on the same images under the same draws. Perturbation manifolds are `points` versions of
    each of `n_images` samples, classes balanced. `steps` of the attack is 1 for those and 20 for classes where it is
    None; `eot` noise draws make a gradient; `shift` is the largest share of a side that a translation moves by.

    >>> from robustgeom.data.load import load_dataset
    >>> from robustgeom.harness.subject import subject
    >>> network, data = subject("fmnist-cnn-standard", load_dataset("fashion-mnist", split="eval"))
    >>> found = Builder(network, data, points=10, n_images=5).build("translations")
    >>> found.counts, sum(len(batch.inputs) for batch in found.batches())
    ((10, 10, 10, 10, 10), 50)
    """

    subject: Subject
    data: Dataset
    threat: ThreatModel | None = None
    points: int = 50
    n_images: int = 50
    steps: int | None = None
    eot: int = 8
    shift: float = 0.1
    seed: int = 0
    batch_size: int = 128

    def build(self, kind: str) -> Manifolds:
        """Return the manifolds of a kind in `KINDS`.

        Raises `UnknownNameError` on another, and `InputError` on one that needs noise or a threat where there is none.
        """
        if kind not in KINDS:
            raise unknown("kind of manifold", kind, KINDS)
        if kind in NOISY and self.subject.noise == "none":
            raise InputError(
                f"a network with noise for {kind} manifolds", got="one without", fix="other manifolds"
            )
        if kind in THREATENED and self.threat is None:
            raise InputError(f"a threat for {kind} manifolds", got="none", fix='ThreatModel("linf", "8/255")')
        return KINDS[kind](self)

    def steps_of(self, kind: str) -> int:
        """Return the steps of the attack in a kind of manifold."""
        return self.steps or (20 if kind.startswith("class") else 1)

    def attack(self, kind: str) -> Attack:
        """Return the attack in a kind of manifold."""
        assert self.threat is not None
        return Attack(self.subject, self.threat, self.steps_of(kind), self.eot, self.seed)

    def classes(self, condition: str, change: Change | None) -> Manifolds:
        """Return class manifolds under a change; where there is one, with the unchanged ones as their origin."""
        found = class_manifolds(
            self.data, points=self.points, condition=condition, change=change, batch_size=self.batch_size
        )
        return found if change is None else replace(found, origin=self.classes("clean", None))

    def versions(
        self,
        condition: str,
        change: Change | None = None,
        *,
        first: Change | None = None,
        frozen: bool = False,
    ) -> Manifolds:
        """Return the manifold of each image's versions, all under one noise draw where `frozen`, else one draw each.

        `first` is applied once to each image, `change` to each version.
        """
        images = self.data.balanced(min(self.n_images, len(self.data)))
        count = len(images) * self.points

        def batches() -> Iterator[Batch]:
            origins = images if first is None else _changed(images, first, self.batch_size)
            for rows in chunks(torch.arange(count), self.batch_size):
                part = _version(origins, rows // self.points, rows % self.points)
                inputs = part.inputs if change is None else change(part)
                yield from self._keyed(inputs, part.ids, frozen)

        names = [f"{images.classes[y]} {i}" for y, i in zip(images.labels.tolist(), images.ids, strict=True)]
        changed = change is not None or first is not None
        origin = self.versions(f"{condition}, unchanged", frozen=frozen) if changed else None
        counts = (self.points,) * len(images)
        return Manifolds(condition, tuple(names), counts, batches, origin, versions=True)

    def _keyed(self, inputs: Tensor, keys: Sequence[int], frozen: bool) -> Iterator[Batch]:
        if not frozen:
            yield Batch(inputs, keys)
        elif self.subject.noise == "keyed":
            yield Batch(inputs, [_FROZEN] * len(inputs))
        else:  # noise that is drawn for the batch is the same for two rows only in batches of one
            yield from (Batch(row, [_FROZEN]) for row in torch.split(inputs, 1))


def _version(images: Dataset, rows: Tensor, versions: Tensor) -> Dataset:
    """Return copies (k, ...) of the images at `rows`, each with an id of its own."""
    pairs = zip(rows.tolist(), versions.tolist(), strict=True)
    ids = tuple(seed_of(images.ids[row], "version", version) for row, version in pairs)
    return replace(images, inputs=images.inputs[rows], labels=images.labels[rows], ids=ids, facts={})


def _changed(images: Dataset, change: Change, batch_size: int) -> Dataset:
    """Return the images with their version 0 in place of their inputs."""
    parts = chunks(torch.arange(len(images)), batch_size)
    inputs = [change(_version(images, rows, torch.zeros_like(rows))) for rows in parts]
    return replace(images, inputs=torch.cat(inputs))


KINDS: dict[str, Callable[[Builder], Manifolds]] = {
    "class": lambda b: b.classes("clean", None),
    "class-attacked": lambda b: b.classes("attacked", b.attack("class-attacked")),
    "class-noise": lambda b: b.classes("noisy", SameNorm(b.attack("class-noise"))),
    "attack": lambda b: b.versions("attack", b.attack("attack")),
    "noise": lambda b: b.versions("noise", SameNorm(b.attack("noise"))),
    "own-noise": lambda b: b.versions("own-noise"),
    "frozen-noise": lambda b: b.versions("frozen-noise", b.attack("frozen-noise"), frozen=True),
    "frozen-perturbation": lambda b: b.versions("frozen-perturbation", first=b.attack("frozen-perturbation")),
    "translations": lambda b: b.versions("translations", Shift(b.shift, b.seed)),
    "wide-translations": lambda b: b.versions("wide-translations", Shift(WIDE, b.seed)),
    "contrasts": lambda b: b.versions("contrasts", Relight(CONTRAST, b.seed)),
    "views": lambda b: b.versions("views", View(b.seed)),
}
"""What `robustgeom analyze --manifolds` takes."""
