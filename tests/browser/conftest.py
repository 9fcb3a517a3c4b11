"""A report page with every kind of section, and the system's Chromium to look at it."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow as pa
import pytest
from playwright.sync_api import sync_playwright

from robustgeom.records import ANALYZER_COLUMNS, SAMPLE_SCHEMA, CheckResult, Header, RemedyResult, RunRecord
from robustgeom.report import CLAIMS, compare, write_report

N = 60
GRID = [0.0, 2 / 255, 8 / 255, 0.1]
STAGES = ["conv1", "block1", "block2", "logits"]
LOGITS = ("max_logit", "logit_gap", "mean_gap", "confidence", "entropy", "margin")


def _header(name, status, model):
    info = {
        "name": name,
        "reference": name,
        "digest": "m" * 64,
        "parameters": 9,
        "noise": "none",
        "stages": STAGES,
    }
    checks = [
        CheckResult(
            name="masked-gradients", status="fail", value=0.6, message="60 % are zero", action="soft-gates"
        ),
        CheckResult(
            name="convergence", status="warn", value=0.03, message="still falling", action="more steps"
        ),
    ]
    return Header(
        status=status,
        created="2026-01-02T03:04:05Z",
        commit="c" * 40,
        dirty=True,
        packages={"robustgeom": "0.1.0"},
        device="cpu",
        model=info | model,
        data={
            "name": "toy",
            "split": "test",
            "hash": "d" * 64,
            "classes": ["boot", "coat", "bag"],
            "domain": (0.0, 1.0),
            "sample_ids": list(range(N)),
        },
        threat={"norm": "linf", "grid": GRID, "headlines": GRID[2:]},
        suite={"name": "quick-linf", "version": 1, "digest": "s" * 64, "attacks": [{"name": "pgd"}]},
        seed=0,
        plan={"chunk": 32},
        arguments={"suite": "quick-linf"},
        resolved={"suite": "quick-linf"},
        checks=[*(checks if status != "complete" else checks[1:]), *_passed()],
        remedies=[RemedyResult(attack="pgd", radius=0.1, answers=["convergence"], before=9, after=8)],
        totals={"forward_calls": 40 * N, "backward_calls": 20 * N, "seconds": 2.0},
    )


def _passed():
    text = "gradients of another network fool 0 of 128 samples that survived the suite at linf 0.1"
    return [
        CheckResult(name=f"check number {i}", status="pass", value=i / 7, message=text) for i in range(18)
    ]


def _samples(rng, scale):
    breaks = rng.exponential(scale, N)
    rows = []
    for i in range(N):
        for attack, radius in [("clean", 0.0), *(("pgd", r) for r in GRID[1:])]:
            hit = attack == "pgd" and bool(breaks[i] <= radius)
            row = {
                "sample_id": i,
                "label": i % 3,
                "attack": attack,
                "radius": radius,
                "clean_prediction": i % 3,
            }
            row |= {
                "prediction": (i + hit) % 3,
                "margin": 0.0,
                "correct_rate": 1.0,
                "linf": radius,
                "l2": 0.0,
                "l1": 0.0,
            }
            row |= {
                "success": hit,
                "near_tie": False,
                "forward_calls": 1,
                "backward_calls": 1,
                "seconds": 0.1,
            }
            rows.append(row)
    return pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA)


def _geometry(drop):
    rows = []
    for measure, size in (("capacity", 0.3), ("radius", 1.0), ("dimension", 20.0)):
        for i, stage in enumerate(STAGES):
            for condition, share in (("clean", 1.0), ("attacked", 1 - drop * i / 3)):
                for manifold in ("boot", "coat", "bag", "all"):
                    row = {
                        "model": "",
                        "seed": 0,
                        "stage": stage,
                        "condition": condition,
                        "manifold": manifold,
                    }
                    row |= {"measure": measure, "value": size * share * (1 + i), "se": 0.01, "P": 3, "M": 20}
                    rows.append(row | {"N": 100, "n_t": 200})
    return pa.Table.from_pylist(rows, schema=ANALYZER_COLUMNS)


def _logits(rng, scale):
    rows = []
    for condition, shift in (("clean", 1.0), ("attacked", 0.4)):
        for i, value in enumerate(rng.gamma(3, scale * shift, N)):
            row = {
                "model": "",
                "seed": 0,
                "condition": condition,
                "sample_id": i,
                "label": i % 3,
                "prediction": 0,
            }
            rows.append(row | dict.fromkeys(LOGITS, float(value)))
    return pa.Table.from_pylist(rows)


def _record(name, seed, scale, *, status="complete", **model):
    rng = np.random.default_rng(seed)
    clean = rng.random((4, 3, 12, 12)).astype(np.float32)
    arrays = {"clean": clean, "adversarial": np.clip(clean + 0.1, 0, 1), "sample_ids": np.arange(4)}
    arrays |= {"labels": np.arange(4) % 3, "predictions": (np.arange(4) + 1) % 3}
    tables = {"geometry": _geometry(0.8 if seed % 2 else 0.2), "logits": _logits(rng, 1 + seed)}
    named = {f"examples.{key}": value for key, value in arrays.items()}
    return RunRecord(_header(name, status, model), _samples(rng, scale), tables, named)


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    records = [
        _record("standard", 1, 0.01),
        _record("trained", 2, 0.3, threat="linf-0.1"),
        _record(
            "a_defense_with_a_rather_long_name_that_does_not_break.py:build_model",
            3,
            0.5,
            status="interrupted",
        ),
        _record("<img src=x onerror=alert(1)>", 4, 0.1, rho=3.0),
    ]
    folder = tmp_path_factory.mktemp("report")
    return write_report(compare(records, claims=CLAIMS), folder / "report.html")


@pytest.fixture(scope="session")
def chromium():
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium on PATH; install the system's chromium to look at pages")
    with sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()
