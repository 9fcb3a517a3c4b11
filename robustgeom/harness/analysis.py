"""The analyzers on one model: geometry of every stage and logit statistics, clean and attacked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pyarrow as pa
from torch import Tensor

from robustgeom.attacks.pgd import PGD_NORMS
from robustgeom.data.dataset import Dataset
from robustgeom.errors import InputError
from robustgeom.harness.manifolds import Builder
from robustgeom.harness.measuring import Measuring, Missing, notes
from robustgeom.harness.subject import Subject
from robustgeom.harness.suite import Analysis
from robustgeom.logits import per_sample, summary_rows
from robustgeom.records import ANALYZER_COLUMNS, CheckResult
from robustgeom.threat import ThreatModel

__all__ = ["geometry_table", "logit_tables"]


def geometry_table(
    subject: Subject, data: Dataset, threat: ThreatModel, settings: Analysis, *, eot: int, seed: int
) -> tuple[pa.Table, CheckResult]:
    """Return the geometry of class and of perturbation manifolds at every stage, and what could not be measured.

    Classes clean, and where the threat has a gradient attack also under it; then single images under one step of the
    attack and under noise of the same norm.
    """
    common = {"points": settings.points, "steps": settings.steps, "eot": eot, "seed": seed}
    classes = Builder(subject, data, threat, **common)
    versions = replace(classes, points=settings.versions, n_images=settings.images, steps=None)
    measuring = Measuring(features=settings.features, n_t=settings.n_t, seed=seed)
    found: list[dict[str, object]] = []
    missing: list[Missing] = []
    for kind in _kinds(threat.norm, settings.images):
        of_class = kind.startswith("class")
        try:
            manifolds = (classes if of_class else versions).build(kind)
        except InputError as error:
            missing.append(("all stages", error))
            continue
        geometry = ("capacity", "glue") if of_class else ("capacity",)
        rows, without = replace(measuring, geometry=geometry).rows(subject, manifolds)
        found += rows
        missing += without
    return pa.Table.from_pylist(found, schema=ANALYZER_COLUMNS), _geometry_check(notes(missing))


def _kinds(norm: str, images: int) -> tuple[str, ...]:
    if norm not in PGD_NORMS:
        return ("class",)
    return ("class", "class-attacked", *(("attack", "noise") if images > 1 else ()))


def _geometry_check(missing: list[str]) -> CheckResult:
    """Say which stages have no geometry: a stage that is dead or not one tensor must not cost the whole run."""
    text = "every stage was measured" if not missing else "; ".join(missing)
    few = all(line.startswith("all stages: ") for line in missing)
    named = "name the stages to measure in the model's attribute `stages`"
    action = "" if not missing else "evaluate more samples (--n)" if few else named
    status: Literal["pass", "warn"] = "warn" if missing else "pass"
    return CheckResult(name="geometry", status=status, value=float(len(missing)), message=text, action=action)


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
