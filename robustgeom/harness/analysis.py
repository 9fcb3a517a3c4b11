"""The analyzers on one model: geometry of every stage and logit statistics, clean and attacked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import pyarrow as pa
import torch
from torch import Generator, Tensor

from robustgeom.attacks.pgd import PGD_NORMS, pgd
from robustgeom.data.dataset import Dataset
from robustgeom.errors import InputError, UserError
from robustgeom.geometry import capacity_rows, capture, mean_field_capacity
from robustgeom.harness.plan import chunks
from robustgeom.harness.subject import Subject
from robustgeom.harness.suite import Analysis
from robustgeom.harness.target import Target, row_generators, seed_of
from robustgeom.logits import per_sample, summary_rows
from robustgeom.records import ANALYZER_COLUMNS, CheckResult
from robustgeom.threat import ThreatModel

__all__ = ["class_manifolds", "geometry_table", "logit_tables"]

_BATCH = 128


def class_manifolds(data: Dataset, points: int) -> tuple[Dataset, list[int]] | None:
    """Return the first `points` samples of each class, sorted by class, and the count of each class.

    Right or wrong, so that every model is measured on the same images. Classes with fewer than two samples are
    left out; None where fewer than two classes are left.
    """
    found = [(data.labels == c).nonzero().squeeze(1)[:points] for c in range(len(data.classes))]
    kept = [rows for rows in found if len(rows) > 1]
    return (data.take(torch.cat(kept)), [len(rows) for rows in kept]) if len(kept) > 1 else None


def geometry_table(
    subject: Subject, data: Dataset, threat: ThreatModel, settings: Analysis, *, eot: int, seed: int
) -> tuple[pa.Table, CheckResult]:
    """Return capacity, radius and dimension of class manifolds at every stage, and what could not be measured.

    The attack is PGD on the margin with every sample at the full radius for all steps, fooled or not: the
    manifolds then differ by one treatment, not by when each sample fell.
    """
    found = class_manifolds(data, settings.points)
    if found is None:
        nothing = pa.Table.from_pylist([], schema=ANALYZER_COLUMNS)
        return nothing, _geometry_check(["all stages: two samples of two classes are needed"])
    images, counts = found
    names = [data.classes[int(images.labels[i])] for i in _starts(counts)]
    rows: list[dict[str, object]] = []
    missing: list[str] = []
    conditions = ("clean", "attacked") if threat.norm in PGD_NORMS else ("clean",)
    for condition in conditions:
        try:
            clean = condition == "clean"
            x = images.inputs if clean else _attacked(subject, images, threat, settings, eot, seed)
            stages = _activations(subject, images, x, settings.features, seed)
        except UserError as error:
            missing.append(f"{condition}: {error}")
            continue
        for stage, activations in stages.items():
            generator = Generator().manual_seed(seed_of(seed, "probes"))
            manifolds = list(torch.split(activations.double(), counts))
            try:
                result = mean_field_capacity(manifolds, n_t=settings.n_t, generator=generator)
            except InputError as error:
                missing.append(f"{stage}, {condition}: {error}")
                continue
            info = subject.info
            rows += capacity_rows(
                result, model=info.name, seed=info.seed, stage=stage, condition=condition, names=names
            )
    return pa.Table.from_pylist(rows, schema=ANALYZER_COLUMNS), _geometry_check(missing)


def _geometry_check(missing: list[str]) -> CheckResult:
    """Say which stages have no geometry: a stage that is dead or not one tensor must not cost the whole run."""
    text = "every stage was measured" if not missing else "; ".join(missing)
    action = "" if not missing else "name the stages to measure in the model's attribute `stages`"
    status: Literal["pass", "warn"] = "warn" if missing else "pass"
    return CheckResult(name="geometry", status=status, value=float(len(missing)), message=text, action=action)


def _starts(counts: list[int]) -> list[int]:
    return [sum(counts[:i]) for i in range(len(counts))]


def _attacked(
    subject: Subject, images: Dataset, threat: ThreatModel, settings: Analysis, eot: int, seed: int
) -> Tensor:
    found = []
    for rows in chunks(torch.arange(len(images)), _BATCH):
        part, key = images.take(rows), seed_of(seed, "analysis")
        found.append(
            pgd(
                Target(subject.forward, part.ids, subject.noise, key, classes=len(images.classes)),
                part.inputs.to(subject.device),
                part.labels.to(subject.device),
                threat=threat,
                steps=settings.steps,
                loss="margin",
                eot=eot,
                stop_when_fooled=False,
                generator=row_generators(part.ids, key),
            ).cpu()
        )
    return torch.cat(found)


def _activations(subject: Subject, images: Dataset, x: Tensor, features: int, seed: int) -> dict[str, Tensor]:
    """Capture every stage under one noise draw a sample, the same for clean and attacked."""
    planned = chunks(torch.arange(len(images)), _BATCH)
    targets = [
        Target(subject.forward, images.take(rows).ids, subject.noise, seed_of(seed, "capture"))
        for rows in planned
    ]

    def batches() -> Iterable[Tensor]:
        return (x[rows].to(subject.device) for rows in planned)

    def forward(index: int, batch: Tensor) -> Tensor:
        # Past the target's padding, so that each captured row belongs to a sample.
        with targets[index].randomness(batch):
            found: Tensor = targets[index].run(batch)
            return found

    return capture(
        subject.engine, batches(), features=features, seed=seed_of(seed, "projection"), forward=forward
    )


def logit_tables(subject: Subject, data: Dataset, log_p: dict[str, Tensor]) -> tuple[pa.Table, pa.Table]:
    """Return per-sample logit measures and their summary; `log_p` maps conditions to (n, classes)."""
    info = subject.info
    samples: list[pa.Table] = []
    summary: list[dict[str, object]] = []
    for condition, values in log_p.items():
        columns: dict[str, Any] = {
            "model": [info.name] * len(data),
            "seed": [info.seed] * len(data),
            "condition": [condition] * len(data),
            "sample_id": list(data.ids),
            "label": data.labels.tolist(),
            "prediction": values.argmax(1).tolist(),
        }
        columns.update({name: v.tolist() for name, v in per_sample(values, data.labels).items()})
        samples.append(pa.table(columns))
        summary += summary_rows(values, data.labels, model=info.name, seed=info.seed, condition=condition)
    return pa.concat_tables(samples), pa.Table.from_pylist(summary, schema=ANALYZER_COLUMNS)
