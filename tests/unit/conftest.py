"""A deterministic builder of small run records."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from robustgeom.records import ANALYZER_COLUMNS, SAMPLE_SCHEMA, Header, RunRecord

GRID = [0.0, 8 / 255, 0.1]
CLASSES = ["boot", "coat", "bag"]
LOGITS = ("max_logit", "logit_gap", "mean_gap", "confidence", "entropy", "margin")


def build_record(
    name: str = "net",
    *,
    clean: Any = (True, True, True, False),
    fooled: dict[str, Any] | None = None,
    grid: Any = GRID,
    headlines: Any = (8 / 255, 0.1),
    norm: str = "linf",
    status: str = "complete",
    checks: Any = (),
    diagnosis: dict[str, Any] | None = None,
    remedies: Any = (),
    data_hash: str = "d" * 64,
    model: dict[str, Any] | None = None,
    tables: dict[str, pa.Table] | None = None,
    arrays: dict[str, Any] | None = None,
) -> RunRecord:
    """Build a record; `fooled`: {attack: per sample, the smallest radius at which it succeeds}."""
    right = np.asarray(clean, dtype=bool)
    ids = [10 + i for i in range(len(right))]
    header = Header(
        status=status,
        created="2026-01-02T03:04:05Z",
        commit="c" * 40,
        dirty=False,
        packages={"robustgeom": "0.1.0"},
        device="cpu",
        model={
            "name": name,
            "reference": name,
            "digest": hashlib.sha256(name.encode()).hexdigest(),
            "parameters": 10,
            "noise": "none",
            "family": "cnn",
            **(model or {}),
        },
        data={
            "name": "toy",
            "split": "test",
            "hash": data_hash,
            "classes": CLASSES,
            "domain": (0.0, 1.0),
            "sample_ids": ids,
        },
        threat={"norm": norm, "grid": list(grid), "headlines": list(headlines)},
        suite={
            "name": "quick-linf",
            "version": 1,
            "digest": "s" * 64,
            "attacks": [{"name": a, "steps": 5} for a in fooled or {}],
        },
        seed=0,
        plan={
            "jobs": [
                {"attack": a, "radius": r, "chunks": [len(ids)]} for a in fooled or {} for r in grid if r > 0
            ],
            **({"checks": diagnosis} if diagnosis else {}),
        },
        arguments={"suite": "quick-linf"},
        resolved={"suite": "quick-linf"},
        checks=list(checks),
        remedies=list(remedies),
        totals={"forward_calls": 8 * len(ids), "backward_calls": 4 * len(ids), "seconds": 1.5},
    )
    rows = list(_sample_rows(ids, right, fooled or {}, grid))
    samples = pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA)
    return RunRecord(header, samples, tables or {}, arrays or {})


def _sample_rows(ids, right, fooled, grid):
    for i, sample in enumerate(ids):
        label = i % 3
        first = label if right[i] else (label + 1) % 3
        yield _sample_row(sample, label, first, "clean", 0.0, first)
        for attack, radii in fooled.items():
            for radius in (r for r in grid if r > 0):
                hit = radii[i] <= radius
                yield _sample_row(
                    sample, label, first, attack, radius, (label + 1) % 3 if hit else first, hit
                )


def _sample_row(sample, label, clean, attack, radius, prediction, hit=False):
    return {
        "sample_id": sample,
        "label": label,
        "attack": attack,
        "radius": radius,
        "clean_prediction": clean,
        "prediction": prediction,
        "margin": -1.0 if prediction != label else 1.0,
        "correct_rate": float(prediction == label),
        "linf": radius,
        "l2": 2 * radius,
        "l1": 3 * radius,
        "success": bool(hit),
        "near_tie": False,
        "forward_calls": 2,
        "backward_calls": 1,
        "seconds": 0.1,
    }


def build_geometry(capacity: dict[str, tuple[Any, Any]], measure: str = "capacity") -> pa.Table:
    """Build an analyzer table from {stage: (clean per manifold, attacked per manifold)}, with aggregates."""
    rows = []
    for stage, pair in capacity.items():
        for condition, values in zip(("clean", "attacked"), pair, strict=True):
            named = {f"class {i}": float(v) for i, v in enumerate(values)}
            rows += [_row(stage, condition, manifold, measure, v) for manifold, v in named.items()]
            rows.append(_row(stage, condition, "all", measure, float(np.mean(values)), se=0.01))
    return pa.Table.from_pylist(rows, schema=ANALYZER_COLUMNS)


def _row(stage, condition, manifold, measure, value, se=float("nan")):
    shape = {"P": 3, "M": 5, "N": 20, "n_t": 100}
    where = {"model": "as recorded", "seed": 0, "stage": stage, "condition": condition, "manifold": manifold}
    return {**where, "measure": measure, "value": value, "se": se, **shape}


def build_logits(clean: Any, attacked: Any) -> pa.Table:
    """Build a logits table whose every measure has these values per sample."""
    rows = []
    for condition, values in (("clean", clean), ("attacked", attacked)):
        for i, value in enumerate(values):
            key = {"model": "as recorded", "seed": 0, "condition": condition, "sample_id": 10 + i}
            rows.append({**key, "label": i % 3, "prediction": i % 3, **{m: float(value) for m in LOGITS}})
    return pa.Table.from_pylist(rows)


@pytest.fixture
def make_record():
    return build_record


@pytest.fixture
def make_geometry():
    return build_geometry


@pytest.fixture
def make_logits():
    return build_logits
