"""The one way from manifolds of inputs to rows of the analyzer table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from robustgeom.errors import InputError, UserError
from robustgeom.geometry.capture import INPUT, LOGITS, capture
from robustgeom.harness.graph_measures import OF_UNITS
from robustgeom.harness.manifolds import Manifolds
from robustgeom.harness.measures import GEOMETRY, Head
from robustgeom.harness.subject import Subject
from robustgeom.registry import needs_of
from robustgeom.seeds import seed_of

__all__ = ["TOGETHER", "Measuring", "Missing", "notes"]

Missing = tuple[str, UserError]
"""Where something could not be measured, and why."""
TOGETHER = "all stages"
_EQUAL = 1e-6  # of the largest number; single precision tells no more apart after a few layers


def notes(missing: Sequence[Missing]) -> list[str]:
    """Return each reason once, after the places that it holds for.

    >>> same = InputError("more", got="less", fix="some")
    >>> notes([("fc, clean", same), ("fc, noise", same)])
    ['fc, clean; fc, noise: expected more, got less; try some']
    """
    found: dict[str, list[str]] = {}
    for place, error in missing:
        found.setdefault(str(error), []).append(place)
    return [f"{'; '.join(dict.fromkeys(places))}: {text}" for text, places in found.items()]


def _refusal(points: Tensor) -> InputError | None:
    """Return why a stage's outputs (n, features) have no geometry, or None."""
    bad = int(points.isfinite().logical_not().sum())
    if bad:
        return InputError("finite outputs", got=f"{bad} NaN or infinite", fix="finding where they arise")
    spread = (points.amax(0) - points.amin(0)).max()
    if spread <= _EQUAL * points.abs().max():
        return InputError("outputs that differ between samples", got="equal ones", fix="another stage")
    return None


def _of_units(found: dict[str, Tensor]) -> dict[str, Tensor]:
    inside = {name: points for name, points in found.items() if name not in (INPUT, LOGITS)}
    # A part of another stage shows the same units once more.
    whole = [points for name, points in inside.items() if not any(name.startswith(f"{n}.") for n in inside)]
    return {**inside, TOGETHER: torch.cat(whole, dim=1)} if len(whole) > 1 else inside


@dataclass(frozen=True)
class Measuring:
    """What is measured of each stage: `geometry` by name, on `features` directions, with `n_t` probes a manifold.

    Directions and probes follow from the seed, so that networks and conditions meet the same ones.

    >>> from robustgeom.data.load import load_dataset
    >>> from robustgeom.harness.manifolds import class_manifolds
    >>> from robustgeom.harness.subject import subject
    >>> network, data = subject("fmnist-cnn-standard", load_dataset("fashion-mnist", split="eval"))
    >>> rows, missing = Measuring(features=50, n_t=10).rows(network, class_manifolds(data, points=5))
    >>> rows[0]["stage"], rows[0]["measure"], missing
    ('input', 'capacity', [])
    """

    geometry: Sequence[str] = ("capacity",)
    stages: Sequence[str] | None = None
    features: int = 1000
    n_t: int = 200
    seed: int = 0

    def rows(self, subject: Subject, manifolds: Manifolds) -> tuple[list[dict[str, Any]], list[Missing]]:
        """Return the rows of every stage, and what has none: a dead stage must not cost the others.

        A dead stage is left out of all measures: some have a number for it, and a high one.
        """
        found: list[dict[str, Any]] = []
        missing: list[Missing] = []
        for pooled in (False, True):
            names = [name for name in self.geometry if (name in OF_UNITS) == pooled]
            if names:
                rows, without = self._stage_by_stage(names, subject, manifolds, pooled=pooled)
                found += rows
                missing += without
        return found, missing

    def _stage_by_stage(
        self, names: Sequence[str], subject: Subject, manifolds: Manifolds, *, pooled: bool
    ) -> tuple[list[dict[str, Any]], list[Missing]]:
        try:
            stages = self.activations(subject, manifolds, pooled=pooled)
            wanted = any("origin" in needs_of(GEOMETRY[name]) for name in names)
            before = manifolds.origin if wanted and (pooled or manifolds.versions) else None
            origins = {} if before is None else self.activations(subject, before, pooled=pooled)
        except UserError as error:
            return [], [(manifolds.condition, error)]
        found: list[dict[str, Any]] = []
        missing: list[Missing] = []
        for stage, points in stages.items():
            info, place = subject.info, f"{stage}, {manifolds.condition}"
            if (refused := _refusal(points)) is not None:
                missing.append((place, refused))
                continue
            head = Head(model=info.name, seed=info.seed, stage=stage, condition=manifolds.condition)
            for name in names:
                try:
                    found += self._measured(name, points, origins.get(stage), manifolds, head)
                except InputError as error:
                    missing.append((f"{place}, {name}", error))
        return found, missing

    def _measured(
        self, name: str, points: Tensor, origin: Tensor | None, manifolds: Manifolds, head: Head
    ) -> list[dict[str, Any]]:
        function, counts = GEOMETRY[name], list(manifolds.counts)
        given: dict[str, Any] = {}
        if "origin" in needs_of(function):
            if origin is None:
                fix = "attack, noise or translations"
                raise InputError("versions of images, changed", got=manifolds.condition, fix=fix)
            given["origin"] = list(torch.split(origin.double(), counts))
        rows: list[dict[str, Any]] = function(
            list(torch.split(points.double(), counts)),
            names=manifolds.names,
            n_t=self.n_t,
            generator=Generator().manual_seed(seed_of(self.seed, "probes")),
            head=head,
            **given,
        )
        return rows

    def activations(
        self, subject: Subject, manifolds: Manifolds, *, pooled: bool = False
    ) -> dict[str, Tensor]:
        """Return what every stage puts out (n, features at most), under the noise that the manifolds' keys name.

        `pooled`: what units or channels respond (n, units), averaged over positions, stage by stage but for input and
        logits, and of all of these together, without stages that are parts of others.
        """
        keys: list[Sequence[int]] = []

        def batches() -> Iterator[Tensor]:
            for batch in manifolds.batches():
                keys.append(batch.keys)
                yield batch.inputs.to(subject.device)

        def forward(index: int, batch: Tensor) -> Tensor:
            # Past the target's padding, so that each captured row belongs to a sample.
            target = subject.target(keys[index], seed_of(self.seed, "capture"))
            with target.randomness(batch):
                found: Tensor = target.run(batch)
                return found

        found = capture(
            subject.engine,
            batches(),
            stages=self.stages,
            features=self.features,
            seed=seed_of(self.seed, "projection"),
            pooled=pooled,
            forward=forward,
        )
        return _of_units(found) if pooled else found
