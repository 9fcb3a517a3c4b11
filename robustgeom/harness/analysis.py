"""The analyzers on one model: geometry of every stage and logit statistics, clean and attacked."""

from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa
from torch import Tensor

from robustgeom.attacks.pgd import PGD_NORMS
from robustgeom.data.dataset import Dataset
from robustgeom.errors import InputError
from robustgeom.harness.manifolds import Builder
from robustgeom.harness.measuring import Measuring, Missing
from robustgeom.harness.subject import Subject
from robustgeom.harness.suite import Analysis
from robustgeom.logits import per_sample, summary_rows
from robustgeom.records import ANALYZER_COLUMNS, CheckResult
from robustgeom.threat import ThreatModel

__all__ = ["geometry_table", "logit_tables"]


def geometry_table(
    subject: Subject, data: Dataset, threat: ThreatModel, settings: Analysis, *, eot: int, seed: int
) -> tuple[pa.Table, CheckResult]:
    """Return capacity, radius and dimension of class manifolds at every stage, and what could not be measured.

    Clean, and where the threat has a gradient attack also under it.
    """
    builder = Builder(subject, data, threat, points=settings.points, steps=settings.steps, eot=eot, seed=seed)
    measuring = Measuring(features=settings.features, n_t=settings.n_t, seed=seed)
    rows: list[dict[str, object]] = []
    missing: list[Missing] = []
    for kind in ("class", "class-attacked") if threat.norm in PGD_NORMS else ("class",):
        try:
            found, without = measuring.rows(subject, builder.build(kind))
        except InputError as error:
            missing = [("all stages", error)]
            break
        rows += found
        missing += without
    texts = [f"{where}: {error}" for where, error in missing]
    return pa.Table.from_pylist(rows, schema=ANALYZER_COLUMNS), _geometry_check(texts)


def _geometry_check(missing: list[str]) -> CheckResult:
    """Say which stages have no geometry: a stage that is dead or not one tensor must not cost the whole run."""
    text = "every stage was measured" if not missing else "; ".join(missing)
    action = "" if not missing else "name the stages to measure in the model's attribute `stages`"
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
